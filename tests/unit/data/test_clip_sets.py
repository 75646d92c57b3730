"""Clips that a folder, a manifest or a part of a data set holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from lmaczs.data.clip_sets import clips_of
from lmaczs.data.lists import MissingDataError
from lmaczs.utils.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two labels with two recordings each, and a manifest of captions and parts."""
    for label in ("dog", "rain"):
        (tmp_path / label).mkdir()
        for number in (1, 2):
            wav = np.full(8000, 0.1 * number)
            soundfile.write(tmp_path / label / f"{label}{number}.wav", wav, 8000)
    rows = ["path,text,start,stop", "dog/dog1.wav,a bark,,", "dog/dog1.wav,barking,,"]
    rows += ["rain/rain1.wav,drops,0,0.5", "rain/rain1.wav,drops,0.5,1", ""]
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    return tmp_path


def test_a_folder_is_all_recordings_below_it(folder: Path) -> None:
    """In the order of their names; nothing else counts."""
    names = [Path(path).name for path in clips_of(folder).path]
    assert names == ["dog1.wav", "dog2.wav", "rain1.wav", "rain2.wav"]
    with pytest.raises(MissingDataError, match="holds no recording"):
        (folder / "none").mkdir()
        clips_of(folder / "none")


def test_a_clip_of_a_manifest_counts_once(folder: Path) -> None:
    """However many captions it has; parts of one recording are several clips."""
    clips = clips_of(str(folder / "clips.csv"))
    assert [Path(path).name for path in clips.path] == [
        *("dog1.wav", "rain1.wav", "rain1.wav"),
    ]
    assert clips.stop.tolist()[1:] == [0.5, 1.0]


def test_a_data_set_by_the_options_of_its_reader(folder: Path) -> None:
    """All of it, or the clips of one split; a part without clips is refused."""
    place = {"data_folder": folder, "dataset": "folder"}
    assert len(clips_of(place)) == 4
    with pytest.raises(InputError, match="has no clip of part test"):
        clips_of({**place, "part": "test"})
    assert place == {"data_folder": folder, "dataset": "folder"}
    rows = ["path,label,split", "dog/dog1.wav,dog,train", "rain/rain1.wav,rain,test"]
    (folder / "split.csv").write_text("\n".join([*rows, ""]))
    for part, name in (("train", "dog1.wav"), ("test", "rain1.wav")):
        clips = clips_of({"manifest": folder / "split.csv", "part": part})
        assert [Path(path).name for path in clips.path] == [name]
