"""MP3 and MP2 files: their frames, counted, and divided where another recording begins.

A file may lack the index that states its length, or have one that is wrong; tags and
other bytes may lie before, between and behind the frames.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from lmaczs.audio.contents import MAX_PARTS, Found, Part
from lmaczs.audio.file_bytes import Data, places, unpack_at
from lmaczs.audio.pieces import Piece, with_patches
from lmaczs.audio.tags import after_tags, after_zeros

KBITS = {
    (1, 1): (*range(32, 449, 32),),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates by version (2 is 2.5, too) and layer (ISO/IEC 11172-3, 13818-3)."""

MPEG1_RATES = (44100, 48000, 32000)

RUBBISH = 1 << 16
"""Bytes in front of the first frame that are searched for it."""

SYNC = re.compile(rb"\xff")
"""The first byte of a frame."""

SURE = 4
"""Frames in a row, behind rubbish, that are no accident."""

LAST_BYTES = 512
"""Bytes at the end of a file that may be a tag, or no whole frame."""

LAST_FRAME = 2048
"""Bytes, at the end of a file, that may be its last frame and a tag."""

INDEX = re.compile(rb"Xing|Info")
XING_PLACES = (36, 21, 13)
"""Where that word is in a frame: behind header and side information."""


class Frame(NamedTuple):
    """Header of a frame."""

    size: int
    kind: tuple[int, int, int, bool]
    """Version, layer, index of the rate and whether it is mono."""


@lru_cache(maxsize=4096)
def frame_of(header: bytes) -> Frame | None:
    """Read the header of a frame, 4 bytes; None if it is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version = {3: 1, 2: 2, 0: 4}.get(header[1] >> 3 & 3)  # MPEG 1, 2 and 2.5
    layer = 4 - (header[1] >> 1 & 3)
    bitrate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version is None or layer == 4 or not 0 < bitrate < 15 or rate == 3:
        return None
    bits = 1000 * KBITS[min(version, 2), layer][bitrate - 1]
    hertz, padding = MPEG1_RATES[rate] // version, header[2] >> 1 & 1
    if layer == 1:
        size = 4 * (12 * bits // hertz + padding)
    else:
        samples = 576 if layer == 3 and version > 1 else 1152
        size = samples // 8 * bits // hertz + padding
    return Frame(size, (version, layer, rate, header[3] >> 6 == 3))


@dataclass
class _Run:
    """Frames that a decoder reads as one recording."""

    kind: tuple[int, int, int, bool]
    xing: int | None
    """Place of the word Xing or Info."""
    frames: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)
    lack: str = ""

    @property
    def stop(self) -> int:
        """End of the last frame."""
        return self.ranges[-1][1]

    def add(self, start: int, size: int) -> None:
        """Take a frame."""
        self.frames += 1
        if self.ranges and self.ranges[-1][1] == start:
            self.ranges[-1] = (self.ranges[-1][0], start + size)
        else:
            self.ranges.append((start, start + size))


def mp3(data: Data, start: int, end: int) -> list[Found]:
    """Divide a file of MPEG frames where another recording begins.

    Tags between them are left out. Empty if it is no such file.
    """
    first = _first_frame(data, start, end)
    if first is None:
        return []
    runs = _runs(data, first, end)
    # a decoder takes what follows for frames, and an index for wrong
    plain = len(runs) == 1 and first == start and end - runs[0].stop < LAST_BYTES
    found = []
    for run in runs:
        part, right = _with_index(data, run)
        found.append(Found(part, end, plain and right))
    return found


def _first_frame(data: Data, start: int, end: int) -> int | None:
    """Where the first of some frames in a row begins."""
    start = after_zeros(data, start, end)
    start = after_tags(data, start, end)
    if _chain(data, start, end):
        return start
    last = min(end, start + RUBBISH)
    for place in places(SYNC, 1, data, start + 1, last):
        if _chain_length(data, place) == SURE:
            return place
    return None


def _chain(data: Data, place: int, end: int) -> bool:
    """Whether two frames of one kind, or the last one of the file, begin here."""
    length = _chain_length(data, place)
    return length > 1 or (length == 1 and end - place < LAST_FRAME)


def _chain_length(data: Data, place: int) -> int:
    """Number of frames of one kind that begin here, counted up to `SURE`."""
    first = frame_of(data[place : place + 4])
    if first is None:
        return 0
    place += first.size
    for number in range(1, SURE):
        frame = frame_of(data[place : place + 4])
        if frame is None or frame.kind != first.kind:
            return number
        place += frame.size
    return SURE


def _xing_frames(data: Data, start: int, end: int) -> dict[int, int]:
    """Where frames with an index would begin, and where the word is in them."""
    found: dict[int, int] = {}
    for place in places(INDEX, 4, data, start, end):
        found |= {place - offset: place for offset in XING_PLACES}
    return found


def _runs(data: Data, place: int, end: int) -> list[_Run]:
    """Follow the frames to the end; a run ends at an index or another kind of frame."""
    indices = _xing_frames(data, place, end)
    runs: list[_Run] = []
    kind = None
    while place < end and len(runs) <= MAX_PARTS:
        frame = frame_of(data[place : place + 4])
        if frame is None or (kind != frame.kind and not _chain(data, place, end)):
            place = _next_frame(data, place, end)
            continue
        if place + frame.size > end:
            if runs:
                lacking = place + frame.size - end
                runs[-1].lack = f"it is truncated: its last frame lacks {lacking} bytes"
            break
        if kind != frame.kind or place in indices:
            kind = frame.kind
            runs.append(_Run(kind, indices.get(place)))
        runs[-1].add(place, frame.size)
        place += frame.size
    return runs


def _next_frame(data: Data, place: int, end: int) -> int:
    """Where frames go on behind bytes that are none."""
    skipped = after_zeros(data, after_tags(data, place, end), end)
    if skipped > place:
        return skipped
    following = places(SYNC, 1, data, place + 1, end)
    return next((one for one in following if _chain(data, one, end)), end)


def _with_index(data: Data, run: _Run) -> tuple[Part, bool]:
    """A run as a part whose index is right, and whether it was so."""
    ranges: tuple[Piece, ...] = tuple(run.ranges)
    sound = Part(ranges, lack=run.lack)
    frames = run.frames - (run.xing is not None)
    size = sum(stop - start for start, stop in run.ranges)
    if run.xing is None:
        if run.kind[1] != 3:
            return sound, not run.lack
        # without it libsndfile guesses a length, and reads no further
        return replace(sound, pieces=(_index(data, run, frames), *ranges)), False
    flags, stated = unpack_at(">II", data, run.xing + 4)
    if not flags & 1 or (abs(stated - frames) <= 1 and not run.lack):
        return sound, len(ranges) == 1 and not run.lack
    patches = {run.xing + 8: struct.pack(">I", frames)}
    if flags & 2:
        patches[run.xing + 12] = struct.pack(">I", size)
    start, stop = run.ranges[0]
    pieces = *with_patches(start, stop, patches), *run.ranges[1:]
    lack, note = run.lack, ""
    if stated > frames:
        lack = lack or f"it is truncated: it has {frames} of {stated} frames"
    elif stated < frames:
        note = (
            f"its header states {stated} frames, but there are {frames}: all are read"
        )
    return Part(pieces, note, lack), False


def _index(data: Data, run: _Run, frames: int) -> bytes:
    """A frame that holds no sound but the number of those that follow."""
    start = run.ranges[0][0]
    a, b, c, d = data[start : start + 4]
    head = bytes([a, b | 1, 5 << 4 | c & 0xC, d])  # no check sum, a middle bit rate
    frame = frame_of(head)
    version, _, _, mono = run.kind
    place = 36 - 15 * mono if version == 1 else 21 - 8 * mono
    body = head + bytes(place - 4) + b"Info" + struct.pack(">II", 1, frames)
    return body.ljust(frame.size if frame else 0, b"\0")
