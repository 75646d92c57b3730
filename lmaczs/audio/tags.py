"""Tags around and between the sound in a file: ID3, APE, zeros."""

from __future__ import annotations

import re
import struct

from lmaczs.audio.file_bytes import Data, places

NOT_ZERO = re.compile(rb"[^\0]")
APE_BYTES = 32
"""Of the header, and of the footer, of an APE tag."""

ID3V1_BYTES = 128


def after_tags(data: Data, start: int, end: int) -> int:
    """First byte from `start` on that is of no ID3v2, ID3v1 or APE tag."""
    while start < end and (size := _tag_size(data, start)):
        start = min(end, start + size)
    return start


def before_tags(data: Data, start: int, end: int) -> int:
    """End of what lies before the ID3v1 and APE tags at the end of a range."""
    while True:
        last = end - ID3V1_BYTES
        if last >= start and data[last : last + 3] == b"TAG":
            end = last
            continue
        footer = data[max(start, end - APE_BYTES) : end]
        if footer[:8] != b"APETAGEX" or len(footer) < APE_BYTES:
            return end
        size, _, flags = struct.unpack_from("<III", footer, 12)
        size += APE_BYTES if flags >> 31 else 0  # it has a header, too
        if not APE_BYTES <= size <= end - start:
            return end
        end -= size


def after_zeros(data: Data, start: int, end: int) -> int:
    """First byte from `start` on that is not 0, in whole 8 bytes, or `end`."""
    other = next(places(NOT_ZERO, 1, data, start, end), None)
    return end if other is None else start + (other - start) // 8 * 8


def _tag_size(data: Data, start: int) -> int:
    """Bytes of the tag that begins here, 0 if none does."""
    head = data[start : start + APE_BYTES]
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 128:
        a, b, c, d = head[6:10]
        footer = 10 if head[5] & 0x10 else 0
        return 10 + (a << 21 | b << 14 | c << 7 | d) + footer
    if head[:3] == b"TAG" and len(data[start : start + ID3V1_BYTES]) == ID3V1_BYTES:
        return ID3V1_BYTES
    if head[:8] == b"APETAGEX" and len(head) == APE_BYTES:
        size, _, flags = struct.unpack_from("<III", head, 12)
        is_header = flags >> 29 & 1
        return (size + APE_BYTES) if is_header else APE_BYTES
    return 0
