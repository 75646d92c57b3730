"""Clips as parts of recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from lmaczs.audio.io import AudioError
from lmaczs.data.segments import Segment, segments_of

RATE = 8000


def test_a_segment_is_read_from_start_to_stop(tmp_path: Path) -> None:
    """To the nearest sample; a recording that ends before it begins is named."""
    wav = np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32)
    path = str(tmp_path / "a.wav")
    soundfile.write(path, wav, RATE, subtype="FLOAT")
    found = Segment(path, 0.25, 0.5).load(RATE)
    assert torch.equal(found, torch.from_numpy(wav[2000:4000]))
    assert torch.equal(Segment(path).load(RATE), torch.from_numpy(wav))
    with pytest.raises(AudioError, match=r"a\.wav: no sample from 2 s"):
        Segment(path, 2.0).load(RATE)


def test_segments_of_tables() -> None:
    """Times that are not there are None, in each row by itself."""
    table = pd.DataFrame({"path": ["a", "b"], "start": [0.5, None], "stop": [None] * 2})
    assert segments_of(table) == [Segment("a", 0.5), Segment("b")]
    assert segments_of(table[["path"]]) == [Segment("a"), Segment("b")]
