"""files.py: a file exists whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmaczs.files import written_whole


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    """Before the end there is nothing under the name, afterwards only it."""
    path = tmp_path / "new" / "a.json"
    with written_whole(path) as part:
        part.write_text("{}")
        assert part.suffix == ".json" and not path.exists()
    assert path.read_text() == "{}"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    """An exception leaves the older file and no remains."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), written_whole(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
