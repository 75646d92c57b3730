"""Where the waveforms of clips come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pandas as pd
from torch import Tensor

from lmaczs.data.recordings import require_sound
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

    The table has path, and start and stop (seconds; NaN: at the recording's begin or
    end) where clips are parts. With `keep_in_memory` each worker caches what it read.
    """

    def __init__(
        self, table: pd.DataFrame, sample_rate: int, keep_in_memory: bool = True
    ) -> None:
        self.segments = segments_of(table)
        self.sample_rate, self.keep_in_memory = sample_rate, keep_in_memory
        self.memory: dict[int, Tensor] = {}

    def read(self, row: int) -> Tensor:
        """Waveform [samples] of the clip of a row, at the model's rate.

        `AudioError` if it cannot be read, or its samples are no sound.
        """
        if row in self.memory:
            return self.memory[row]
        segment = self.segments[row]
        wav = segment.load(self.sample_rate)
        require_sound(wav.numpy(), segment.path)
        if self.keep_in_memory:
            self.memory[row] = wav
        return wav

    def at_hand(self) -> None:
        """Any row can be read."""
        return
