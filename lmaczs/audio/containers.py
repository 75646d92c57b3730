"""What a sound file holds, by its headers alone: recordings, and what is wrong.

libsndfile decodes the first of joined recordings, believes sizes that cannot be right,
and reads what there is of a truncated file without an error. These functions find
that; they never look at the sound.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from lmaczs.audio import chunks, streams
from lmaczs.audio.contents import MAX_PARTS, Contents, Found, Part
from lmaczs.audio.file_bytes import Data
from lmaczs.audio.media import kind_of
from lmaczs.audio.mp3 import mp3
from lmaczs.audio.tags import after_tags

CHUNKED: dict[bytes, Callable[[Data, int, int], Found | None]] = {
    **dict.fromkeys(chunks.WAVES, chunks.wave),
    b"FORM": chunks.aiff,
    b".snd": chunks.au,
    b"dns.": chunks.au,
    b"caff": chunks.core,
    b"riff": chunks.wave64,
}
"""Readers of headers with sizes, by a file's first bytes."""


def inspect(data: Data) -> Contents:
    """Read the headers of a whole file; never raises, whatever it holds.

    What is not known here is one part, for the decoder to know; not as a file with a
    name, by which it would guess.
    """
    found: list[Found] = []
    start, end = after_tags(data, 0, len(data)), len(data)
    begins_at_once = start == 0 or data[start : start + 1] in (b"\xff", b"f")
    while start < end and len(found) < MAX_PARTS:
        try:
            parts = _recordings(data, start, end)
        except (struct.error, IndexError):  # cut off within a header
            break
        if not parts:
            break
        found += parts
        start = after_tags(data, parts[-1].end, end)
    if not found:
        return Contents((Part(((0, end),)),), False)
    whole = len(found) == 1 and found[0].plain and begins_at_once
    return Contents(tuple(one.part for one in found), whole)


def _recordings(data: Data, start: int, end: int) -> list[Found]:
    """Recordings that begin at a place; none if that is not known."""
    magic = data[start : start + 4]
    if start == 0 and kind_of(data[:16]) is not None:
        return []
    if magic in CHUNKED:
        one = CHUNKED[magic](data, start, end)
        return [] if one is None else [one]
    if magic == b"OggS":
        return streams.ogg(data, start, end)
    if magic == b"fLaC":
        return streams.flac(data, start, end)
    if start and not _may_be_mp3(data, start):
        return []
    return mp3(data, start, end)


def _may_be_mp3(data: Data, start: int) -> bool:
    """Whether what follows a tag or a recording may be MPEG frames."""
    return data[start : start + 1] in (b"\xff", b"\0") or data[:3] == b"ID3"
