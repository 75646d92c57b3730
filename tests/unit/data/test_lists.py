"""Lists of clips and recordings below a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from lmaczs.data.lists import recordings_in, require_audio, seconds_of


def test_recordings_are_found_below_a_folder(tmp_path: Path) -> None:
    """Sound files in any case of their suffix, by name; nothing else."""
    (tmp_path / "b").mkdir()
    for name in ("b/2.WAV", "a.flac", "c.ogg", "notes.txt", "b/1.mp3", "d.M4a"):
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in recordings_in(tmp_path)]
    assert found == ["a.flac", "b/1.mp3", "b/2.WAV", "c.ogg", "d.M4a"]


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    """The sentence names the folder and the kinds of files."""
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no recording \(\.wav, "):
        recordings_in(tmp_path)
    assert recordings_in(tmp_path, at_least=0) == []
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        recordings_in(tmp_path / "nowhere", at_least=0)


def test_headers_of_recordings_are_checked(tmp_path: Path) -> None:
    """Audio has a length; of what is none, the number and the first one are named."""
    good, bad = str(tmp_path / "good.wav"), str(tmp_path / "bad.wav")
    soundfile.write(good, np.zeros(4000), 8000)
    Path(bad).write_text("not audio")
    assert (seconds_of(good), seconds_of(bad)) == (0.5, None)
    require_audio([good, good])
    with pytest.raises(ValueError, match=f"^1 of 2 recordings are .* is {bad}: "):
        require_audio([good, bad, good])
