"""files.py: a file exists whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmaczs.utils.files import atomic_write


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    """Before the end there is nothing under the name, afterwards only it."""
    path = tmp_path / "new" / "a.json"
    with atomic_write(path) as part:
        part.write_text("{}")
        assert part.suffix == ".json" and not path.exists()
    assert path.read_text() == "{}"
    assert list(path.parent.iterdir()) == [path]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """What a symbolic or a hard link led to stays as it was."""
    for name, link in (("soft", os.symlink), ("hard", os.link)):
        target, path = tmp_path / f"{name}.target", tmp_path / f"{name}.txt"
        target.write_text("old")
        link(target, path)
        with atomic_write(path) as part:
            part.write_text("new")
        assert target.read_text() == "old"
        assert path.read_text() == "new" and not path.is_symlink()


def test_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    """An exception leaves the older file and no remains."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
