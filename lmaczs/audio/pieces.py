"""A file seen as pieces of itself, with other bytes between them.

So a decoder gets a header whose sizes are right, one of several recordings in a file,
or the sound without the tags, and nothing is copied.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

Piece = bytes | tuple[int, int]
"""Bytes, or begin and end of a range of the file."""


def size_of(piece: Piece) -> int:
    """Bytes of a piece."""
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]


def with_patches(start: int, end: int, patches: dict[int, bytes]) -> tuple[Piece, ...]:
    """Range of a file in which bytes at some places, in order, are others."""
    pieces: list[Piece] = []
    for place, new in patches.items():
        pieces += [(start, place), new]
        start = place + len(new)
    return *pieces, (start, end)


class PiecesFile(io.RawIOBase):
    """Pieces of a file, one after another, as a file that can be read and sought.

    Parameters
    ----------
    path : Path
        The file.
    pieces : sequence of Piece
        In order; ranges lie within the file.
    """

    def __init__(self, path: Path, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self._pieces = [piece for piece in pieces if size_of(piece)]
        self._starts = [0, *accumulate(map(size_of, self._pieces))]
        self._place = 0
        self._file = open(path, "rb", buffering=0)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte, as other files do."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place}
        self._place = max(0, origin.get(whence, self._starts[-1]) + offset)
        return self._place

    def readinto(self, buffer: object) -> int:
        """Read what is left of one piece at most; 0 bytes at the end."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        number = bisect_right(self._starts, self._place) - 1
        if number >= len(self._pieces):
            return 0
        piece, inside = self._pieces[number], self._place - self._starts[number]
        size = min(len(view), size_of(piece) - inside)
        if isinstance(piece, bytes):
            view[:size] = piece[inside : inside + size]
        else:
            self._file.seek(piece[0] + inside)
            size = self._file.readinto(view[:size]) or 0
        self._place += size
        return size

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()
