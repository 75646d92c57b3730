"""What inspecting a sound file yields: its parts, and what is doubtful about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from lmaczs.audio.pieces import Piece

MAX_PARTS = 10_000
"""Recordings of a file that are looked for."""


@dataclass(frozen=True)
class Part:
    """One recording of a file; joined files have several.

    Attributes
    ----------
    pieces : tuple of Piece
        What a decoder is to read.
    note : str
        What is doubtful about its header; empty if nothing is.
    lack : str
        What it lacks of what its header states; empty if nothing is known to be.
    """

    pieces: tuple[Piece, ...]
    note: str = ""
    lack: str = ""


class Found(NamedTuple):
    """A recording in a file."""

    part: Part
    end: int
    """Of all that belongs to it."""
    plain: bool
    """Whether a decoder reads it rightly as it is."""


@dataclass(frozen=True)
class Contents:
    """The recordings in a file, in order.

    Attributes
    ----------
    parts : tuple of Part
        At least one.
    whole : bool
        Whether the decoder can read the file as it is.
    """

    parts: tuple[Part, ...]
    whole: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of the parts, each once."""
        return tuple(dict.fromkeys(part.note for part in self.parts if part.note))

    @property
    def lacks(self) -> tuple[str, ...]:
        """What the parts lack, each once."""
        return tuple(dict.fromkeys(part.lack for part in self.parts if part.lack))
