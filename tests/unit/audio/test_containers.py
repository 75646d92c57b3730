"""containers.py: headers are read as their specifications say."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaczs.audio.containers import inspect

FORMATS = ["WAV", "WAVEX", "RF64", "AIFF", "OGG", "MP3"]


def encoded(format_: str, samples: int = 30000, rate: int = 44100) -> bytes:
    """Return noise as the bytes of a whole file."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, samples)
    soundfile.write(file, noise, rate, format=format_)
    return file.getvalue()


@pytest.mark.parametrize("format_", FORMATS)
def test_whole_files_lack_nothing(format_: str) -> None:
    """Nothing is missing, also with a tag or zeros behind the sound."""
    data = encoded(format_)
    assert inspect(data).missing_bytes == 0
    assert inspect(data + b"TAG" + bytes(125)).missing_bytes == 0


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("cut", [1, 2, 25])
def test_the_last_bytes_are_missed(format_: str, cut: int) -> None:
    """A file that lacks its last bytes lacks exactly so many."""
    assert inspect(encoded(format_)[:-cut]).missing_bytes == cut


@settings(max_examples=100)
@given(
    format_=st.sampled_from(FORMATS),
    kept=st.floats(0, 1),
    damage=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=5),
)
def test_any_cut_and_damage_is_safe(
    format_: str, kept: float, damage: list[tuple[int, int]]
) -> None:
    """A cut anywhere, within the header, too, and wrong bytes never raise."""
    data = bytearray(encoded(format_, 3000))
    for place, value in damage:
        data[place] = value
    assert inspect(bytes(data[: int(kept * len(data))])).missing_bytes >= 0


@settings(max_examples=100)
@given(
    magic=st.sampled_from([b"RIFF", b"RIFX", b"RF64", b"FORM", b"OggS", b"ID3", b""]),
    data=st.binary(max_size=400),
)
def test_random_bytes_are_safe(magic: bytes, data: bytes) -> None:
    """Whatever follows a magic word, nothing is raised."""
    assert inspect(magic + data).missing_bytes >= 0


def test_a_file_of_empty_chunks_is_given_up() -> None:
    """Headers that lead nowhere tell nothing, whatever comes late."""
    late = bytes(8 * 10_000) + b"data" + struct.pack("<I", 10)
    assert inspect(b"RIFF" + bytes(8) + late).missing_bytes == 0


def test_sizes_written_to_a_pipe_tell_nothing() -> None:
    """A data size of 0xFFFFFFFF means that the writer did not know it."""
    data = bytearray(encoded("WAV"))
    size = data.index(b"data") + 4
    data[size : size + 4] = b"\xff" * 4
    assert inspect(bytes(data)).missing_bytes == 0


def test_chunks_before_the_sound_are_stepped_over() -> None:
    """A chunk of odd size, padded by one byte, does not mislead."""
    data = encoded("WAV")
    chunk = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    assert inspect(data[:12] + chunk + data[12:-4]).missing_bytes == 4


def test_other_data_lacks_nothing() -> None:
    """Formats that are not known here are left to the decoder."""
    assert inspect(b"fLaC" + bytes(100)).missing_bytes == 0
    assert inspect(b"").missing_bytes == 0


@pytest.mark.parametrize("rate", [48000, 44100, 32000, 24000, 16000, 11025, 8000])
def test_mp3_frames_cover_the_samples(rate: int) -> None:
    """In every MPEG version the frames add up to the samples plus the padding."""
    walk = inspect(encoded("MP3", samples=3 * rate, rate=rate))
    assert walk.missing_bytes == 0 and walk.states_length
    assert 3 * rate <= walk.mp3_samples <= 3 * rate + 4 * 1152


def test_an_id3_tag_is_stepped_over() -> None:
    """The tag's size, seven bits a byte, leads to the first frame."""
    data = encoded("MP3")
    tag = b"ID3\x04\0\0" + bytes([0, 0, 2, 5]) + bytes(2 * 128 + 5)
    assert inspect(tag + data) == inspect(data)


def test_what_is_no_mp3_walks_nowhere() -> None:
    """No frame, no samples."""
    assert inspect(b"no frames here at all").mp3_samples == 0
