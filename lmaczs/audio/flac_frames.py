"""How many samples a FLAC stream has, by the header of its last frame (RFC 9639)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from lmaczs.audio.file_bytes import Data, unpack_at

SYNC = re.compile(rb"\xff[\xf8\xf9]")
SEARCHED = 1 << 20
"""Bytes at the end of a stream that are searched: several frames."""

TOTAL = 21
"""Where STREAMINFO has the number of samples, behind 4 bits of another one."""


class FlacFrame(NamedTuple):
    """Header of a frame."""

    first: int
    """Its first sample."""
    samples: int


def stated_samples(data: Data, start: int) -> int:
    """Number of samples that the stream's header states, 0 if it does not."""
    high, low = unpack_at(">BI", data, start + TOTAL)
    return (high & 0xF) << 32 | low


def with_samples(data: Data, start: int, samples: int) -> dict[int, bytes]:
    """Patch that has the stream's header state so many samples."""
    high = data[start + TOTAL : start + TOTAL + 1][0] & 0xF0 | samples >> 32
    return {start + TOTAL: struct.pack(">BI", high, samples & 0xFFFFFFFF)}


def found_samples(data: Data, start: int, end: int) -> int:
    """Number of samples up to the end of the last frame; 0 if that is not known.

    The frame before it has to lead to it: bytes within a frame may look like a header.
    """
    (size,) = unpack_at(">H", data, start + 10)  # of all frames but the last
    first = max(start + 42, end - SEARCHED)
    tail = data[first:end]
    frames = list(_frames(tail, size))
    ends = {frame.first + frame.samples for frame in frames}
    known = [frame for frame in frames if frame.first in ends]
    return max((frame.first + frame.samples for frame in known), default=0)


def _frames(data: bytes, size: int) -> Iterator[FlacFrame]:
    """Headers in bytes, of which some may be none."""
    for match in SYNC.finditer(data):
        frame = frame_of(data[match.start() : match.start() + 16], size)
        if frame is not None:
            yield frame


def frame_of(header: bytes, size: int) -> FlacFrame | None:
    """Read a frame's header of up to 16 bytes; None if its check sum is not right.

    `size` is the stream's number of samples of a frame.
    """
    if len(header) < 6 or header[3] & 1 or header[2] >> 4 == 0:
        return None
    place, number = 5, header[4]
    more = max(0, 7 - (number ^ 0xFF).bit_length())  # bytes, as UTF-8 has them
    if number & 0x80:
        number &= 0x3F >> more
        for one in header[place : place + more]:
            number = number << 6 | one & 0x3F
        place += more
    code, rate = header[2] >> 4, header[2] & 15
    wide = {6: 1, 7: 2}.get(code, 0)
    samples = int.from_bytes(header[place : place + wide], "big") + 1
    place += wide + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if not wide:
        samples = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    if place >= len(header) or _crc8(header[:place]) != header[place]:
        return None
    return FlacFrame(number if header[1] & 1 else number * size, samples)


def _crc8(data: bytes) -> int:
    """Check sum of a header, of the polynomial x^8 + x^2 + x + 1."""
    crc = 0
    for one in data:
        crc ^= one
        for _ in range(8):
            crc = (crc << 1 ^ (0x07 if crc & 0x80 else 0)) & 0xFF
    return crc
