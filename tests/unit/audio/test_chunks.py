"""chunks.py: where sound ends, whatever the sizes in headers are."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from lmaczs.audio.chunks import extent_of, is_recording, wave, wave_header

FMT = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
SOUND = np.random.default_rng(0).bytes(1000)
LIST = b"LIST" + struct.pack("<I", 3) + b"abc\0"


def chunk(data: bytes, start: int, end: int) -> int | None:
    """Step over a chunk of a letter, here."""
    return 20 if data[start : start + 1] == b"c" else None


@pytest.mark.parametrize(
    "behind", [b"", bytes(500), b"c" * 40, b"TAG" + bytes(125), b"x" * 63]
)
def test_a_size_that_is_right_is_believed(behind: bytes) -> None:
    """Chunks, tags, zeros and a little rest follow the sound."""
    data = b"head" + SOUND + behind
    extent = extent_of(data, 4, 1000, len(data), chunk)
    assert (extent.stop, extent.end) == (1004, len(data))
    assert not extent.note and not extent.lack


@pytest.mark.parametrize("stated", [None, 0, 1, 500, 900])
def test_sound_goes_on_to_what_is_something_else(stated: int | None) -> None:
    """A size that is unknown or too small; tags at the end are no sound."""
    data = b"head" + SOUND + b"TAG" + bytes(125)
    extent = extent_of(data, 4, stated, len(data), chunk)
    assert (extent.stop, extent.end) == (1004, len(data))
    assert "header" in extent.note and not extent.lack


def test_a_size_that_wrapped_is_completed() -> None:
    """As many times as there is room, where chunks follow then."""
    data = b"head" + SOUND + b"c" * 40
    extent = extent_of(data, 4, 1000 % 128, len(data), chunk, wrap=128)
    assert (extent.stop, extent.end) == (1004, 1044)
    assert "states 104 bytes of sound, but there are 1000" in extent.note


def test_a_size_that_is_too_large_is_a_lack() -> None:
    """What is there, and what there should be."""
    extent = extent_of(b"head" + SOUND, 4, 1044, 1004, chunk)
    assert extent.stop == 1004
    assert "announces 1044 bytes of sound, 1000 are there" in extent.lack


def test_another_recording_ends_the_first() -> None:
    """Its first byte is the end."""
    data = b"head" + SOUND + wave_header(FMT, 2) + b"ab"
    extent = extent_of(data, 4, 1000, len(data), chunk)
    assert (extent.stop, extent.end) == (1004, 1004)


@pytest.mark.parametrize("padding", [1, 7])
def test_another_recording_may_come_after_padding(padding: int) -> None:
    """It is no chunk of the first."""
    data = b"head" + SOUND[:999] + bytes(padding) + wave_header(FMT, 2) + b"ab"
    extent = extent_of(data, 4, 999, len(data), chunk)
    assert (extent.stop, extent.end) == (1003, 1003 + padding)


@pytest.mark.parametrize("format_", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC"])
def test_first_bytes_of_recordings_are_known(
    encoded: Callable[..., bytes], format_: str
) -> None:
    """Of all formats that libsndfile writes, and not of others."""
    data = encoded(format_)
    assert is_recording(data[:16])
    assert not is_recording(data[1:17])


def test_a_header_is_what_libsndfile_reads() -> None:
    """Rate, samples and, of two bytes more than 32 bits count, RF64."""
    sound = np.arange(-500, 500, dtype="<i2")
    data = wave_header(FMT, 2000) + sound.tobytes()
    found, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    assert rate == 16000 and (found == sound).all()
    large = wave_header(FMT, (1 << 32) + 2)
    assert large[:4] == b"RF64" and large[-8:] == b"data" + b"\xff" * 4
    sizes = struct.unpack_from("<QQQ", large, 20)
    assert sizes == (len(large) - 8 + (1 << 32) + 2, (1 << 32) + 2, (1 << 31) + 1)


@pytest.mark.parametrize("padding", [b"", b"\0"])
def test_the_padding_of_odd_sizes_may_lack(padding: bytes) -> None:
    """Behind the sound, and behind a chunk."""
    odd = b"LIST" + struct.pack("<I", 99) + bytes(range(99)) + padding
    data = wave_header(FMT, 999) + SOUND[:999] + padding + odd + odd + odd
    found = wave(data, 0, len(data))
    assert found is not None and found.plain and found.end == len(data)


def test_chunks_before_the_sound_are_stepped_over() -> None:
    """A chunk of odd size, padded by one byte, does not mislead."""
    header = wave_header(FMT, 1000)
    data = header[:12] + LIST + header[12:] + SOUND + LIST
    found = wave(data, 0, len(data))
    assert found is not None and found.plain and found.end == len(data)
    cut = wave(data, 0, len(data) - len(LIST) - 4)
    assert cut is not None and "1000 bytes of sound, 996" in cut.part.lack


@pytest.mark.parametrize("order", ["<", ">"])
def test_chunks_before_the_sound_may_lack_their_padding(order: str) -> None:
    """libsndfile refuses such a file, and gets a header of its own."""
    fmt = struct.pack(f"{order}HHIIHH", 1, 1, 16000, 32000, 2, 16)
    header, odd = wave_header(fmt, 1000, order), struct.pack(f"{order}4sI", b"LIST", 5)
    data = header[:12] + odd + b"INFOx" + header[12:] + SOUND
    found = wave(data, 0, len(data))
    assert found is not None and not found.plain and found.part.note == ""
    (begin, stop), first = found.part.pieces[1], found.part.pieces[0]
    assert first == header and data[begin:stop] == SOUND
