"""Joined streams: OGG, FLAC and MP3 files that hold more than their first header says.

Decoders stop after the first; here the file is divided where the next one begins.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from mmap import mmap
from typing import NamedTuple

from lmaczs.audio.chunks import Found
from lmaczs.audio.contents import Part
from lmaczs.audio.flac_frames import found_samples, stated_samples, with_samples
from lmaczs.audio.pieces import Piece, with_patches
from lmaczs.audio.tags import after_tags, after_zeros, before_tags

Data = bytes | mmap

MAX_PARTS = 10_000
"""Recordings of a file that are looked for."""

# --- OGG ----------------------------------------------------------------------------

OGG_FIRST = re.compile(rb"OggS\0[\2\3\6\7]")
"""A page with which a stream begins."""

ENDED = 4
"""Flag of a page with which a stream ends."""


def _page_size(data: Data, start: int) -> int:
    """Bytes of an Ogg page (RFC 3533), also of one that is cut off."""
    segments = data[start + 26]
    return 27 + segments + sum(data[start + 27 : start + 27 + segments])


def ogg(data: Data, start: int, end: int) -> list[Found]:
    """Divide an Ogg file into the links of its chain."""
    firsts = [start]
    follows = start  # where a page of the same link would begin, if it were a first one
    for match in OGG_FIRST.finditer(data, start, end):
        place = match.start()
        if place > follows:
            firsts.append(place)
        if place + 27 > end or len(firsts) > MAX_PARTS:
            break
        follows = place + _page_size(data, place)
    return [
        Found(Part(((first, stop),), lack=_ogg_lack(data, first, stop)), stop, True)
        for first, stop in pairwise([*firsts, end])
    ]


def _ogg_lack(data: Data, start: int, end: int) -> str:
    """What the end of a link shows that it lacks."""
    last = data.rfind(b"OggS", start, end)
    if last < 0:
        return ""
    if last + 27 > end:
        return "it is truncated: its last page is cut off"
    lacking = last + _page_size(data, last) - end
    if lacking > 0:
        return f"it is truncated: its last page lacks {lacking} bytes"
    if not data[last + 5] & ENDED:
        return "it is truncated: its stream has no end"
    return ""


# --- FLAC ---------------------------------------------------------------------------

FLAC_FIRST = re.compile(rb"fLaC[\0\x80]\0\0\x22")
"""The marker and the header of STREAMINFO, which comes first and has 34 bytes."""


def flac(data: Data, start: int, end: int) -> list[Found]:
    """Divide a file into the FLAC streams that were joined, without tags."""
    firsts = [match.start() for match in FLAC_FIRST.finditer(data, start, end)]
    found = []
    for first, stop in pairwise([start, *firsts[1:MAX_PARTS], end]):
        found.append(_flac_part(data, first, stop))
    return found


def _flac_part(data: Data, start: int, end: int) -> Found:
    """One stream, without tags; its header states what its last frame shows."""
    stop = before_tags(data, start, end)
    stated = stated_samples(data, start)
    if not stated or (samples := found_samples(data, start, stop)) <= stated:
        return Found(Part(((start, stop),)), end, stop == end)
    pieces = with_patches(start, stop, with_samples(data, start, samples))
    there = f"but there are {samples}: all are read"
    note = f"its header states {stated} samples, {there}"
    return Found(Part(pieces, note), end, False)


# --- MP3 ----------------------------------------------------------------------------

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

SURE = 4
"""Frames in a row that are no accident."""

UNENDING = 1 << 62
"""An end that is so far away that the last frames of a file count for nothing."""

LAST_BYTES = 512
"""Bytes at the end of a file that may be a tag, or no whole frame."""

XING_PLACES = (36, 21, 13)
"""Where the word Xing or Info is in a frame: behind header and side information."""


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
    place, last = start, min(end, start + RUBBISH)
    while (place := data.find(b"\xff", place + 1, last)) >= 0:
        if _chain(data, place, UNENDING, SURE):
            return place
    return None


def _chain(data: Data, place: int, end: int, at_least: int = 2) -> bool:
    """Whether frames of one kind, or the last ones of the file, begin here."""
    kind = None
    for number in range(at_least):
        frame = frame_of(data[place : place + 4])
        if frame is None or frame.kind != (kind or frame.kind):
            return number > 0 and end - place < LAST_BYTES
        kind, place = frame.kind, place + frame.size
    return True


def _xing_frames(data: Data, start: int, end: int) -> dict[int, int]:
    """Where frames with an index would begin, and where the word is in them."""
    found: dict[int, int] = {}
    for word in (b"Xing", b"Info"):
        place = start
        while (place := data.find(word, place, end)) >= 0:
            found |= {place - offset: place for offset in XING_PLACES}
            place += len(word)
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
    while (place := data.find(b"\xff", place + 1, end)) >= 0:
        if _chain(data, place, end):
            return place
    return end


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
    flags, stated = struct.unpack_from(">II", data, run.xing + 4)
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
