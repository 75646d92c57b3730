"""STFT and its inverse block by block: joined, they are those of the whole."""

from __future__ import annotations

import torch
from torch import Tensor

from lmaczs.frontend import FrontEnd


class BlockStft:
    """`FrontEnd.stft` of a waveform that comes in blocks.

    Parameters
    ----------
    front_end : FrontEnd
        The checkpoint's.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self.front_end = front_end
        self.samples = 0  # that were pushed
        self._given = 0  # columns
        self._kept, self._begin = torch.zeros(0), 0  # the end of the waveform

    def push(self, block: Tensor) -> Tensor:
        """Take samples [n], return the columns [F, m] that are final; m may be 0."""
        self.samples += len(block)
        self._kept = torch.cat([self._kept.to(block), block])
        hop, edge = self.front_end.hop_length, self.front_end.n_fft // 2
        return self._take(max(self._given, (self.samples - edge) // hop + 1))

    def flush(self) -> Tensor:
        """Return the columns [F, m] that are left, at the end of the waveform."""
        return self._take(self.front_end.clip_frames(self.samples))

    def _take(self, last: int) -> Tensor:
        """Columns up to `last`; samples that no later column needs are dropped."""
        front_end = self.front_end
        hop, edge = front_end.hop_length, front_end.n_fft // 2
        if last <= self._given or not len(self._kept):
            return torch.zeros(front_end.n_freqs, 0, dtype=torch.complex64)
        shift = self._begin // hop
        found = front_end.stft(self._kept)[:, self._given - shift : last - shift]
        self._given = last
        # twice the reach: the last columns are reflected at the end
        begin = max(0, last - 2 * (-(-edge // hop))) * hop
        self._kept = self._kept[begin - self._begin :].clone()
        self._begin = begin
        return found


class BlockIstft:
    """`FrontEnd.istft` of a spectrogram that comes in blocks of columns.

    Parameters
    ----------
    front_end : FrontEnd
        The checkpoint's.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self.front_end = front_end
        self._given = 0  # samples
        self._kept: Tensor | None = None
        self._begin = 0  # the first column that is kept

    def push(self, columns: Tensor) -> Tensor:
        """Take columns [F, m], return the samples [n] that are final; n may be 0."""
        parts = [columns] if self._kept is None else [self._kept, columns]
        self._kept = torch.cat(parts, 1)
        hop, edge = self.front_end.hop_length, self.front_end.n_fft // 2
        end = (self._begin + self._kept.shape[1]) * hop - edge
        return self._take(max(self._given, end - hop))

    def flush(self, samples: int) -> Tensor:
        """Return the samples that are left of a waveform of this length."""
        return self._take(samples)

    def _take(self, last: int) -> Tensor:
        """Samples up to `last`; columns that no later sample needs are dropped."""
        if last <= self._given or self._kept is None:
            return torch.zeros(0)
        front_end = self.front_end
        hop, edge = front_end.hop_length, front_end.n_fft // 2
        start = self._begin * hop
        found = front_end.istft(self._kept, last - start)[self._given - start :]
        self._given = last
        begin = max(self._begin, (last - edge) // hop - 1)
        self._kept = self._kept[:, begin - self._begin :].clone()
        self._begin = begin
        return found
