"""Lists of clips and recordings below a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmaczs.data.lists import recordings_in


def test_recordings_are_found_below_a_folder(tmp_path: Path) -> None:
    """Sound files in any case of their suffix, by name; nothing else."""
    (tmp_path / "b").mkdir()
    for name in ("b/2.WAV", "a.flac", "c.ogg", "notes.txt", "b/1.mp3"):
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in recordings_in(tmp_path)]
    assert found == ["a.flac", "b/1.mp3", "b/2.WAV", "c.ogg"]


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    """The sentence names the folder and the kinds of files."""
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no recording \(\.wav, "):
        recordings_in(tmp_path)
