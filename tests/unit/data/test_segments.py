"""Clips as parts of recordings."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from lmaczs.audio.io import AudioError
from lmaczs.data.segments import Cut, cuts_of

WHOLE = torch.arange(1000.0)
RATE = 100


@pytest.mark.parametrize(
    ("start", "stop", "first", "last"),
    [
        (None, None, 0, 1000),
        (2.0, None, 200, 1000),
        (None, 3.0, 0, 300),
        (2.004, 3.006, 200, 301),
        (9.0, 30.0, 900, 1000),
    ],
)
def test_cut(start: float | None, stop: float | None, first: int, last: int) -> None:
    """From start to stop, to the sample that is nearest; no further than the end."""
    cut = Cut("a.wav", start, stop).of(WHOLE, RATE)
    assert torch.equal(cut, WHOLE[first:last])


def test_a_cut_does_not_hold_the_recording() -> None:
    """What is kept of a long recording is the clip, not all of its memory."""
    cut = Cut("a.wav", 1.0, 2.0).of(WHOLE, RATE)
    assert cut.untyped_storage().nbytes() == 100 * cut.element_size()


@pytest.mark.parametrize(("start", "stop"), [(10.0, None), (12.0, 13.0), (1.0, 1.001)])
def test_a_cut_without_samples(start: float, stop: float | None) -> None:
    """File, times and length are named."""
    with pytest.raises(
        AudioError, match=rf"a\.wav: no sample from {start:g} s .* 10 s"
    ):
        Cut("a.wav", start, stop).of(WHOLE, RATE)


def test_cuts_of_tables() -> None:
    """Times that are not there are None, in each row on its own."""
    table = pd.DataFrame({"path": ["a", "b"], "start": [0.5, None], "stop": [None] * 2})
    assert cuts_of(table) == [Cut("a", 0.5, None), Cut("b", None, None)]
    assert cuts_of(table[["path"]]) == [Cut("a", None, None), Cut("b", None, None)]
    assert len({*cuts_of(table), *cuts_of(table)}) == 2
