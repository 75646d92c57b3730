"""streams.py: joined streams are divided where the next one begins."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lmaczs.audio.mp3 import mp3
from lmaczs.audio.streams import flac, ogg

Encoded = Callable[..., bytes]


@pytest.mark.parametrize(
    "format_, divide", [("OGG", ogg), ("FLAC", flac), ("MP3", mp3)]
)
def test_joined_streams_are_divided(
    encoded: Encoded, format_: str, divide: Callable
) -> None:
    """One is one; three are three, each as long as it is."""
    data = encoded(format_)
    assert len(divide(data, 0, len(data))) == 1
    joined = encoded(format_, rate=48000) + data + data
    found = divide(joined, 0, len(joined))
    assert len(found) == 3
    ranges = [one.part.pieces[-1] for one in found]
    end = len(joined)
    assert ranges[1:] == [
        (end - 2 * len(data), end - len(data)),
        (end - len(data), end),
    ]


def test_pages_that_are_cut_off_are_lacks(encoded: Encoded) -> None:
    """The last page of an OGG file, and its end."""
    data = encoded("OGG")
    (found,) = ogg(data, 0, len(data) - 3)
    assert "its last page lacks 3 bytes" in found.part.lack
    (found,) = ogg(data, 0, data.rindex(b"OggS"))
    assert "has no end" in found.part.lack
