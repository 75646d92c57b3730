"""overview.py: a recording that comes in blocks, as a whole."""

from __future__ import annotations

import math

import pytest
import torch

from lmaczs.band import band_warnings
from lmaczs.clap import FrozenClap
from lmaczs.frontend import power
from lmaczs.overview import Overview
from lmaczs.report.figures import to_bands

RATE = 32000


def test_it_is_that_of_the_whole(tiny_clap: FrozenClap) -> None:
    """Columns, picture and what is doubtful, whatever the blocks."""
    front_end = tiny_clap.front_end
    time = torch.arange(3 * RATE + 77) / RATE
    wav = 0.01 * torch.sin(2000 * torch.pi * time) + torch.sin(20 * torch.pi * time)
    stft = front_end.stft(wav)
    expected = to_bands(power(stft), RATE)
    for total in (None, 2.0):
        overview = Overview(front_end, picture=True)
        columns = [overview.push(block) for block in wav.split(7001)]
        columns.append(overview.finish(total))
        torch.testing.assert_close(torch.cat(columns, 1), stft, atol=1e-3, rtol=0)
        torch.testing.assert_close(overview.bands(), expected, atol=1e-2, rtol=1e-3)
        found = band_warnings(front_end, stft, wav, total)
        assert found and overview.warnings() == found
        assert overview.seconds == len(wav) / RATE
        level = overview.levels()
        assert level["step"] == 0.05
        loudest = 20 * math.log10(float(wav.abs().max()))
        assert level["peakDb"] == pytest.approx(loudest)


def test_nothing_at_all_is_silence(tiny_clap: FrozenClap) -> None:
    """A recording without samples is an error elsewhere."""
    assert "silence" in Overview(tiny_clap.front_end).warnings()[0]
