"""Levels of a sound over time, as the page's meters show them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

METER_SECONDS, METER_STEPS = 0.05, 6000
"""Stretch that a level is measured over, and most levels of a sound."""

LEVEL_FLOOR_DB, LEVELS_PER_DB = -96.0, 2
"""A level is a byte: half dB above the floor, which is silence."""

Samples = npt.NDArray[np.floating[Any]]


class LevelTrack:
    """Levels of a sound that comes in blocks.

    Parameters
    ----------
    sample_rate : int
        Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.size = round(METER_SECONDS * sample_rate)
        self._squares, self._peaks = list[Samples](), list[Samples]()  # of each stretch
        self._rest = np.zeros(0, np.float32)

    def add(self, block: npt.NDArray[np.float32]) -> None:
        """Take samples [n]."""
        samples = np.concatenate([self._rest, block])
        whole = len(samples) // self.size * self.size
        self._measure(samples[:whole])
        self._rest = samples[whole:]

    def _measure(self, samples: npt.NDArray[np.float32]) -> None:
        cut = samples.reshape(-1, self.size)
        self._squares.append(np.square(cut, dtype=np.float64).mean(1))
        self._peaks.append(np.abs(cut).max(1, initial=0))

    def levels(self) -> dict[str, Any]:
        """Levels in dB re full scale, at the end of the sound.

        They are: step (seconds), peakDb of the whole (None for silence), and rms and
        peak of each step, base64 of bytes: 2 (dB + 96), or 0 for silence.
        """
        if len(self._rest):
            self._measure(np.pad(self._rest, (0, self.size - len(self._rest))))
            self._rest = self._rest[:0]
        squares, peaks = map(np.concatenate, (self._squares, self._peaks))
        width = -(-len(peaks) // METER_STEPS)
        lacking = -len(peaks) % width
        squares, peaks = (np.pad(one, (0, lacking)) for one in (squares, peaks))
        loudest = float(peaks.max())
        return {
            "step": width * self.size / self.sample_rate,
            "peakDb": float(20 * np.log10(loudest)) if loudest > 0 else None,
            "rms": _level_bytes(np.sqrt(squares.reshape(-1, width).mean(1))),
            "peak": _level_bytes(peaks.reshape(-1, width).max(1)),
        }


def _level_bytes(amplitude: Samples) -> str:
    floor = 10 ** (LEVEL_FLOOR_DB / 20)
    above = 20 * np.log10(np.maximum(amplitude, floor)) - LEVEL_FLOOR_DB
    steps = (LEVELS_PER_DB * above).round().clip(0, 255).astype(np.uint8)
    return base64.b64encode(steps.tobytes()).decode("ascii")
