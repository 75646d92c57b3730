"""containers.py: headers are read as their specifications say."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from lmaczs.audio._containers import missing_bytes, walk_mp3

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
    assert missing_bytes(data) == 0
    assert missing_bytes(data + b"TAG" + bytes(125)) == 0


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("cut", [1, 2, 25])
def test_the_last_bytes_are_missed(format_: str, cut: int) -> None:
    """A file that lacks its last bytes lacks exactly so many."""
    assert missing_bytes(encoded(format_)[:-cut]) == cut


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("kept", [5, 13, 30, 500])
def test_any_cut_is_safe(format_: str, kept: int) -> None:
    """A cut within the header is no crash."""
    assert missing_bytes(encoded(format_)[:kept]) >= 0


def test_sizes_written_to_a_pipe_tell_nothing() -> None:
    """A data size of 0xFFFFFFFF means that the writer did not know it."""
    data = bytearray(encoded("WAV"))
    size = data.index(b"data") + 4
    data[size : size + 4] = b"\xff" * 4
    assert missing_bytes(bytes(data)) == 0


def test_chunks_before_the_sound_are_stepped_over() -> None:
    """A chunk of odd size, padded by one byte, does not mislead."""
    data = encoded("WAV")
    chunk = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    assert missing_bytes(data[:12] + chunk + data[12:-4]) == 4


def test_other_data_lacks_nothing() -> None:
    """Formats that are not known here are left to the decoder."""
    assert missing_bytes(b"fLaC" + bytes(100)) == 0
    assert missing_bytes(b"") == 0


@pytest.mark.parametrize("rate", [48000, 44100, 32000, 24000, 16000, 11025, 8000])
def test_mp3_frames_cover_the_samples(rate: int) -> None:
    """In every MPEG version the frames add up to the samples plus the padding."""
    walk = walk_mp3(encoded("MP3", samples=3 * rate, rate=rate))
    assert walk.missing_bytes == 0 and walk.states_length
    assert 3 * rate <= walk.samples <= 3 * rate + 4 * 1152


def test_an_id3_tag_is_stepped_over() -> None:
    """The tag's size, seven bits a byte, leads to the first frame."""
    data = encoded("MP3")
    tag = b"ID3\x04\0\0" + bytes([0, 0, 2, 5]) + bytes(2 * 128 + 5)
    assert walk_mp3(tag + data) == walk_mp3(data)


def test_what_is_no_mp3_walks_nowhere() -> None:
    """No frame, no samples."""
    assert walk_mp3(b"no frames here at all").samples == 0
