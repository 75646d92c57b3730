"""output.py: the folder that a command writes into."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from lmaczs.cli.output import (
    check_page,
    out_folder,
    require_room,
    sweep_results,
    write_page,
)
from lmaczs.cli.terminal import CommandError
from lmaczs.cli.work import Failure
from lmaczs.utils.errors import LmaczsError

DEAD = 1 << 30
"""Number of no process."""


def test_a_folder_is_made_and_held(tmp_path: Path) -> None:
    """A second run into it is refused, by the option's name."""
    out = tmp_path / "new" / "out"
    with out_folder(out):
        assert out.is_dir()
        with pytest.raises(CommandError, match="another lmaczs writes into it"):
            with out_folder(out / ".." / "out" / "."):
                pass
    with out_folder(out):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file has its name."""
    (tmp_path / "out").touch()
    with pytest.raises(CommandError, match="name a folder that can be written"):
        with out_folder(tmp_path / "out"):
            pass


def test_what_killed_runs_left_is_swept(tmp_path: Path) -> None:
    """In the folder, in a recording's and in a prompt's; not elsewhere."""
    part = f".a.{DEAD}.lmaczs-part.wav"
    for name in ("", "a", "a/dog", "mine", "a/dog/deep"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / part).touch()
    with out_folder(tmp_path):
        sweep_results([tmp_path / "a", tmp_path / "missing"])
    left = sorted(
        str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob(part)
    )
    assert left == ["a/dog/deep", "mine"]


def test_a_page_replaces_pages_only(tmp_path: Path) -> None:
    """No recording, and no page of somebody else; nothing is shown of nothing."""
    check_page(tmp_path, [tmp_path / "a.wav"])
    with pytest.raises(CommandError, match="is one of the recordings"):
        check_page(tmp_path, [tmp_path / "INDEX.html"])
    (tmp_path / "index.html").write_text("<h1>My sounds</h1>")
    with pytest.raises(CommandError, match="was not written by lmaczs"):
        check_page(tmp_path, [])
    check_page(tmp_path, [], "events.html")
    with pytest.raises(CommandError, match="its events.html is one of"):
        check_page(tmp_path, [tmp_path / "events.html"], "events.html")
    assert write_page(tmp_path, [], False) is None


def test_a_full_disk_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named in place of the recording, whose failure may not say why."""
    require_room(tmp_path, Failure("a.wav: bad"))
    with pytest.raises(LmaczsError, match=f"--out {tmp_path}: its disk is full"):
        require_room(tmp_path, Failure("a.wav: bad", number=errno.ENOSPC))
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(LmaczsError, match="its disk is full"):
        require_room(tmp_path, Failure("a.wav: System error."))
