"""band_track.py: bands over time of what comes in blocks."""

from __future__ import annotations

import pytest
import torch

from lmaczs.report.band_track import BandTrack
from lmaczs.report.figures import to_bands

RATE, BINS = 16000, 65


@pytest.mark.parametrize("columns", [1, 700, 2000, 2001, 5003])
def test_bands_are_those_of_the_whole(columns: int) -> None:
    """However it is cut; beyond 2000 columns neighbours are averaged."""
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
        for step in {0, found.shape[1] // 2, found.shape[1] - 1}:
            own = whole[:, step * width : (step + 1) * width].mean(1, keepdim=True)
            torch.testing.assert_close(found[:, step : step + 1], to_bands(own, RATE))
