"""contents.py: what the recordings of a file have in common."""

from __future__ import annotations

from lmaczs.audio.contents import Contents, Part


def test_what_is_doubtful_is_said_once() -> None:
    """Notes and lacks of the parts, in order, without those that are empty."""
    parts = [("b", "x"), ("", "x"), ("a", ""), ("b", "y")]
    contents = Contents(tuple(Part((), *one) for one in parts), False)
    assert contents.notes == ("b", "a")
    assert contents.lacks == ("x", "y")
