"""A folder with a subfolder for each label."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmaczs.data.class_folders import read_class_folders


def test_a_subfolder_is_a_label(tmp_path: Path) -> None:
    """Recordings at any depth below it have its name in words, and no split."""
    names = ["sea_waves/b.FLAC", "dog/1.wav", "dog/more/1.wav", ".cache/x.wav"]
    for name in [*names, "beside.wav", "dog/notes.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "nothing").mkdir()
    rows = read_class_folders(tmp_path)
    assert rows.id.tolist() == ["dog/1.wav", "dog/more/1.wav", "sea_waves/b.FLAC"]
    assert rows.label.tolist() == ["dog", "dog", "sea waves"]
    assert rows.path.tolist() == [str(tmp_path.resolve() / x) for x in rows.id]
    assert set(rows.split) == {""}


def test_other_folders_are_refused(tmp_path: Path) -> None:
    """One that is not there, and one whose recordings are in no subfolder."""
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        read_class_folders(tmp_path / "nowhere")
    (tmp_path / "dog.wav").touch()
    with pytest.raises(
        FileNotFoundError, match="no subfolder with recordings .*: make"
    ):
        read_class_folders(tmp_path)
