"""Splits by fold and by recording."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaczs.data.splits import (
    Splits,
    fill_splits,
    split_by_fold,
    split_for_test,
    take_fraction,
)
from lmaczs.utils.errors import InputError


@pytest.fixture
def folded() -> pd.DataFrame:
    """Two clips in each of five folds."""
    folds = [1, 2, 3, 4, 5] * 2
    return pd.DataFrame({"id": range(10), "fold": folds})


def labelled(counts: dict[str, int]) -> pd.DataFrame:
    """A clip of each of some recordings a label, all of split train."""
    rows = [(f"/{x}{n}.wav", x) for x, count in counts.items() for n in range(count)]
    return pd.DataFrame(rows, columns=["path", "label"]).assign(split="train")


# --- folds --------------------------------------------------------------------------


def test_folds_are_split_as_they_are_chosen(folded: pd.DataFrame) -> None:
    """A clip is in the split of its fold; other folds are left out."""
    split = split_by_fold(folded, [1, 3], [4], [2])
    chosen = {1: "train", 3: "train", 4: "valid", 2: "test"}
    assert split.split.tolist() == split.fold.map(chosen).tolist()
    assert split.id.tolist() == folded.id[folded.fold != 5].tolist()
    assert split.index.tolist() == list(range(len(split)))
    assert "split" not in folded


def test_a_split_may_be_left_out(folded: pd.DataFrame) -> None:
    """No folds for it: no clips in it."""
    split = split_by_fold(folded, [1], [2], [])
    assert set(split.split) == {"train", "valid"}


def test_folds_to_test_on(folded: pd.DataFrame) -> None:
    """Their clips are of split test; all others stay, without a split."""
    split = split_for_test(folded, [2, 5], "there")
    assert split.id.tolist() == folded.id.tolist()
    assert split.split.tolist() == ["", "test", "", "", "test"] * 2


@pytest.mark.parametrize(
    ("folds", "lack"), [([2, 7], "fold 7 holds no clip"), ([], "test_folds names no")]
)
def test_folds_to_test_on_that_are_not_there(
    folded: pd.DataFrame, folds: list[int], lack: str
) -> None:
    """The sentence names the fold, those that there are, and the option."""
    wanted = f"^{lack}.* in there: choose among folds 1, 2, 3, 4, 5, .*--test_folds="
    with pytest.raises(ValueError, match=wanted):
        split_for_test(folded, folds, "there")


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (([1, 2], [2], [3]), "in two splits"),
        (([1, 2], [3], [6]), r"test_folds \[6\] holds no clip"),
    ],
)
def test_folds_that_cannot_be_are_refused(
    folded: pd.DataFrame, folds: tuple[list[int], ...], message: str
) -> None:
    """A fold that is used twice, or that the set does not have."""
    with pytest.raises(ValueError, match=message):
        split_by_fold(folded, *folds)


# --- by recording -------------------------------------------------------------------


def test_missing_splits_are_spread_over_labels() -> None:
    """A fifth of the recordings each, of every label some, and each in one split."""
    clips = labelled({"dog": 10, "rain": 10})
    filled = fill_splits(clips)
    shares = filled.groupby(["label", "split"]).size().unstack()
    assert shares.test.tolist() == [2, 2]
    assert shares.valid.between(1, 2).all()
    assert (clips.split == "train").all()  # the table given is left alone


def test_missing_splits_do_not_depend_on_order_or_folder() -> None:
    """The same recordings are taken wherever they lie and however they are listed."""
    clips = labelled({"dog": 7, "rain": 5})
    moved = clips.assign(path="/elsewhere" + clips.path)
    mixed = moved.sample(frac=1, random_state=0)
    again = fill_splits(mixed.reset_index(drop=True))
    expected = fill_splits(clips)
    names = expected.path.map(lambda path: Path(path).name)
    other = again.path.map(lambda path: Path(path).name)
    assert dict(zip(other, again.split, strict=True)) == dict(
        zip(names, expected.split, strict=True)
    )


@pytest.mark.parametrize("column", ["path", "recording"])
def test_clips_of_a_recording_stay_together(column: str) -> None:
    """A file, or what the column recording calls one, is in a single split."""
    clips = labelled({"dog": 24, "rain": 24})
    groups = [f"session {number % 12}" for number in range(len(clips))]
    clips[column] = groups
    filled = fill_splits(clips)
    assert filled.groupby(column).split.nunique().max() == 1
    assert set(filled.split) == {"train", "valid", "test"}


def test_a_recording_that_is_not_named_is_the_file() -> None:
    """Rows that leave the column recording empty are not all of one recording."""
    clips = labelled({"dog": 10}).assign(recording=["session"] * 5 + [""] * 5)
    filled = fill_splits(clips, 0.4, 0.4)
    assert filled.split[:5].nunique() == 1
    assert filled.split[5:].nunique() > 1


def test_the_only_recording_of_a_label_is_trained_on() -> None:
    """Whatever is tested was trained."""
    clips = labelled({"dog": 6, "fox": 1, "owl": 2})
    filled = fill_splits(clips, 0.3, 0.3)
    train = set(filled.label[filled.split == "train"])
    assert train == {"dog", "fox", "owl"}


def test_splits_that_are_given_stay(caplog: pytest.LogCaptureFixture) -> None:
    """Only a split that no row names is drawn, and a warning says so."""
    clips = labelled({"dog": 10})
    clips.loc[0, "split"] = "test"
    with caplog.at_level(logging.WARNING, "lmaczs"):
        filled = fill_splits(clips)
    assert filled.index[filled.split == "test"].tolist() == [0]
    assert (filled.split == "valid").sum() == 2
    assert caplog.messages == [
        "No row has the split valid: it gets 2 of the 9 training clips, by recording"
    ]


def test_clips_without_a_split_are_of_training() -> None:
    """An empty split is that of training, as in a manifest without the column."""
    clips = labelled({"dog": 10})
    whole = fill_splits(clips)
    assert fill_splits(clips.assign(split="")).split.tolist() == whole.split.tolist()


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_recordings(count: int) -> None:
    """Three are needed; the sentence says what to add."""
    clips = labelled({"dog": count}).assign(recording=None)
    clips["recording"] = clips.path
    with pytest.raises(ValueError, match="cannot be split into train, valid and test"):
        fill_splits(clips)


@pytest.mark.parametrize("splits", [["valid", "test"], ["test", "test"], []])
def test_nothing_to_train_on(splits: list[str]) -> None:
    """Splits that leave no clip for training are refused, also where valid is empty."""
    clips = labelled({"dog": len(splits)}).assign(split=splits)
    with pytest.raises(ValueError, match="no clip has the split train, so there is"):
        fill_splits(clips)


def test_captions_are_no_labels() -> None:
    """A clip that has a caption and no label adds none."""
    table = pd.DataFrame({"label": ["owl", ""]})
    assert Splits(table, table[1:], table[1:]).labels == ["owl"]


# --- a fraction ---------------------------------------------------------------------


@settings(max_examples=30)
@given(
    counts=st.dictionaries(
        st.sampled_from("abcdef"), st.integers(1, 20), min_size=1, max_size=6
    ),
    fractions=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
    seed=st.integers(0, 2**31),
)
def test_a_fraction_is_spread_and_nested(
    counts: dict[str, int], fractions: tuple[float, float], seed: int
) -> None:
    """Each label has its share, within a clip; the smaller one is in the greater."""
    clips = labelled(counts).assign(id=lambda rows: rows.path)
    small, great = (take_fraction(clips, part, seed) for part in sorted(fractions))
    assert set(small.id) <= set(great.id)
    assert len(great) == max(1, round(max(fractions) * len(clips)))
    found = great.label.value_counts().reindex(list(counts), fill_value=0)
    for label, count in counts.items():
        assert abs(found[label] - len(great) / len(clips) * count) <= 1
    assert great.index.is_monotonic_increasing


def test_a_fraction_depends_on_seed_and_ids_alone() -> None:
    """Not on the order of the clips; all of them are all of them."""
    clips = labelled({"a": 40, "b": 20}).assign(id=lambda rows: rows.path)
    drawn = set(take_fraction(clips, 0.25, seed=1).id)
    assert drawn == set(take_fraction(clips[::-1], 0.25, seed=1).id)
    assert drawn != set(take_fraction(clips, 0.25, seed=2).id)
    assert take_fraction(clips, 1.0, seed=1).equals(clips)


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5, float("nan")])
def test_fractions_that_are_none_are_refused(fraction: float) -> None:
    """The sentence names the key of the YAML."""
    with pytest.raises(InputError, match="train_fraction is .*: give more than 0"):
        take_fraction(labelled({"a": 2}).assign(id=["x", "y"]), fraction, seed=1)
