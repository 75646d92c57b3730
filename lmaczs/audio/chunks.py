"""Sound files whose headers state sizes: WAV, RF64, BW64, W64, AIFF, AU and CAF.

A stated size may be too small (32 bits that wrapped), too large, zero or unknown. What
lies in the file decides: the sound goes on to what is known to be something else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from lmaczs.audio.contents import Found, Part
from lmaczs.audio.file_bytes import Data, unpack_at
from lmaczs.audio.pieces import Piece, with_patches
from lmaczs.audio.tags import after_tags, after_zeros, before_tags

UNKNOWN_SIZE = 0x7F000000
"""Sizes of 32 bits from here on are what writers to a pipe put for "not known yet"."""

UNKNOWN_WIDE = 1 << 62
"""The same of 64 bits."""

MAX_CHUNKS = 10_000
"""Chunks that are looked at, so that a file of empty ones takes no minute."""

LEFT_OVER = 64
"""Bytes behind the sound up to which they are nothing that anybody would miss."""

W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
W64_RIFF = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
WAVES = (b"RIFF", b"RIFX", b"RF64", b"BW64")
METADATA = (
    *(b"LIST", b"bext", b"id3 ", b"ID3 ", b"cue ", b"smpl", b"iXML", b"guan", b"JUNK"),
    *(b"PEAK", b"fact", b"MARK", b"INST", b"COMT", b"APPL", b"NAME", b"AUTH", b"ANNO"),
)
"""Names of chunks that may be cut off behind the sound."""

Step = Callable[[Data, int, int], int | None]
"""Of data, a place and an end: bytes of the chunk there, None if there is none."""


class Extent(NamedTuple):
    """Where sound ends in a file."""

    stop: int
    end: int
    """Of all that belongs to it, such as tags behind it."""
    note: str = ""
    lack: str = ""


def is_recording(head: bytes) -> bool:
    """Whether 16 bytes are the first of a sound file of those that can be joined."""
    return (
        (head[:4] in WAVES and head[8:12] == b"WAVE")
        or (head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"))
        or (head[:4] == b".snd" and head[4:6] == b"\0\0")
        or head[:6] == b"caff\0\1"
        or head == W64_RIFF
        or (head[:4] == b"fLaC" and head[4] in (0, 0x80) and head[5:8] == b"\0\0\x22")
        or head[:6] == b"OggS\0\2"
    )


def extent_of(
    data: Data, body: int, stated: int | None, end: int, step: Step, wrap: int = 0
) -> Extent:
    """Find where the sound that begins at `body` ends.

    Parameters
    ----------
    data : bytes or FileBytes
        The file.
    body : int
        First byte of the sound.
    stated : int or None
        Its bytes by the header, None if that says that it does not know.
    end : int
        Of the file, or of the range that is looked at.
    step : Step
        How chunks of the format follow one another.
    wrap : int
        What sizes are taken modulo of by writers that do not care; 0: nothing.

    Returns
    -------
    Extent
    """
    there = end - body
    if stated is not None and stated > there:
        lack = f"the header announces {stated} bytes of sound, {there} are there"
        return Extent(end, end, lack=f"it is truncated: {lack}")
    sizes = [] if stated is None else range(stated, there + 1, wrap or there + 1)
    for size in sizes:
        last = _trailer(data, body + size, end, step)
        if last is not None:
            note = "" if size == stated else _too_small(stated, size)
            return Extent(body + size, last, note)
    stop = before_tags(data, body, end)
    if not stated:
        note = "its header does not state its length: it is read to the end of the file"
    else:
        note = _too_small(stated, stop - body)
    return Extent(stop, end, note)


def _too_small(stated: int | None, found: int) -> str:
    there = f"but there are {found}: all are read"
    return f"its header states {stated} bytes of sound, {there}"


def _trailer(data: Data, start: int, end: int, step: Step) -> int | None:
    """End of the chunks, tags and zeros that begin at `start`.

    It is the end of the file or the first byte of another recording; None if there are
    other bytes.
    """
    for _ in range(MAX_CHUNKS):
        start = after_tags(data, start, end)
        head = data[start : start + 8]
        padded = start + len(head) - len(head.lstrip(b"\0"))
        if is_recording(data[padded : padded + 16]):
            return padded
        if end - start < LEFT_OVER:
            return end
        if head == bytes(8):
            start = after_zeros(data, start, end)
            if start < end and not is_recording(data[start : start + 16]):
                return None
            continue
        size = step(data, start, end)
        if size is None:
            return None
        start = min(start + size, end)
    return end


def _places(
    data: Data, start: int, end: int, order: str, last: bytes
) -> dict[bytes, tuple[int, int]]:
    """First byte and stated size of the chunks of a WAV or AIFF file, up to `last`."""
    found: dict[bytes, tuple[int, int]] = {}
    for _ in range(MAX_CHUNKS):
        if start + 8 > end or last in found:
            break
        name, size = unpack_at(f"{order}4sI", data, start)
        if not _is_name(name):
            break
        found[name] = start + 8, size
        start += 8 + size
        # some writers do not pad: the next name is there at once
        follows = data[start : start + 4] in (last, b"fmt ", *METADATA)
        start += size % 2 and not follows
    return found


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= one < 127 for one in name)


def _step(order: str) -> Step:
    """How the chunks of WAV and AIFF follow one another; padding may lack."""

    def step(data: Data, start: int, end: int) -> int | None:
        for begin in (start, start + start % 2):
            name, size = unpack_at(f"{order}4sI", data, begin)
            stop = begin + 8 + size
            if _is_name(name) and (stop <= end or name in METADATA):
                even = stop % 2 and not _is_name(data[stop : stop + 4])
                return stop + bool(even) - start
        return None

    return step


# --- WAV, RF64, BW64, W64 -----------------------------------------------------------


def wave_header(fmt: bytes, size: int, order: str = "<") -> bytes:
    """Header of a WAV of `size` bytes of sound; of RF64 where they are too many."""
    chunk = struct.pack(f"{order}4sI", b"fmt ", len(fmt)) + fmt + bytes(len(fmt) % 2)
    if size < UNKNOWN_SIZE or order == ">":
        body = b"WAVE" + chunk + struct.pack(f"{order}4sI", b"data", size)
        name = b"RIFX" if order == ">" else b"RIFF"
        return struct.pack(f"{order}4sI", name, len(body) + size) + body
    block = max(1, struct.unpack_from("<H", fmt, 12)[0])
    rest = chunk + struct.pack("<4sI", b"data", 0xFFFFFFFF)
    sizes = len(rest) + 40 + size, size, size // block, 0
    wide = struct.pack("<4sIQQQI", b"ds64", 28, *sizes)
    return struct.pack("<4sI", b"RF64", 0xFFFFFFFF) + b"WAVE" + wide + rest


def wave(data: Data, start: int, end: int) -> Found | None:
    """Read a WAV, RF64 or BW64 header; None if it leads to no sound."""
    magic = data[start : start + 4]
    order = ">" if magic == b"RIFX" else "<"
    places = _places(data, start + 12, end, order, b"data")
    if b"data" not in places or b"fmt " not in places:
        return None
    place, size = places[b"fmt "]
    fmt = data[place : place + size]
    body, size = places[b"data"]
    stated: int | None = size
    if magic in (b"RF64", b"BW64") and size == 0xFFFFFFFF:
        wide, _ = places.get(b"ds64", (end, 0))
        (size,) = unpack_at("<Q", data, wide + 8)
        stated = size if 0 < size < UNKNOWN_WIDE else None
    elif size >= UNKNOWN_SIZE and size > end - body:
        stated = None
    extent = extent_of(data, body, stated, end, _step(order), 1 << 32)
    padded = all((one - start) % 2 == 0 for one, _ in places.values())
    plain = padded and magic != b"BW64" and not extent.note and not extent.lack
    pieces: tuple[Piece, ...] = ((start, extent.end),)
    if not plain:
        header = wave_header(fmt, extent.stop - body, order)
        pieces = header, (body, extent.stop)
    return Found(Part(pieces, extent.note, extent.lack), extent.end, plain)


def _wide_step(data: Data, start: int, end: int) -> int | None:
    """How the chunks of W64 follow one another: at multiples of 8 bytes."""
    start += -start % 8
    if data[start + 4 : start + 16] != W64_TAIL or start + 24 > end:
        return None
    (size,) = unpack_at("<Q", data, start + 16)
    return -(-size // 8) * 8 if 24 <= size <= end - start else None


def wave64(data: Data, start: int, end: int) -> Found | None:
    """Read a W64 header; it becomes one of WAV where it is not right."""
    place, fmt = start + 40, b""
    for _ in range(MAX_CHUNKS):
        name = data[place : place + 16]
        if place + 24 > end or name[4:] != W64_TAIL:
            return None
        (size,) = unpack_at("<Q", data, place + 16)
        if name[:4] == b"data":
            break
        if name[:4] == b"fmt ":
            fmt = data[place + 24 : place + size]
        place += max(24, -(-size // 8) * 8)
    body = place + 24
    if len(fmt) < 16:
        return None
    stated = size - 24 if 24 <= size < UNKNOWN_WIDE else None
    extent = extent_of(data, body, stated, end, _wide_step)
    # libsndfile reads what follows as sound
    plain = not extent.note and not extent.lack and extent.stop + 8 > end
    pieces: tuple[Piece, ...] = ((start, extent.end),)
    if not plain:
        pieces = wave_header(fmt, extent.stop - body), (body, extent.stop)
    return Found(Part(pieces, extent.note, extent.lack), extent.end, plain)


# --- AIFF, AU, CAF ------------------------------------------------------------------


def aiff(data: Data, start: int, end: int) -> Found | None:
    """Read an AIFF or AIFC header; None if it leads to no sound."""
    places = _places(data, start + 12, end, ">", b"SSND")
    if b"SSND" not in places or b"COMM" not in places:
        return None
    body, size = places[b"SSND"]
    known = 8 <= size < UNKNOWN_SIZE or size <= end - body
    sound = body + 8
    stated = max(0, size - 8) if known else None
    extent = extent_of(data, sound, stated, end, _step(">"), 1 << 32)
    if not extent.note and not extent.lack:
        return Found(Part(((start, extent.end),)), extent.end, True)
    channels, _, bits = unpack_at(">HIH", data, places[b"COMM"][0])
    stop = min(extent.stop, sound + 0xFFFFFFFF - 64)
    frames = (stop - sound) // max(1, channels * -(-bits // 8))
    patches = {
        start + 4: struct.pack(">I", stop - start - 8),
        places[b"COMM"][0] + 2: struct.pack(">I", frames),
        body - 4: struct.pack(">I", stop - body),
    }
    pieces = with_patches(start, stop, patches)
    return Found(Part(pieces, extent.note, extent.lack), extent.end, False)


def _no_step(data: Data, start: int, end: int) -> int | None:
    """AU has no chunks."""
    return None


def au(data: Data, start: int, end: int) -> Found | None:
    """Read an AU header, of either byte order."""
    order = ">" if data[start : start + 4] == b".snd" else "<"
    offset, size = unpack_at(f"{order}II", data, start + 4)
    body = start + max(24, offset)
    if body > end:
        return None
    known = size < UNKNOWN_SIZE or size <= end - body
    extent = extent_of(data, body, size if known else None, end, _no_step, 1 << 32)
    if not extent.note and not extent.lack:
        return Found(Part(((start, extent.end),)), extent.end, True)
    size = min(extent.stop - body, 0xFFFFFFFF)  # which is what AU has for unknown
    patch = {start + 8: struct.pack(f"{order}I", size)}
    pieces = with_patches(start, extent.stop, patch)
    return Found(Part(pieces, extent.note, extent.lack), extent.end, False)


def _core_step(data: Data, start: int, end: int) -> int | None:
    """How the chunks of CAF follow one another."""
    name, size = unpack_at(">4sq", data, start)
    return 12 + size if _is_name(name) and 0 <= size <= end - start - 12 else None


def core(data: Data, start: int, end: int) -> Found | None:
    """Read the header of a Core Audio file (CAF); None if it leads to no sound."""
    place = start + 8
    for _ in range(MAX_CHUNKS):
        if place + 12 > end:
            return None
        name, size = unpack_at(">4sq", data, place)
        if name == b"data":
            break
        if not _is_name(name) or size < 0:
            return None
        place += 12 + size
    sound = place + 16  # behind the number of edits
    stated = max(0, size - 4) if 0 <= size < UNKNOWN_WIDE else None
    extent = extent_of(data, sound, stated, end, _core_step)
    if not extent.note and not extent.lack:
        return Found(Part(((start, extent.end),)), extent.end, True)
    patch = {place + 4: struct.pack(">q", extent.stop - place - 12)}
    pieces = with_patches(start, extent.stop, patch)
    return Found(Part(pieces, extent.note, extent.lack), extent.end, False)
