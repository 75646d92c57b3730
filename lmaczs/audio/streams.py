"""Joined streams: OGG and FLAC files that hold more than their first header says.

Decoders stop after the first; here the file is divided where the next one begins.
"""

from __future__ import annotations

import re
from itertools import pairwise

from lmaczs.audio.contents import MAX_PARTS, Found, Part
from lmaczs.audio.file_bytes import Data, last_place, places
from lmaczs.audio.flac_frames import found_samples, stated_samples, with_samples
from lmaczs.audio.pieces import with_patches
from lmaczs.audio.tags import before_tags

# --- OGG ----------------------------------------------------------------------------

OGG_FIRST = re.compile(rb"OggS\0[\2\3\6\7]")
"""A page with which a stream begins."""

ENDED = 4
"""Flag of a page with which a stream ends."""


def _page_size(data: Data, start: int) -> int:
    """Bytes of an Ogg page (RFC 3533), also of one that is cut off."""
    head = data[start : start + 27 + 255]
    segments = head[26]
    return 27 + segments + sum(head[27 : 27 + segments])


def ogg(data: Data, start: int, end: int) -> list[Found]:
    """Divide an Ogg file into the links of its chain."""
    firsts = [start]
    follows = start  # where a page of the same link would begin, if it were a first one
    for place in places(OGG_FIRST, 6, data, start, end):
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
    last = last_place(b"OggS", data, start, end)
    if last < 0:
        return ""
    if last + 27 > end:
        return "it is truncated: its last page is cut off"
    lacking = last + _page_size(data, last) - end
    if lacking > 0:
        return f"it is truncated: its last page lacks {lacking} bytes"
    if not data[last + 5 : last + 6][0] & ENDED:
        return "it is truncated: its stream has no end"
    return ""


# --- FLAC ---------------------------------------------------------------------------

FLAC_FIRST = re.compile(rb"fLaC[\0\x80]\0\0\x22")
"""The marker and the header of STREAMINFO, which comes first and has 34 bytes."""


def flac(data: Data, start: int, end: int) -> list[Found]:
    """Divide a file into the FLAC streams that were joined, without tags."""
    firsts = [*places(FLAC_FIRST, 8, data, start, end)]
    ranges = pairwise([start, *firsts[1:MAX_PARTS], end])
    return [_flac_part(data, first, stop) for first, stop in ranges]


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
