"""Clips as parts of recordings."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
from torch import Tensor

from lmaczs.audio.io import load_audio


class Segment(NamedTuple):
    """Where a clip lies in a recording, in seconds; None: its begin or end."""

    path: str
    start: float | None = None
    stop: float | None = None

    def load(self, sample_rate: int) -> Tensor:
        """Read the waveform [samples], see `load_audio`; refuse a truncated one."""
        start, stop = self.start, self.stop
        return load_audio(self.path, sample_rate, start=start, stop=stop, strict=True)


def segments_of(table: pd.DataFrame) -> list[Segment]:
    """Segments of a table's clips, from path, and start and stop if there are any."""
    places = table.reindex(columns=["path", "start", "stop"])
    places = places.astype(object).where(places.notna(), None)
    return [Segment(*place) for place in places.itertuples(index=False, name=None)]
