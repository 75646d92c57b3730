"""FileReader: whole recordings and parts of them, with and without a cache."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from lmaczs.audio.io import load_audio, save_audio
from lmaczs.data.clip_reader import FileReader
from lmaczs.utils.errors import AudioError

RATE = 8000


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """A whole recording, and two parts of another one."""
    rng = torch.Generator().manual_seed(0)
    paths = [
        str(save_audio(tmp_path / name, torch.rand(RATE, generator=rng) - 0.5, RATE))
        for name in ("a.wav", "b.wav")
    ]
    return pd.DataFrame(
        {
            "path": [paths[0], paths[1], paths[1]],
            "start": [None, 0.25, None],
            "stop": [None, 0.5, 0.75],
        }
    )


@pytest.mark.parametrize("keep", [True, False])
def test_clips_are_what_their_rows_say(table: pd.DataFrame, keep: bool) -> None:
    """Each row by its path and times, in any order, and again."""
    reader = FileReader(table, 16000, keep_in_memory=keep)
    for row in (2, 0, 1, 0, 2):
        place = table.iloc[row].astype(object).where(table.iloc[row].notna(), None)
        expected = load_audio(place.path, 16000, start=place.start, stop=place.stop)
        assert torch.equal(reader.read(row), expected)


def test_a_kept_clip_is_not_read_again(table: pd.DataFrame) -> None:
    """What was read once outlives its file; without a cache the file is read anew."""
    kept, fresh = (FileReader(table, RATE, keep) for keep in (True, False))
    before = kept.read(0)
    assert torch.equal(fresh.read(0), before)
    save_audio(table.path[0], torch.zeros(10), RATE)
    assert torch.equal(kept.read(0), before)
    assert torch.equal(fresh.read(0), torch.zeros(10))


def test_files_can_be_read_in_any_order(table: pd.DataFrame) -> None:
    """No row has to wait, unlike those of shards."""
    assert FileReader(table, RATE).at_hand() is None


def test_samples_that_are_no_sound(tmp_path: Path) -> None:
    """An error that names the recording, as for what cannot be read."""
    path = save_audio(tmp_path / "loud.wav", torch.full((RATE,), 1e38), RATE)
    reader = FileReader(pd.DataFrame({"path": [str(path)]}), RATE)
    with pytest.raises(AudioError, match=r"loud\.wav: it holds samples of 1e\+38"):
        reader.read(0)
