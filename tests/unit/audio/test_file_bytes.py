"""file_bytes.py: a file is looked at as its bytes would be, and may change."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.audio.file_bytes import FileBytes, last_place, places, unpack_at

RARE = bytes(70_000) + b"abab" + bytes(5000) + b"ab" + bytes(16_400) + b"xabx"
NUMBERS = st.integers(0, len(RARE) + 10)


@given(ranges=st.lists(st.tuples(NUMBERS, NUMBERS), max_size=20))
def test_slices_are_those_of_the_bytes(ranges: list[tuple[int, int]]) -> None:
    """In any order, beyond the end, and where nothing is between the two places."""
    data = FileBytes(io.BytesIO(RARE))
    assert len(data) == len(RARE)
    for start, stop in ranges:
        assert data[start:stop] == RARE[start:stop]
        assert data[start : start + 8] == RARE[start : start + 8]


@given(start=NUMBERS, end=NUMBERS)
def test_words_are_found_where_they_are(start: int, end: int) -> None:
    """As Python finds them in all of the bytes."""
    for data in (RARE, FileBytes(io.BytesIO(RARE))):
        found = re.compile(b"ab").finditer(RARE, start, end)
        expected = [match.start() for match in found]
        assert [*places(re.compile(b"ab"), 2, data, start, end)] == expected
        assert last_place(b"ab", data, start, end) == RARE.rfind(b"ab", start, end)


@pytest.mark.parametrize("place", [*range(4090, 4100), *range(12_280, 12_292)])
def test_words_are_found_across_what_is_read_at_once(place: int) -> None:
    """At the edges of the first pieces."""
    data = FileBytes(io.BytesIO(bytes(place) + b"word" + bytes(place)))
    assert [*places(re.compile(b"word"), 4, data, 0, len(data))] == [place]
    assert last_place(b"word", data, 0, len(data)) == place


def test_a_struct_lies_whole_or_is_an_error() -> None:
    """As `struct.unpack_from` has it."""
    data = FileBytes(io.BytesIO(b"\1\2\3\4\5"))
    assert unpack_at("<HB", data, 1) == (0x0302, 4)
    for place in (3, 5, 99):
        with pytest.raises(struct.error):
            unpack_at("<HB", data, place)


def test_a_file_that_becomes_shorter_is_an_error(tmp_path: Path) -> None:
    """Not fewer bytes, which would be taken for the end of it."""
    path = tmp_path / "a"
    path.write_bytes(RARE)
    with path.open("rb") as file:
        data = FileBytes(file)
        path.write_bytes(b"")
        for size in (8, 50_000):
            with pytest.raises(OSError, match="became shorter"):
                data[20_000 : 20_000 + size]
