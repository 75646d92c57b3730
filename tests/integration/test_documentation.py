"""What the documentation tells a reader to type works: examples, commands, options."""

from __future__ import annotations

import ast
import doctest
import json
import re
import shlex
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from lmaczs.cli import build_parser
from lmaczs.demo.scenes import write_scenes
from lmaczs.explanation import Interpretation
from lmaczs.utils.naming import SAVED
from lmaczs.utils.options import parse_options

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("recipes/*.md")]
)
YAMLS = sorted((ROOT / "hparams").glob("*.yaml"))
CARDS = sorted(ROOT.glob("pretrained/*/README.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each fenced block of a page."""
    return BLOCK.findall(page.read_text("utf-8"))


def commands(path: Path) -> Iterator[list[str]]:
    """Words of each command line that a page or the head of a YAML shows."""
    if path.suffix == ".md":
        text = "".join(t for kind, t in blocks(path) if kind in ("", "sh", "bash"))
        indented = re.findall(r"^ {4,}(\S.*)$", path.read_text("utf-8"), re.MULTILINE)
        text += "\n".join(["", *indented])
    else:
        lines = path.read_text("utf-8").splitlines()
        text = "\n".join(one.lstrip("# ") for one in lines if one.startswith("#"))
    text = re.sub(r"\\\n\s*", " ", text)
    for line in text.splitlines():
        line = line.strip().removeprefix(".venv/bin/")
        if re.match(r"(lmaczs|python recipes/|torchrun|make|pip install)\b", line):
            # what is optional is given, what may be repeated is given once
            line = re.sub(r"\[(-[^\]\"]*)\]", r"\1", line).replace("...", "")
            yield shlex.split(line, comments=True)


def with_blocks(kind: str) -> list[Path]:
    """Pages with a block of a language."""
    return [page for page in PAGES if any(k == kind for k, _ in blocks(page))]


def modules_with_examples() -> list[str]:
    """Names of the modules whose docstrings hold an example."""
    found = []
    for path in sorted((ROOT / "lmaczs").rglob("*.py")):
        if re.search(r"^\s*>>> ", path.read_text("utf-8"), re.MULTILINE):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append(".".join(p for p in parts if p != "__init__"))
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with the demonstration's recordings in out/scenes."""
    config = ROOT / "pretrained" / "clap_small" / "processor_config.json"
    rate = json.loads(config.read_text())["feature_extractor"]["sampling_rate"]
    write_scenes(tmp_path / "out" / "scenes", rate)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", with_blocks("python"), ids=lambda page: page.name)
def test_python_blocks_run(
    page: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every example runs where the demonstration ran, and prints what the page says."""
    space: dict[str, object] = {}
    found = [*blocks(page), ("", "")]
    for (kind, code), (_, after) in zip(found, found[1:], strict=False):
        if kind != "python":
            continue
        exec(compile(code, str(page), "exec"), space)
        printed = capsys.readouterr().out
        if re.fullmatch(r"[\s\d.e−-]+", after):
            shown = [ast.literal_eval(word) for word in after.split()]
            values = [float(word) for word in printed.split()]
            assert values == pytest.approx(shown, abs=1e-3)


def shown(code: str, space: dict[str, object]) -> object:
    """Run a notebook's cell; return the value of its last line, which is shown."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), space)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "cell", "eval"), space)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_tutorial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From an empty folder, cell by cell; what it says of the results is so."""
    notebook = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text("utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    values = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            values.append(shown("".join(cell["source"]), space))
    found = [one for one in values if isinstance(one, Interpretation)]
    verdicts = [(one.prompt, one.verdict, one.contrast) for one in found]
    assert verdicts == [
        ("dog", "kept", ()),
        ("siren", "not heard", ()),
        ("crackling fire", "kept", ()),
        ("dog", "kept", ("crackling fire",)),
    ]
    printed = capsys.readouterr().out
    assert "<Interpretation 'dog': kept," in printed
    assert "array: its rate is missing" in printed
    assert set(values[-1]) == set(SAVED)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstring_examples_run(name: str, folder: Path) -> None:
    """Every example of a docstring runs where the demonstration ran."""
    results = doctest.testmod(import_module(name), verbose=False)
    assert results.attempted and not results.failed


def check_recipe(
    words: list[str],
    load: Callable[[str], ModuleType],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """See that a recipe exists and has every option that it is given."""
    path, *rest = words
    assert (ROOT / path).is_file()
    if rest and rest[0].startswith("hparams/"):
        # a device is looked for, and not every machine has the one of an example
        options = [word for word in rest[1:] if not word.startswith("--device")]
        options = [re.sub(r"\$\w+", "1", word) for word in options]  # of a loop
        parse_options([str(ROOT / rest[0]), *options])
        return
    with pytest.raises(SystemExit):
        load(Path(path).stem).main(["--help"])
    text = capsys.readouterr().out
    options = [word.partition("=")[0] for word in rest if word.startswith("--")]
    assert not [option for option in options if option not in text]


@pytest.mark.parametrize("path", [*PAGES, *YAMLS], ids=lambda path: path.name)
def test_commands_parse(
    path: Path,
    recipe: Callable[[str], ModuleType],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every command that is shown exists, and so do its options, targets and extras."""
    for words in commands(path):
        command, *rest = words
        script = next((i for i, w in enumerate(words) if w.startswith("recipes/")), 0)
        if script:
            check_recipe(words[script:], recipe, capsys)
        elif command == "lmaczs":
            build_parser().parse_args(rest)
        elif command == "make":
            makefile = (ROOT / "Makefile").read_text("utf-8")
            assert re.search(rf"^{rest[0]}:", makefile, re.MULTILINE), words
        elif extras := re.search(r"\[(.*)\]", " ".join(rest)):
            setup = (ROOT / "setup.cfg").read_text("utf-8")
            for extra in extras[1].split(","):
                assert re.search(rf"^{extra} =$", setup, re.MULTILINE), words


@pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    """Every relative link and picture of a page exists in the repository."""
    found = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", page.read_text("utf-8"))
    assert not [link for link in found if not (page.parent / link).exists()]


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    """Blocks are Python that runs, commands and output, YAML that loads, equations."""
    for page in PAGES:
        for kind, text in blocks(page):
            assert kind in ("", "sh", "bash", "python", "yaml", "math"), page
            if kind == "yaml":
                assert yaml.safe_load(text), page


def test_the_reference_has_every_module_once() -> None:
    """A public module is on one page of the reference; the command line is on none."""
    pages = (ROOT / "docs" / "reference").glob("*.md")
    text = "\n".join(page.read_text("utf-8") for page in pages)
    listed = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    rooms = ("cli", "distillation", "utils", "hparams", "pretrained")
    paths = [path.relative_to(ROOT) for path in (ROOT / "lmaczs").rglob("*.py")]
    modules = [
        ".".join(path.with_suffix("").parts)
        for path in paths
        if path.stem not in ("__init__", "__main__") and path.parts[1] not in rooms
    ]
    assert sorted(listed) == sorted([*modules, "lmaczs.utils.errors"])


def test_there_are_commands_to_check() -> None:
    """The README shows commands of each kind."""
    found = {words[0] for words in commands(ROOT / "README.md")}
    assert {"lmaczs", "make"} <= found
