"""tags.py: tags before and behind the sound are stepped over."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.audio.tags import after_tags, after_zeros, before_tags

ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
ID3V2 = b"ID3\x04\0\0" + bytes([0, 0, 2, 5]) + bytes(2 * 128 + 5)


def ape(items: bytes, header: bool = True) -> bytes:
    """Return an APE tag of version 2."""
    size, flags = len(items) + 32, header << 31

    def edge(own: int) -> bytes:
        return b"APETAGEX" + struct.pack("<IIII", 2000, size, 1, flags | own) + bytes(8)

    return (edge(1 << 29) if header else b"") + items + edge(0)


TAGS = {"ID3v1": ID3V1, "ID3v2": ID3V2, "APE": ape(b"x" * 50)}


@pytest.mark.parametrize("tag", TAGS.values(), ids=TAGS)
def test_tags_in_front_are_stepped_over(tag: bytes) -> None:
    """One, or several of any kind, or none."""
    data = b"..." + tag + ID3V2 + tag + b"sound"
    assert data[after_tags(data, 3, len(data)) :] == b"sound"
    assert after_tags(b"sound", 0, 5) == 0
    assert after_tags(tag + tag, 0, len(tag)) == len(tag)


def test_a_footer_belongs_to_its_tag() -> None:
    """ID3v2.4 has a flag for it."""
    footer = b"3DI" + ID3V2[3:5] + b"\x10" + ID3V2[6:10]
    data = b"ID3" + footer[3:] + ID3V2[10:] + footer + b"sound"
    assert data[after_tags(data, 0, len(data)) :] == b"sound"


@pytest.mark.parametrize("tag", [ID3V1, ape(b"x" * 50), ape(b"y" * 9, False)])
def test_tags_behind_are_left_out(tag: bytes) -> None:
    """One, or two, or none."""
    data = b"...sound" + tag
    assert data[3 : before_tags(data, 3, len(data))] == b"sound"
    both = data + ID3V1
    assert both[3 : before_tags(both, 3, len(both))] == b"sound"
    assert before_tags(b"sound", 0, 5) == 5


@pytest.mark.parametrize("zeros", [0, 7, 8, 17, 3 << 20])
def test_zeros_are_stepped_over_by_eight(zeros: int) -> None:
    """The first 8 bytes, of those that are counted, that are not all 0."""
    data = b"\1" + bytes(zeros) + b"\2" * 9
    assert after_zeros(data, 1, len(data)) == 1 + zeros // 8 * 8
    assert after_zeros(data, 1, 1 + zeros) == 1 + zeros


@given(
    magic=st.sampled_from([b"ID3", b"TAG", b"APETAGEX", b""]),
    data=st.binary(max_size=200),
    end=st.sampled_from([b"", b"APETAGEX", ID3V1]),
)
def test_any_bytes_are_safe(magic: bytes, data: bytes, end: bytes) -> None:
    """Places stay within the range, whatever tags state."""
    whole = magic + data + end
    assert 0 <= after_tags(whole, 0, len(whole)) <= len(whole)
    assert 0 <= before_tags(whole, 0, len(whole)) <= len(whole)
