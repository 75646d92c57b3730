"""Clips of recordings that have no labels: how they are cut and divided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.data.lists import MissingDataError
from lmaczs.data.segments import Segment
from lmaczs.data.splits import SPLITS, Splits
from lmaczs.data.unlabelled import HELD_OUT, cut, read_unlabelled
from lmaczs.utils.errors import InputError

RATE = 1000


def write(path: Path, seconds: float) -> Path:
    """Write a quiet recording."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(seconds * RATE), 0.1), RATE)
    return path


def every(splits: Splits) -> pd.DataFrame:
    """All clips of three tables."""
    return pd.concat([getattr(splits, name) for name in SPLITS])


@given(seconds=st.floats(0.1, 30), length=st.floats(1, 10))
def test_cuts_cover_a_recording_but_for_a_short_rest(
    seconds: float, length: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """They join, none is longer than the length, and under a second is left out."""
    path = tmp_path_factory.getbasetemp() / "cut.wav"
    write(path, seconds)
    whole = soundfile.info(path).duration
    found = list(cut(Segment(str(path)), length))
    if whole <= length:
        assert found == [Segment(str(path))]
        return
    at = 0.0
    for one in found:
        assert one.start == pytest.approx(at)
        assert one.stop is not None
        assert 1 - 1e-9 <= one.stop - at <= length + 1e-9
        at = one.stop
    assert whole - at < 1


def test_a_segment_of_a_manifest_is_cut_within_itself(tmp_path: Path) -> None:
    """Its start and stop hold; a stop beyond the end is the end."""
    path = str(write(tmp_path / "a.wav", 9))
    assert list(cut(Segment(path, 2, 8), 4)) == [
        Segment(path, 2, 6),
        Segment(path, 6, 8),
    ]
    assert list(cut(Segment(path, 4, 20), 4)) == [
        Segment(path, 4, 8),
        Segment(path, 8, 9),
    ]


def test_recordings_are_in_one_split_each(tmp_path: Path) -> None:
    """An eighth of them is held out for the test, and an eighth for validation."""
    for number in range(24):
        write(tmp_path / f"{number % 3}" / f"{number}.wav", 1 + number % 4)
    splits = read_unlabelled(tmp_path, 2.0, 1000)
    names = {name: set(getattr(splits, name).path) for name in SPLITS}
    assert [len(names[name]) for name in SPLITS] == [18, 3, 3]
    assert not (names["train"] & names["test"]) | (names["valid"] & names["test"])
    assert not names["train"] & names["valid"]
    clips = every(splits)
    assert len(clips) == 6 * (1 + 1 + 2 + 2)
    assert clips.id.is_unique
    assert set(clips.label) == {""}


def test_splits_do_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    """The same recordings elsewhere are divided alike."""
    for place in ("here", "there"):
        for number in range(24):
            write(tmp_path / place / f"{number}.wav", 1)
    first, second = (read_unlabelled(tmp_path / p, 2.0, 99) for p in ("here", "there"))
    assert list(first.test.id) == list(second.test.id)
    assert list(first.valid.id) == list(second.valid.id)


def test_a_single_long_recording_is_divided_by_clips(tmp_path: Path) -> None:
    """Where recordings are few, those of one are in all splits."""
    path = write(tmp_path / "long.wav", 32)
    splits = read_unlabelled(tmp_path, 2.0, 1000)
    assert [len(getattr(splits, name)) for name in SPLITS] == [12, 2, 2]
    assert set(every(splits).path) == {str(path)}
    assert sorted(every(splits).start) == list(range(0, 32, 2))


def test_of_many_clips_some_are_drawn_by_the_seed(tmp_path: Path) -> None:
    """As many as asked for; a seed draws the same, another one others."""
    write(tmp_path / "long.wav", 100)
    drawn = [set(every(read_unlabelled(tmp_path, 1.0, 30, s)).id) for s in (0, 0, 1)]
    assert len(drawn[0]) == 30
    assert drawn[0] == drawn[1] != drawn[2]


def test_no_more_clips_are_held_out_than_are_worth_it(tmp_path: Path) -> None:
    """Of a long recording at most forty are for the test, and for validation."""
    write(tmp_path / "long.wav", 400)
    splits = read_unlabelled(tmp_path, 1.0, 1000)
    assert len(splits.valid) == len(splits.test) == HELD_OUT
    assert len(splits.train) == 300


def test_labels_and_splits_of_a_manifest_do_not_count(tmp_path: Path) -> None:
    """Its clips are taken, with the ids that it gives them."""
    rows = [f"{i}.wav,dog,test,clip{i}" for i in range(12)]
    for i in range(12):
        write(tmp_path / f"{i}.wav", 1)
    manifest = tmp_path / "clips.csv"
    manifest.write_text("\n".join(["path,label,split,id", *rows]))
    splits = read_unlabelled(manifest, 2.0, 100)
    assert set(every(splits).id) == {f"clip{i}" for i in range(12)}
    assert set(every(splits).label) == {""}
    assert len(splits.train) == 10


def test_what_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """No such place, no audio, too few clips: each names the option."""
    with pytest.raises(MissingDataError, match="neither a folder nor a manifest"):
        read_unlabelled(tmp_path / "none", 2.0, 100)
    with pytest.raises(MissingDataError, match="holds no recording"):
        read_unlabelled(tmp_path, 2.0, 100)
    write(tmp_path / "a.wav", 4)
    with pytest.raises(InputError, match="has 2 clips of up to 2 s: give recordings"):
        read_unlabelled(tmp_path, 2.0, 100)
    (tmp_path / "b.wav").write_text("no audio")
    with pytest.raises(InputError, match=r"no audio that can be read here.*b\.wav"):
        read_unlabelled(tmp_path, 2.0, 100)
