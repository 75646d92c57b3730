"""A recording as a whole, of which blocks come: its picture, and what is doubtful."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lmaczs.band import power_warnings
from lmaczs.block_stft import BlockStft
from lmaczs.frontend import FrontEnd, power

if TYPE_CHECKING:
    from lmaczs.report.band_track import BandTrack


class Overview:
    """Power of a recording: in each bin, and over time for a picture.

    Parameters
    ----------
    front_end : FrontEnd
        The checkpoint's.
    picture : bool
        Whether there is to be one.
    """

    def __init__(self, front_end: FrontEnd, picture: bool = False) -> None:
        self.front_end = front_end
        self.samples = 0
        self._stft = BlockStft(front_end)
        self._power, self._rows = 0.0, torch.zeros(front_end.n_freqs).double()
        self._track: BandTrack | None = None
        if picture:
            from lmaczs.report.band_track import BandTrack

            self._track = BandTrack(1, front_end.n_freqs, front_end.sample_rate)

    def push(self, block: Tensor) -> Tensor:
        """Take samples [n], return the columns [F, m] of the STFT that are final."""
        self.samples += len(block)
        self._power += float(block.double().square().sum())
        return self._seen(self._stft.push(block))

    def finish(self) -> Tensor:
        """Return the columns that are left, at the end of the recording."""
        return self._seen(self._stft.flush())

    def _seen(self, columns: Tensor) -> Tensor:
        kept = power(columns)
        self._rows += kept.sum(1, dtype=torch.float64)
        if self._track is not None:
            self._track.add(kept)
        return columns

    def warnings(
        self, own_power: float | None, others: Iterable[str] = ()
    ) -> tuple[str, ...]:
        """What of the recording the model does not hear, behind other warnings.

        `own_power` is the recording's mean power at its own rate; see `lmaczs.band`.
        """
        mean = self._power / max(1, self.samples)
        band = power_warnings(self.front_end, self._rows, mean, own_power)
        return tuple(dict.fromkeys([*others, *band]))

    def bands(self) -> Tensor:
        """Power in bands, [256, T]; there has to be a picture."""
        assert self._track is not None
        (bands,) = self._track.means()
        return bands
