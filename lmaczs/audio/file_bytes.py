"""Bytes of a file, read where they are looked at, in bounded pieces."""

from __future__ import annotations

import errno
import io
import re
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

WINDOW = 1 << 14
"""Bytes that are read at once where a few are looked at."""

SEARCHED = 1 << 12
"""Bytes that are searched first; then twice as many, up to `SEARCHED_AT_MOST`."""

SEARCHED_AT_MOST = 1 << 20


class FileBytes:
    """A file as a sequence of bytes whose slices are read when they are taken.

    A memory map would end the process if another one made the file shorter meanwhile.

    Parameters
    ----------
    file : BinaryIO
        Open, and regular; its place is changed.

    Raises
    ------
    OSError
        When a slice is taken: if the file has become shorter, or cannot be read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, file.seek(0, io.SEEK_END)
        self._start, self._window = 0, b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, key: slice) -> bytes:
        start, stop, _ = key.indices(self._size)
        inside, size = start - self._start, stop - start
        if size > WINDOW:
            return self._read(start, size)
        if inside < 0 or inside + size > len(self._window):
            self._window = self._read(start, min(WINDOW, self._size - start))
            self._start, inside = start, 0
        return self._window[inside : inside + max(0, size)]

    def _read(self, start: int, size: int) -> bytes:
        """Read as many bytes; an error if there are fewer."""
        self._file.seek(start)
        found = self._file.read(size)
        if len(found) < size:
            raise OSError(errno.EIO, "it became shorter while it was read")
        return found


Data = bytes | FileBytes
"""Content of a file."""


def unpack_at(form: str, data: Data, place: int) -> tuple[Any, ...]:
    """Unpack a struct at a place; `struct.error` if it does not lie there whole."""
    return struct.unpack(form, data[place : place + struct.calcsize(form)])


def places(
    pattern: re.Pattern[bytes], width: int, data: Data, start: int, end: int
) -> Iterator[int]:
    """Yield where matches of a pattern begin, in order.

    A match has `width` bytes, and no two overlap.
    """
    size = SEARCHED
    while start < end:
        piece = data[start : min(end, start + size + width - 1)]
        for match in pattern.finditer(piece):
            if match.start() < size:
                yield start + match.start()
        start, size = start + size, min(2 * size, SEARCHED_AT_MOST)


def last_place(word: bytes, data: Data, start: int, end: int) -> int:
    """First byte of the last occurrence of a word; -1 if there is none."""
    size = SEARCHED
    while start < end:
        first = max(start, end - size)
        found = data[first:end].rfind(word)
        if found >= 0:
            return first + found
        if first == start:
            break
        end, size = first + len(word) - 1, min(2 * size, SEARCHED_AT_MOST)
    return -1
