"""A recording as a whole, of which blocks come: its picture, and what is doubtful."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

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
        self._own_power: float | None = None
        self._doubts: tuple[str, ...] = ()
        self._stft = BlockStft(front_end)
        self._power, self._rows = 0.0, torch.zeros(front_end.n_freqs).double()
        self.picture = picture
        self._track: BandTrack | None = None
        if picture:
            from lmaczs.report.band_track import BandTrack
            from lmaczs.report.level_track import LevelTrack

            self._track = BandTrack(1, front_end.n_freqs, front_end.sample_rate)
            self._levels = LevelTrack(front_end.sample_rate)

    def push(self, block: Tensor) -> Tensor:
        """Take samples [n], return the columns [F, m] of the STFT that are final."""
        self.samples += len(block)
        self._power += float(block.double().square().sum())
        if self._track is not None:
            self._levels.add(block.numpy())
        return self._seen(self._stft.push(block))

    def finish(
        self, own_power: float | None = None, doubts: Iterable[str] = ()
    ) -> Tensor:
        """Return the columns that are left, at the end of the recording.

        `own_power` is the recording's mean power at its own rate, `doubts` what else is
        doubtful about it.
        """
        self._own_power, self._doubts = own_power, tuple(doubts)
        return self._seen(self._stft.flush())

    def _seen(self, columns: Tensor) -> Tensor:
        kept = power(columns)
        self._rows += kept.sum(1, dtype=torch.float64)
        if self._track is not None:
            self._track.add(kept)
        return columns

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.samples / self.front_end.sample_rate

    def warnings(self) -> tuple[str, ...]:
        """What is doubtful about the recording: last what the model does not hear.

        See `lmaczs.band`.
        """
        mean = self._power / max(1, self.samples)
        band = power_warnings(self.front_end, self._rows, mean, self._own_power)
        return tuple(dict.fromkeys([*self._doubts, *band]))

    def bands(self) -> Tensor:
        """Power in bands, [256, T]; there has to be a picture."""
        assert self._track is not None
        (bands,) = self._track.means()
        return bands

    def levels(self) -> dict[str, Any]:
        """Levels over time, see `LevelTrack`; there has to be a picture."""
        return self._levels.levels()
