"""flac_frames.py: the last frame shows how long a stream is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.audio.flac_frames import (
    FlacFrame,
    found_samples,
    frame_of,
    stated_samples,
    with_samples,
)

Encoded = Callable[..., bytes]
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (1_000_001, 2))


@pytest.mark.parametrize("samples", [4097, 8192, 100_001, 1_000_001])
@pytest.mark.parametrize("rate, subtype", [(16000, "PCM_16"), (44100, "PCM_24")])
def test_the_last_frame_shows_the_length(
    encoded: Encoded, samples: int, rate: int, subtype: str
) -> None:
    """Of short last frames and of full ones, of any rate and width."""
    data = b"..." + encoded("FLAC", subtype, NOISE[:samples, :1], rate)
    assert stated_samples(data, 3) == found_samples(data, 3, len(data)) == samples


def test_one_frame_is_not_sure(encoded: Encoded) -> None:
    """Nothing leads to it."""
    data = encoded("FLAC", samples=NOISE[:100])
    assert found_samples(data, 0, len(data)) == 0


@pytest.mark.parametrize("samples", [0, 1, 100_001, (1 << 36) - 1])
def test_a_length_is_stated_in_36_bits(encoded: Encoded, samples: int) -> None:
    """What is beside them stays."""
    data = bytearray(encoded("FLAC"))
    before = bytes(data)
    for place, new in with_samples(before, 0, samples).items():
        data[place : place + len(new)] = new
    assert stated_samples(data, 0) == samples
    assert data[:21] + data[26:] == before[:21] + before[26:]
    assert data[21] & 0xF0 == before[21] & 0xF0


def test_the_header_of_a_frame() -> None:
    """The first example of RFC 9639, appendix D; with a wrong check sum it is none."""
    assert frame_of(bytes.fromhex("fff869180000bf03"), 4096) == FlacFrame(0, 1)
    assert frame_of(bytes.fromhex("fff869180000be03"), 4096) is None


@given(header=st.binary(max_size=14))
def test_any_bytes_are_safe(header: bytes) -> None:
    """They are a frame, or none."""
    frame = frame_of(b"\xff\xf8" + header, 4096)
    assert frame is None or (frame.first >= 0 and frame.samples > 0)
