"""level_track.py: levels of what comes in blocks."""

from __future__ import annotations

import base64
import math

import numpy as np
import pytest

from lmaczs.report.level_track import LevelTrack

RATE, SIZE = 100, 5


@pytest.mark.parametrize("samples", [1, 5, 47, 29_999, 30_001, 71_003])
@pytest.mark.parametrize("block", [3, 10_000])
def test_levels_are_those_of_each_step(samples: int, block: int) -> None:
    """Against a loop, whatever the blocks; beyond 6000 steps they are wider."""
    wav = np.random.default_rng(0).uniform(-1, 1, samples).astype(np.float32)
    wav *= np.linspace(0.01, 1, samples, dtype=np.float32)
    track = LevelTrack(RATE)
    for first in range(0, samples, block):
        track.add(wav[first : first + block])
    found = track.levels()
    size = SIZE * math.ceil(math.ceil(samples / SIZE) / 6000)
    assert found["step"] == size / RATE
    assert found["peakDb"] == pytest.approx(20 * np.log10(np.abs(wav).max()))
    rms, peak = (
        np.frombuffer(base64.b64decode(found[name]), np.uint8)
        for name in ("rms", "peak")
    )
    assert len(rms) == len(peak) == math.ceil(samples / size)
    for number in {0, len(rms) // 2, len(rms) - 1}:
        cut = wav[size * number : size * (number + 1)].astype(float)
        values = np.sqrt((cut**2).sum() / size), np.abs(cut).max()
        for byte, value in zip((rms[number], peak[number]), values, strict=True):
            expected = max(0.0, 2 * (20 * np.log10(max(value, 1e-9)) + 96))
            assert byte == pytest.approx(expected, abs=0.51)


def test_silence_has_no_peak() -> None:
    """None, which is no number that a meter could show."""
    track = LevelTrack(RATE)
    track.add(np.zeros(12, np.float32))
    found = track.levels()
    assert found["peakDb"] is None and base64.b64decode(found["rms"]) == bytes(3)
