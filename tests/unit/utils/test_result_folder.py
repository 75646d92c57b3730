"""result_folder.py: what a folder states of itself."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from lmaczs.utils.result_folder import (
    ResultState,
    is_of,
    origin_of,
    place_of,
    read_record,
    read_state,
    sizes_of,
    write_state,
)

STATE = ResultState("/a.wav", "12", {"refine": 2}, {"dog": "a dog", "rain": "rain"})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """All of it; what is no state of ours is none."""
    write_state(tmp_path, replace(STATE, whole=True))
    assert read_state(tmp_path) == replace(STATE, whole=True)
    assert read_state(tmp_path / "missing") is None
    for text in ("{", "[]", "{}", '{"lmaczs_version": "0"}', "\xff"):
        (tmp_path / "recording.json").write_text(text, "latin-1")
        assert read_state(tmp_path) is None
    assert read_record(tmp_path / "recording.json") is None


@pytest.mark.parametrize(
    "changes, covered",
    [
        ({}, True),
        ({"recording": "/moved.wav"}, True),
        ({"prompts": {"dog": "a dog"}}, True),
        ({"prompts": {"dog": "A dog"}}, False),
        ({"prompts": {"cat": "a cat", **STATE.prompts}}, False),
        ({"options": {"refine": 3}}, False),
        ({"recording_sha256": "13"}, False),
        ({"lmaczs_version": "0"}, False),
    ],
)
def test_done_is_what_was_made_of_the_same(changes: dict, covered: bool) -> None:
    """Prompts may be fewer; what is not whole covers nothing."""
    wanted = replace(STATE, **changes)
    assert replace(STATE, whole=True).covers(wanted) == covered
    assert not STATE.covers(wanted)


def test_origin_is_place_and_digest(tmp_path: Path) -> None:
    """Links of folders are followed, a link of the file's is its own place."""
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    (real / "a.wav").write_bytes(b"sound")
    (real / "b.wav").symlink_to(real / "a.wav")
    assert origin_of(link / ".." / "link" / "b.wav") == {
        "recording": str(real / "b.wav"),
        "recording_sha256": hashlib.sha256(b"sound").hexdigest(),
    }
    assert place_of(link / ".." / "real" / "a.wav") == str(real / "a.wav")
    names = ("a.wav", "b.wav", "c.wav")
    assert sizes_of(real, names) == dict(zip(names, (5, 5, -1), strict=True))


def test_whose_results_they_are(tmp_path: Path) -> None:
    """The recording's at that place, whatever its case and content."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"sound")
    record = origin_of(path)
    assert is_of(record, path) and is_of(record, tmp_path / "A.wav")
    assert not is_of(record, tmp_path / "b.wav")
    assert not is_of({**record, "recording": None}, path)
    moved = path.rename(tmp_path / "b.wav")
    assert is_of(record, moved)
    assert not is_of({**record, "recording_sha256": "0"}, moved)
