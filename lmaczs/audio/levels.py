"""Levels that a recording cannot be meant to have, by what was read of it."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

FAR_ABOVE = 8.0
"""A peak above it, 18 dB over full scale, is no level of a sound."""

HUGE = 1e6
"""A peak above which powers are summed in float64."""

INTEGERS = (1 << 7, 1 << 15, 1 << 23, 1 << 31)
"""Full scales of integers, which some programs write into float files."""

FAINT = 1e-4
"""A peak below which a recording is faint: -80 dB of full scale."""

DEAD = 1e-4
"""A channel is dead that is 80 dB below the loudest one."""

CANCELLED = 0.1
"""A fraction of the power that a mean of unrelated channels would have; below it the
channels cancel each other."""

FULL = 0.999
"""Full scale, of samples that are clipped."""

CLIPPED = 0.01
"""A fraction of the samples that are clipped above which that is said."""


class Levels:
    """Power, peak and extremes of each channel of a recording, and of their mean.

    Attributes
    ----------
    count : int
        Frames that were added.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mix = self._clipped = 0.0
        self._frames = 0  # of those with as many channels as the first
        self._sums = self._squares = self._low = self._high = np.zeros(0)

    def add(self, channels: np.ndarray, mix: np.ndarray) -> None:
        """Take the next samples [channels, n] and what is made of them [n], float32."""
        if not mix.size:
            return
        low, high = channels.min(1), channels.max(1)
        peak = max(high.max(), -low.min())
        if peak > HUGE:  # the square of which may be too much for float32
            channels, mix = channels.astype(np.float64), mix.astype(np.float64)
        self._mix += float(np.dot(mix, mix))
        self.count += len(mix)
        if not self._frames:
            self._sums = self._squares = np.zeros(len(low))
            self._low, self._high = low, high
        if len(self._sums) != len(low):  # another part of the file has other channels
            return
        self._low = np.minimum(self._low, low)
        self._high = np.maximum(self._high, high)
        self._sums = self._sums + channels.sum(1)
        self._squares = self._squares + [float(np.dot(one, one)) for one in channels]
        self._frames += len(mix)
        if FULL <= peak <= 1:
            self._clipped += _clipped(channels)

    @property
    def power(self) -> float:
        """Mean power of what is made of the channels."""
        return self._mix / max(1, self.count)

    def warnings(self, channel: int | None = None) -> tuple[str, ...]:
        """What cannot be meant, a sentence each.

        Parameters
        ----------
        channel : int or None
            The only one that is used, from 1 on; None: the mean over all.

        Returns
        -------
        tuple of str
        """
        if not self.count:
            return ()
        own = slice(None) if channel is None else slice(channel - 1, channel)
        found = [self._loud(own), self._quiet(own)]
        if channel is None and len(self._sums) > 1:
            found += [self._dead(), self._cancelled()]
        return tuple(filter(None, found))

    def _loud(self, own: slice) -> str:
        peak = float(max(self._high[own].max(), -self._low[own].min()))
        if peak > FAR_ABOVE:
            near = [one for one in INTEGERS if 0.01 * one < peak <= one]
            how = f"divide by {near[0]}" if near else "scale it"
            return f"its peak is {peak:.0f}, and full scale is 1: {how}"
        share = self._clipped / self._frames / len(self._sums)
        if share > CLIPPED:
            return f"{100 * share:.0f} % of its samples are clipped at full scale"
        return ""

    def _quiet(self, own: slice) -> str:
        mean = float(np.abs(self._sums[own]).max() / self._frames)
        extent = float((self._high[own] - self._low[own]).max())
        if extent == mean == 0:
            return "the recording is digital silence"
        if extent <= 1e-6 * mean:
            return f"it is constant, {mean:.3g}: it holds no sound"
        if extent < 2 * FAINT:
            level = 20 * math.log10(extent / 2)
            return f"it is faint: its peak is {level:.0f} dB of full scale"
        return ""

    def _dead(self) -> str:
        live = self._squares > DEAD**2 * self._squares.max()
        if live.all() or not live.any():
            return ""
        dead = [str(number) for number in np.flatnonzero(~live) + 1]
        names = f"channel {dead[0]} is"
        if len(dead) > 1:
            names = f"channels {', '.join(dead)} are"
        first = int(np.flatnonzero(live)[0]) + 1
        return (
            f"{names} silent, of {len(live)}, and the mean is quieter by that: "
            f"channel {first} alone is read with --channel {first}"
        )

    def _cancelled(self) -> str:
        mean = float(self._squares.mean() / self._frames)
        if self.power * len(self._sums) >= CANCELLED * mean:
            return ""
        loss = "entirely"
        if self.power:
            loss = f"by {10 * math.log10(mean / self.power):.0f} dB"
        return (
            f"its channels cancel each other {loss} where they are mixed: "
            "the first alone is read with --channel 1"
        )


def level_warnings(wav: Tensor) -> tuple[str, ...]:
    """What cannot be meant about the levels of a waveform [n]; see `Levels`."""
    samples, levels = wav.detach().cpu().float().numpy(), Levels()
    levels.add(samples[None], samples)
    return levels.warnings()


def _clipped(channels: np.ndarray) -> int:
    """Number of samples at full scale beside another one."""
    same = channels[:, 1:] == channels[:, :-1]
    return int((same & (np.abs(channels[:, 1:]) >= FULL)).sum())
