"""files.py: a file or folder exists whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmaczs.utils.files import atomic_folder, atomic_write


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


def contents(folder: Path) -> dict[str, str]:
    """Text of the files below a folder, by their paths in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_a_folder_appears_whole_in_place_of_the_older_one(tmp_path: Path) -> None:
    """Until the block ends the older one is there; nothing of it is left then."""
    dest = tmp_path / "new" / "run"
    for files in ({"a": "1", "b": "2"}, {"a": "3", "c": "4"}):
        before = contents(dest)
        with atomic_folder(dest) as part:
            for name, text in files.items():
                (part / name).write_text(text)
            assert contents(dest) == before
        assert contents(dest) == files
        assert list(dest.parent.iterdir()) == [dest]


def test_a_failure_keeps_the_older_folder(tmp_path: Path) -> None:
    """An exception leaves it as it was and no remains."""
    dest = tmp_path / "run"
    dest.mkdir()
    (dest / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(dest) as part:
        (part / "a").write_text("half")
        raise RuntimeError
    assert contents(tmp_path) == {"run/a": "old"}


def test_a_folder_that_cannot_be_moved_leaves_the_older_one(tmp_path: Path) -> None:
    """The error is raised, and what stood there stands there again."""
    dest = tmp_path / "run"
    dest.mkdir()
    (dest / "a").write_text("old")
    with pytest.raises(OSError), atomic_folder(dest) as part:
        part.rmdir()
    assert contents(tmp_path) == {"run/a": "old"}
