"""band_track.py: bands over time of what comes in blocks."""

from __future__ import annotations

import pytest
import torch

from lmaczs.report.band_track import BandTrack
from lmaczs.report.figures import to_bands

RATE, BINS = 16000, 65


@pytest.mark.parametrize("columns", [1, 700, 2000, 2001, 4001, 5003])
def test_bands_are_those_of_the_whole(columns: int) -> None:
    """However it is cut; beyond 2000 columns, means over steps of one length."""
    generator = torch.Generator().manual_seed(columns)
    first, second = torch.rand(2, BINS, columns, generator=generator)
    track = BandTrack(2, BINS, RATE)
    for one, other in zip(first.split(301, 1), second.split(301, 1), strict=True):
        track.add(one, other)
    width = 1
    while columns / width > 2000:
        width *= 2
    for found, whole in zip(track.means(), (first, second), strict=True):
        assert found.shape == (256, -(-columns // width))
        steps = [to_bands(one.mean(1)[:, None], RATE) for one in whole.split(width, 1)]
        size = columns / len(steps)  # of a step that is shown, in columns
        for step in {0, len(steps) // 2, len(steps) - 1}:
            start, stop = step * size, (step + 1) * size
            own = 0.0
            for number, one in enumerate(steps):
                begin, end = number * width, min((number + 1) * width, columns)
                shared = max(0.0, min(stop, end) - max(start, begin))
                own = own + shared / size * one
            torch.testing.assert_close(found[:, step : step + 1], own)


def test_a_sound_is_shown_when_it_is() -> None:
    """Near the end of a recording that fills its last step by a little."""
    columns, place = 64 * 1001 + 1, 63_500
    power = torch.zeros(BINS, columns)
    power[:, place] = 1
    track = BandTrack(1, BINS, RATE)
    track.add(power)
    (found,) = track.means()
    middle = (found.sum(0) * (torch.arange(found.shape[1]) + 0.5)).sum() / found.sum()
    assert found.shape[1] == 1002
    shown = float(middle) / found.shape[1] * columns
    assert shown == pytest.approx(place, abs=32)  # half a step
