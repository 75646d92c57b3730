"""Clips as parts of recordings."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
from torch import Tensor

from lmaczs.audio.io import AudioError


class Cut(NamedTuple):
    """Where a clip lies in a recording.

    Attributes
    ----------
    path : str
        The recording.
    start : float, optional
        Seconds; None: where the recording begins.
    stop : float, optional
        Seconds; None: where the recording ends.
    """

    path: str
    start: float | None
    stop: float | None

    def of(self, whole: Tensor, rate: int) -> Tensor:
        """Cut the clip out.

        Parameters
        ----------
        whole : Tensor [n]
            The recording.
        rate : int
            Hz.

        Returns
        -------
        Tensor [samples]
            Memory of its own, where it is not the whole recording.

        Raises
        ------
        AudioError
            If the recording ends before the clip begins.
        """
        if self.start is None and self.stop is None:
            return whole
        first = round((self.start or 0) * rate)
        last = len(whole) if self.stop is None else round(self.stop * rate)
        if first >= min(last, len(whole)):
            end = "on" if self.stop is None else f"to {self.stop:g} s"
            raise AudioError(
                f"{self.path}: no sample from {self.start or 0:g} s {end}, it has "
                f"{len(whole) / rate:g} s"
            )
        return whole[first:last].clone()


def cuts_of(table: pd.DataFrame) -> list[Cut]:
    """Where each clip of a table lies.

    Parameters
    ----------
    table : DataFrame
        A row a clip: path; start and stop (seconds, NaN where it is not cut) or
        neither.

    Returns
    -------
    list of Cut
    """
    places = table.reindex(columns=["path", "start", "stop"])
    places = places.astype(object).where(places.notna(), None)
    return [Cut(*place) for place in places.itertuples(index=False, name=None)]
