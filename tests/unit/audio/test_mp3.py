"""mp3.py: frames are counted, and divided where another recording begins."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lmaczs.audio.mp3 import frame_of, mp3

Encoded = Callable[..., bytes]


@pytest.mark.parametrize("rate", [48000, 44100, 32000, 24000, 16000, 11025, 8000])
def test_frames_follow_one_another(encoded: Encoded, rate: int) -> None:
    """In every MPEG version: the size of a frame leads to the next, to the end."""
    data = encoded("MP3", rate=rate)
    place = count = 0
    while frame := frame_of(data[place : place + 4]):
        place, count = place + frame.size, count + 1
    assert place == len(data)
    # all but the one that is an index
    samples = (count - 1) * (1152 if rate >= 32000 else 576)
    assert 32000 <= samples <= 32000 + 4 * 1152


@pytest.mark.parametrize("header", [b"", b"\xff\xfb", b"no frame", b"\xff\xff\xff\xff"])
def test_what_is_no_frame_has_no_size(header: bytes) -> None:
    """Too short, another beginning, or values that are reserved."""
    assert frame_of(header) is None


def test_layers_have_frames_of_their_own() -> None:
    """384 samples in slots of 4 bytes, and 1152 samples, at 48 kHz."""
    sizes = [
        frame_of(bytes([0xFF, 0xF1 | layer << 1, 4 << 4 | 4, 0])) for layer in (3, 2)
    ]
    assert [one.size for one in sizes if one] == [4 * 12 * 128 // 48, 144 * 64 // 48]


def test_tags_between_frames_are_left_out(encoded: Encoded) -> None:
    """They end no recording, and are no part of it."""
    data = encoded("MP3")
    first = frame_of(data[:4]).size
    second = first + frame_of(data[first : first + 4]).size
    tag = b"TAG" + bytes(125)
    (found,) = mp3(data[:second] + tag + data[second:], 0, len(data) + len(tag))
    assert found.part.pieces == ((0, second), (second + 128, len(data) + 128))
    assert not found.part.lack and not found.plain


def test_zeros_and_rubbish_in_front_are_stepped_over(encoded: Encoded) -> None:
    """MP3 begins with its first frame."""
    data = encoded("MP3")
    for front in (bytes(2048), b"rubbish \xff\xfb\x90" * 99):
        (found,) = mp3(front + data, 0, len(front) + len(data))
        assert found.part.pieces == ((len(front), len(front) + len(data)),)


def test_a_frame_that_is_cut_off_is_a_lack(encoded: Encoded) -> None:
    """It is left out."""
    data = encoded("MP3")
    (found,) = mp3(data, 0, len(data) - 3)
    assert "its last frame lacks 3 bytes" in found.part.lack
