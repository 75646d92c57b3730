"""Where the waveforms of clips come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pandas as pd
from torch import Tensor

from lmaczs.data.segments import segments_of


class ClipReader(Protocol):
    """Reads the clips of a table."""

    def read(self, row: int) -> Tensor:
        """Waveform [samples] of the clip of a row, at the model's rate."""
        ...

    def at_hand(self) -> Sequence[int] | None:
        """Rows that can be read without delay; None: any."""
        ...


class FileReader:
    """Reads clips from recordings, or from parts of recordings.

    Parameters
    ----------
    table : DataFrame
        A row a clip: path; start and stop (seconds; NaN: where the recording begins
        and ends) where it is a part.
    sample_rate : int
        Rate of the waveforms, Hz.
    keep_in_memory : bool
        Whether clips that were read are kept, by each worker its own.
    """

    def __init__(
        self, table: pd.DataFrame, sample_rate: int, keep_in_memory: bool = True
    ) -> None:
        self.segments = segments_of(table)
        self.sample_rate = sample_rate
        self.memory: dict[int, Tensor] | None = {} if keep_in_memory else None

    def read(self, row: int) -> Tensor:
        """Waveform [samples] of the clip of a row, at the model's rate."""
        if self.memory is not None and row in self.memory:
            return self.memory[row]
        wav = self.segments[row].load(self.sample_rate)
        if self.memory is not None:
            self.memory[row] = wav
        return wav

    def at_hand(self) -> None:
        """Any row can be read."""
        return
