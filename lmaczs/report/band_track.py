"""Mel bands over time of a recording that comes in blocks, for a picture."""

from __future__ import annotations

import torch
from torch import Tensor

from lmaczs.report.figures import mel_bands

COLUMNS = 2000
"""Most time steps that are kept."""


class BandTrack:
    """Means over mel bands and time of spectrograms, in memory that does not grow.

    Where there are too many time steps, neighbours are averaged.

    Parameters
    ----------
    count : int
        Spectrograms that are followed.
    n_freqs : int
        Their rows.
    sample_rate : int
        Hz.
    """

    def __init__(self, count: int, n_freqs: int, sample_rate: int) -> None:
        self.matrix = mel_bands(n_freqs, sample_rate)
        self.width = 1  # columns of the STFT in a time step
        self._sums = torch.zeros(count, len(self.matrix), 0)
        self._rest = torch.zeros(count, len(self.matrix), 0)

    def add(self, *values: Tensor) -> None:
        """Add columns [F, m] of each."""
        bands = torch.stack([self.matrix @ one.cpu() for one in values])
        rest = torch.cat([self._rest, bands], 2)
        whole = rest.shape[2] // self.width * self.width
        steps = rest[..., :whole].unflatten(2, (-1, self.width)).mean(3)
        self._sums = torch.cat([self._sums, steps], 2)
        self._rest = rest[..., whole:].clone()
        while self._sums.shape[2] + bool(self._rest.shape[2]) > COLUMNS:
            even = self._sums.shape[2] // 2 * 2
            odd = self._sums[..., even:].repeat_interleave(self.width, 2)
            self._rest = torch.cat([odd, self._rest], 2)
            self._sums = self._sums[..., :even].unflatten(2, (-1, 2)).mean(3)
            self.width *= 2

    def means(self) -> tuple[Tensor, ...]:
        """Values of each, [256, T] with T up to 2000; steps are equally long."""
        if not self._rest.shape[2]:
            return self._sums.unbind(0)
        values = torch.cat([self._sums, self._rest.mean(2, keepdim=True)], 2)
        seen = self._sums.shape[2] + self._rest.shape[2] / self.width
        return _stretched(values, seen).unbind(0)


def _stretched(values: Tensor, seen: float) -> Tensor:
    """Values [..., T] of equal steps, from those of which the last is seen in part.

    A picture of the last one in full would be too long: an hour's by seconds.
    """
    count = values.shape[-1]
    edges = torch.linspace(0, seen, count + 1, dtype=torch.float64)
    step = edges.long().clamp_max(count - 1)
    before = torch.nn.functional.pad(values.double().cumsum(-1), (1, 0))
    reached = before[..., step] + (edges - step) * values[..., step]
    return (reached.diff() * (count / seen)).clamp_min(0).to(values)
