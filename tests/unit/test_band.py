"""What is said of recordings that lie outside the band of a model."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from lmaczs.audio.io import read_recording
from lmaczs.band import band_warnings
from lmaczs.clap import FrozenClap

RATE = 32000


def tone(hertz: float, level: float = 0.3, seconds: float = 1.0) -> Tensor:
    """Sine at the rate of the tiny CLAP."""
    time = torch.arange(round(RATE * seconds)) / RATE
    return level * torch.sin(2 * torch.pi * hertz * time)


def warned(clap: FrozenClap, wav: Tensor, total: float | None = None) -> str:
    """All that is said."""
    return "; ".join(
        band_warnings(clap.front_end, clap.front_end.stft(wav), wav, total)
    )


@pytest.mark.parametrize("level", [1e-4, 1e-3, 0.3])
def test_a_sound_in_the_band_is_no_matter(tiny_clap: FrozenClap, level: float) -> None:
    """Quiet or loud, beside a tone of less power below the band."""
    wav = tone(1000, level) + tone(20, 0.7 * level)
    assert warned(tiny_clap, wav) == ""


def test_shares_are_those_of_the_parts(tiny_clap: FrozenClap) -> None:
    """Two tones: power in the band by power of both."""
    found = warned(tiny_clap, tone(1000, 0.1) + tone(10, 0.2))
    assert found.startswith("20 % of the recording's power lies in the band")
    assert "less than 1 %" in warned(tiny_clap, tone(1000, 0.01) + tone(10, 0.5))
    beyond = warned(tiny_clap, tone(1000, 0.1), total=0.05)
    assert beyond.startswith("10 % ")


def test_silence_is_called_so(tiny_clap: FrozenClap) -> None:
    """There is no band to speak of."""
    assert warned(tiny_clap, torch.zeros(RATE)) == "the recording is digital silence"


def test_power_of_a_file_before_it_is_resampled(
    tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """A bat at 384 kHz: next to nothing of it is left at the model's rate."""
    time = np.arange(384000) / 384000
    call = 0.5 * np.sin(2 * math.pi * 60000 * time)
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(time))
    path = tmp_path / "bat.wav"
    soundfile.write(path, call + noise, 384000, subtype="FLOAT")
    wav, _, total = read_recording(path, RATE)
    assert total == pytest.approx(0.125, rel=1e-2)
    assert "less than 1 %" in warned(tiny_clap, wav, total)
    soundfile.write(path, call[:RATE], RATE, subtype="FLOAT")
    assert read_recording(path, RATE).lost_power is None
