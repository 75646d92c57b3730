"""Whether a sound file holds all that its own headers state.

libsndfile decodes what there is of a truncated WAV, AIFF, Ogg or MP3 file without an
error. These functions look only at the containers, never at the sound.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from mmap import mmap

UNKNOWN_SIZE = 0x7F000000
"""Chunk sizes from here on are what writers to a pipe put for "not known yet"."""

LAYER_III_KBITS = {
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MPEG1_RATES = (44100, 48000, 32000)


MAX_CHUNKS = 10_000
"""Chunks that are looked at, so that a file of empty ones takes no minute."""


@dataclass(frozen=True)
class Contents:
    """What the headers of a sound file state."""

    missing_bytes: int = 0
    """Bytes, at least, that are announced beyond the end of the file; 0 if none are,
    or if the format or a header written to a pipe does not tell."""
    mp3_samples: int = 0
    """Samples a channel in whole Layer III frames, the encoder's padding included."""
    states_length: bool = False
    """Whether the first such frame is a Xing or Info header, which has the length."""


def inspect(data: bytes | mmap) -> Contents:
    """Read the headers of a whole file; never raises, whatever it holds."""
    try:
        if data[:4] in (b"RIFF", b"RF64", b"RIFX"):
            order = ">" if data[:4] == b"RIFX" else "<"
            return Contents(_missing_in_chunk(data, b"data", order))
        if data[:4] == b"FORM":
            return Contents(_missing_in_chunk(data, b"SSND", ">"))
        if data[:4] == b"OggS":
            return Contents(_missing_in_page(data))
        return _walk_mp3(data)
    except (struct.error, IndexError):  # cut off within a header
        return Contents(missing_bytes=1)


def _walk_mp3(data: bytes | mmap) -> Contents:
    """Add up the Layer III frames of an MP3 file (ISO/IEC 11172-3, section 2.4.1.3).

    Stops at the first bytes that are no frame, such as a tag.
    """
    start = samples = 0
    if data[:3] == b"ID3":
        a, b, c, d = struct.unpack_from("4B", data, 6)
        start = 10 + (a << 21 | b << 14 | c << 7 | d)
    first = data[start : start + 256]
    while frame := _mp3_frame(data[start : start + 4]):
        if start + frame[0] > len(data):
            break
        start, samples = start + frame[0], samples + frame[1]
    missing = start + frame[0] - len(data) if frame else 0
    return Contents(missing, samples, b"Xing" in first or b"Info" in first)


def _missing_in_chunk(data: bytes | mmap, wanted: bytes, order: str) -> int:
    """Number of bytes that the sound chunk of a WAV or AIFF file lacks."""
    start, wide = 12, 0
    for _ in range(MAX_CHUNKS):
        if start + 8 > len(data):
            break
        name = data[start : start + 4]
        (size,) = struct.unpack_from(order + "I", data, start + 4)
        if name == b"ds64":  # RF64 keeps the sizes that do not fit into 32 bits here
            (wide,) = struct.unpack_from(order + "Q", data, start + 16)
        if name == wanted:
            size = wide if wide and size == 0xFFFFFFFF else size
            known = size == wide or size < UNKNOWN_SIZE
            return max(0, start + 8 + size - len(data)) if known else 0
        start += 8 + size + size % 2
    return 0


def _missing_in_page(data: bytes | mmap) -> int:
    """Number of bytes that the last page of an Ogg file lacks (RFC 3533)."""
    start = data.rfind(b"OggS")
    segments = data[start + 26]
    lacing = data[start + 27 : start + 27 + segments]
    lacking_table = segments - len(lacing)
    return max(0, lacking_table + start + 27 + len(lacing) + sum(lacing) - len(data))


def _mp3_frame(header: bytes) -> tuple[int, int] | None:
    """Length in bytes and samples of a Layer III frame, None if it is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version = {3: 1, 2: 2, 0: 4}.get(header[1] >> 3 & 3)  # MPEG 1, 2 and 2.5
    bitrate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version is None or not 0 < bitrate < 15 or rate == 3:
        return None
    bits = 1000 * LAYER_III_KBITS[min(version, 2)][bitrate - 1]
    samples = 1152 if version == 1 else 576
    size = samples // 8 * bits // (MPEG1_RATES[rate] // version)
    return size + (header[2] >> 1 & 1), samples
