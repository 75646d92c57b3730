"""containers.py: the recordings in a file, and what they lack."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaczs.audio.containers import inspect
from lmaczs.audio.contents import Part
from lmaczs.audio.file_bytes import FileBytes

FORMATS = ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "OGG", "MP3", "FLAC"]
Encoded = Callable[..., bytes]


@pytest.mark.parametrize("format_", FORMATS)
def test_whole_files_lack_nothing(encoded: Encoded, format_: str) -> None:
    """Nothing is missing or doubtful, also with a tag or zeros behind the sound."""
    data = encoded(format_)
    assert inspect(data).whole
    for behind in (b"", b"TAG" + bytes(125), bytes(999)):
        found = inspect(data + behind)
        assert len(found.parts) == 1
        assert found.notes == found.lacks == ()


@pytest.mark.parametrize("format_", [one for one in FORMATS if one != "FLAC"])
@pytest.mark.parametrize("cut", [1, 2, 25, 999])
def test_the_last_bytes_are_missed(encoded: Encoded, format_: str, cut: int) -> None:
    """A file that lacks its last bytes says so; of FLAC only the decoder knows."""
    assert len(inspect(encoded(format_)[:-cut]).lacks) == 1


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\0\x09" + bytes(9)])
@pytest.mark.parametrize("format_", FORMATS)
def test_joined_files_are_all_found(encoded: Encoded, format_: str, tag: bytes) -> None:
    """At other rates, too, with or without a tag before each."""
    other = encoded(format_, rate=32000)
    found = inspect(b"".join(tag + one for one in (encoded(format_), other, other)))
    assert len(found.parts) == 3 and not found.whole
    assert found.notes == found.lacks == ()


def test_a_tag_in_front_leads_to_the_sound(encoded: Encoded) -> None:
    """Only MP3 and FLAC are left as they are: decoders know that they have one."""
    tag = b"ID3\x04\0\0\0\0\0\x09" + bytes(9)
    for format_ in ("MP3", "FLAC"):
        assert inspect(tag + encoded(format_)).whole
    found = inspect(tag + encoded("WAV"))
    assert not found.whole and found.parts[0].pieces[0][0] == len(tag)


@settings(max_examples=200)
@given(
    format_=st.sampled_from(FORMATS),
    kept=st.floats(0, 1),
    damage=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=5),
)
def test_any_cut_and_damage_is_safe(
    encoded: Encoded, format_: str, kept: float, damage: list[tuple[int, int]]
) -> None:
    """A cut anywhere, within the header, too, and wrong bytes never raise.

    Ranges lie within the file. Bytes that are read when they are needed are the same.
    """
    data = bytearray(encoded(format_))
    for place, value in damage:
        data[place] = value
    data = bytes(data[: int(kept * len(data))])
    found = inspect(data)
    assert inspect(FileBytes(io.BytesIO(data))) == found
    for part in found.parts:
        for piece in part.pieces:
            assert isinstance(piece, bytes) or 0 <= piece[0] <= piece[1] <= len(data)


@settings(max_examples=200)
@given(
    magic=st.sampled_from(
        [b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff\0\1\0\0", b".snd", b"riff"]
        + [b"OggS\0\2", b"fLaC\0\0\0\x22", b"ID3", b"\xff\xfb\x90\0", b""]
    ),
    data=st.binary(max_size=400),
)
def test_random_bytes_are_safe(magic: bytes, data: bytes) -> None:
    """Whatever follows a magic word, nothing is raised."""
    assert inspect(magic + data).parts


def test_a_file_of_empty_chunks_is_given_up() -> None:
    """Headers that lead nowhere tell nothing, whatever comes late."""
    late = bytes(8 * 10_000) + b"data" + struct.pack("<I", 10)
    data = b"RIFF" + bytes(4) + b"WAVE" + late
    assert inspect(data).parts == (Part(((0, len(data)),)),)


def test_other_data_lacks_nothing() -> None:
    """Formats that are not known here are left to the decoder."""
    for data in (b"fLaC" + bytes(100), b"no frames here at all", b""):
        assert inspect(data).parts == (Part(((0, len(data)),)),)
