"""The garbage collector rests while modules are imported, and some are not."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmaczs.utils.imports import collector_paused, deferred


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was(enabled: bool) -> None:
    """On or off, also after an import that fails."""
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(ImportError), collector_paused():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_what_is_kept_is_frozen() -> None:
    """Objects made meanwhile are no longer collected, those made later are."""
    code = (
        "import gc\n"
        "from lmaczs.utils.imports import collector_paused\n"
        "with collector_paused(): made = [[] for _ in range(10_000)]\n"
        "assert gc.get_freeze_count() == 0\n"
        "with collector_paused(keep=True): pass\n"
        "assert gc.get_freeze_count() > 10_000\n"
        "own = []; own.append(own); del own\n"
        "assert gc.collect() >= 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that can be imported, has not been, and is forgotten in the end."""
    name = "imported_when_used"
    text = "class Box:\n    size = 3\n\nbox, other = Box(), 4\n"
    (tmp_path / f"{name}.py").write_text(text, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def taken(module: str, name: str) -> object:
    """What ``from module import name`` gives."""
    found: dict[str, object] = {}
    exec(f"from {module} import {name}", found)
    return found[name]


def test_a_deferred_module_is_imported_when_it_is_used(module: str) -> None:
    """Not by whoever takes its name alone; and by all others as ever."""
    with deferred(module, "box"):
        box = taken(module, "box")
    assert module not in sys.modules
    assert box.size == 3
    assert module in sys.modules
    assert taken(module, "box").size == 3


@pytest.mark.parametrize("name", ["box", "other"])
def test_what_is_asked_for_meanwhile_is_there(module: str, name: str) -> None:
    """Of the module itself: what is named, if it is used, and what else it has."""
    expected = {"box": 3, "other": 4}
    with deferred(module, "box"):
        found = taken(module, name)
        assert getattr(found, "size", found) == expected[name]
        assert Path(sys.modules[module].__file__).stem == module


def test_nothing_is_deferred_of_a_module_that_is_there(module: str) -> None:
    """Its own value is taken."""
    own = taken(module, "box")
    with deferred(module, "box"):
        assert taken(module, "box") is own
    assert taken(module, "box") is own
