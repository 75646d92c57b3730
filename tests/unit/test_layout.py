"""The tests themselves: they mirror the package and reach nothing private."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE, TESTS = ROOT / "lmaczs", ROOT / "tests"
UNTESTED = {
    "cli/__main__.py": "one call of `main`, run by the processes of test_cli.py",
}
NOT_MIRRORED = {
    "cli/test_cli.py": "lmaczs/cli/__init__.py",
    "test_layout.py": "the tests",
}

# How torch lets a subclass of Tensor, or a mode, see every operation.
TORCH_DISPATCH = {"_python_dispatch", "_pytree", "_make_wrapper_subclass", "_schema"}

# How a notebook shows an object, and how a forked process ends.
OTHERS = {"_repr_html_", "_exit"}


def is_private(name: str) -> bool:
    """One leading underscore or two, but no magic name."""
    return name.startswith("_") and not name.endswith("__")


def private_names() -> set[str]:
    """Functions, classes, variables and attributes that lmaczs keeps to itself."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    found.add(name)
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    found.add(name)
    return {name for name in found if is_private(name) and name != "_"}


def private_uses(path: Path, private: set[str]) -> Iterator[str]:
    """Private imports and attributes in a file, and strings that name one."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    pieces = [n.values for n in nodes if isinstance(n, ast.JoinedStr)]
    in_f_strings = {id(piece) for values in pieces for piece in values}
    for node in nodes:
        names: list[str] = []
        match node:
            case ast.Attribute(attr=name):
                names = [name]
            case ast.Import(names=aliases):
                names = [part for a in aliases for part in a.name.split(".")]
            case ast.ImportFrom(module=module, names=aliases):
                names = (module or "").split(".") + [alias.name for alias in aliases]
            case ast.Constant(value=str(text)) if id(node) not in in_f_strings:
                # for setattr, getattr and the like
                names = [part for part in text.split(".") if part in private]
        for name in set(filter(is_private, names)) - TORCH_DISPATCH - OTHERS:
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {name}"


def test_every_module_has_a_test_file() -> None:
    """tests/unit/<room>/test_<module>.py for each module with code of its own."""
    modules = {
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    assert set(UNTESTED) <= {str(module) for module in modules}
    mirrored = {
        str(module.with_name(f"test_{module.name}"))
        for module in modules
        if str(module) not in UNTESTED
    }
    unit = TESTS / "unit"
    tests = {str(path.relative_to(unit)) for path in unit.rglob("test_*.py")}
    assert mirrored - tests == set()
    assert tests - mirrored == set(NOT_MIRRORED)


def test_nothing_private_is_reached() -> None:
    """Neither by tests nor by benchmarks: what they use is public."""
    private = private_names()
    assert private
    files = [*TESTS.rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert [use for path in sorted(files) for use in private_uses(path, private)] == []
