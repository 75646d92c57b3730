"""ESC-50 as a table, and its splits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from lmaczs.data.esc50 import (
    ESC10,
    ESC50_LABELS,
    esc50_rows,
    read_esc50,
    split_for_development,
)
from lmaczs.data.splits import SPLITS

HEADER = "filename,fold,target,category,esc10,src_file,take"
OTHERS = ("church_bells", "hand_saw")


def write_esc50(folder: Path, folds: Sequence[int] = (1, 2, 3, 4, 5)) -> Path:
    """Write the released layout: per class and fold three recordings of 1 to 3 clips.

    The classes beyond ESC-10 are there in fold 4 alone, as in the development copy,
    unless there is no fold 4. The clips themselves are empty files.
    """
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    lines, source = [HEADER], 100
    categories = [label.replace(" ", "_") for label in ESC10] + list(OTHERS)
    for target, category in enumerate(categories):
        esc10 = category not in OTHERS
        for fold in folds if esc10 else [fold for fold in folds if fold == 4]:
            for clips in (1, 2, 3):
                source += 7
                for take in "ABC"[:clips]:
                    name = f"{fold}-{source}-{take}-{target}.wav"
                    fields = (name, fold, target, category, esc10, source, take)
                    lines.append(",".join(map(str, fields)))
                    (folder / "audio" / name).touch()
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def esc50(tmp_path: Path) -> Path:
    """A folder in ESC-50's layout, with all five folds."""
    return write_esc50(tmp_path / "ESC-50")


def assert_recordings_stay_together(table: pd.DataFrame) -> None:
    """Check that all clips of one recording are in one split."""
    assert table.groupby("recording").split.nunique().max() == 1


# --- the table ----------------------------------------------------------------------


def test_esc50_labels_are_the_fifty_in_target_order() -> None:
    """Targets 0, 11, 40 and 49 are those of ESC-50, underscores are spaces."""
    assert len(set(ESC50_LABELS)) == 50
    assert ESC50_LABELS[0] == "dog"
    assert ESC50_LABELS[11] == "sea waves"
    assert ESC50_LABELS[40] == "helicopter"
    assert ESC50_LABELS[49] == "hand saw"


def test_a_row_is_a_clip(esc50: Path) -> None:
    """Every clip of the list, in its order, under the columns of a manifest."""
    table = read_esc50(esc50)
    listed = (esc50 / "meta" / "esc50.csv").read_text().splitlines()[1:]
    assert [f"{clip}.wav" for clip in table.id] == [x.split(",")[0] for x in listed]
    assert table.id.is_unique
    first = table.iloc[0]
    assert (first.id, first.label, first.fold, first.recording) == (
        "1-107-A-0",
        "dog",
        1,
        "107",
    )
    assert all(Path(p).is_absolute() and Path(p).is_file() for p in table.path)
    assert all(
        Path(p).stem == clip for p, clip in zip(table.path, table.id, strict=True)
    )


def test_labels_are_words(esc50: Path) -> None:
    """Underscores are spaces; ESC-10 are the ten that the list marks."""
    table = read_esc50(esc50)
    assert set(table.label) == {*ESC10, "church bells", "hand saw"}
    assert set(table.label[table.esc10]) == set(ESC10)
    assert table.esc10.dtype == bool


def test_relative_folders_give_absolute_paths(
    esc50: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table means the same files from any working directory."""
    absolute = read_esc50(esc50)
    monkeypatch.chdir(esc50.parent)
    assert read_esc50(esc50.name).path.tolist() == absolute.path.tolist()


def test_other_folders_are_refused(tmp_path: Path) -> None:
    """The sentence names the folder, the file that is missing, and the option."""
    with pytest.raises(FileNotFoundError, match=r"meta/esc50\.csv.*--data_folder"):
        read_esc50(tmp_path)


def test_missing_clips_are_counted(esc50: Path) -> None:
    """The sentence says how many of how many, and names the first."""
    clips = read_esc50(esc50).path
    for path in clips[3:5]:
        Path(path).unlink()
    message = f"2 of the {len(clips)} recordings .*the first is {clips[3]}"
    with pytest.raises(FileNotFoundError, match=message):
        read_esc50(esc50)


# --- development --------------------------------------------------------------------


def assert_is_development_split(table: pd.DataFrame) -> None:
    """Check what `split_for_development` promises, on any table."""
    assert set(table.split) == set(SPLITS)
    assert_recordings_stay_together(table)
    of_fold_4 = table.fold == 4
    assert (table.split[table.esc10 & of_fold_4] == "test").all()
    rest = table[table.esc10 & ~of_fold_4]
    assert set(rest.split) == {"train", "valid"}
    assert 0.1 < (rest.split == "valid").mean() <= 2 / 8
    others = table[~table.esc10]
    assert set(others.split) == {"train", "test"}
    assert 0.15 < (others.split == "test").mean() <= 2 / 4
    trained = others[others.split == "train"].label
    assert set(trained) == set(others.label)


def test_development_split_keeps_its_promises(esc50: Path) -> None:
    """Recordings together, shares about right, every class in training."""
    table = read_esc50(esc50)
    split = split_for_development(table)
    assert split.id.tolist() == table.id.tolist()
    assert_is_development_split(split)


@pytest.mark.parametrize(("clips", "taken"), [(3, True), (4, False)])
def test_a_recording_that_is_most_of_a_class_stays_in_training(
    clips: int, taken: bool
) -> None:
    """Up to half of a class's clips may go to the test; more would leave too few."""
    table = pd.DataFrame(
        {"label": "siren", "fold": 4, "esc10": False, "recording": ["b"] * clips}
    )
    rest = table.assign(recording="a").head(6 - clips)
    split = split_for_development(pd.concat([rest, table], ignore_index=True))
    assert (split.split[split.recording == "b"] == "test").all() == taken
    assert (split.split[split.recording == "a"] == "train").all()


def test_development_split_does_not_depend_on_order(esc50: Path) -> None:
    """A shuffled list gives every clip the same split."""
    table = read_esc50(esc50)
    shuffled = table.sample(frac=1, random_state=0)
    again = split_for_development(shuffled).sort_index()
    assert again.split.tolist() == split_for_development(table).split.tolist()


@pytest.mark.real_clips
def test_development_split_of_the_real_list(esc50_folder: Path) -> None:
    """The same promises, on the recordings that are there."""
    assert_is_development_split(split_for_development(read_esc50(esc50_folder)))


# --- the choice ---------------------------------------------------------------------


def test_auto_takes_folds_where_all_hold_clips(
    esc50: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The choice is logged and in the table; each split has its folds."""
    with caplog.at_level(logging.INFO, "lmaczs"):
        rows = esc50_rows(esc50)
    assert "split by 'folds'" in caplog.text
    assert set(rows.split_by) == {"folds"}
    folds = [set(rows.fold[rows.split == name]) for name in SPLITS]
    assert folds == [{1, 2, 3}, {4}, {5}]


def test_auto_takes_the_development_split_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy without fold 5 is split by recordings, and the log names the fold."""
    folder = write_esc50(tmp_path / "ESC-50", folds=(1, 2, 3, 4))
    with caplog.at_level(logging.INFO, "lmaczs"):
        rows = esc50_rows(folder)
    assert "split by 'development': fold 5 holds no clip" in caplog.text
    assert set(rows.split_by) == {"development"}
    expected = split_for_development(read_esc50(folder))
    assert rows.split.tolist() == expected.split.tolist()
    assert esc50_rows(folder, "development").equals(rows)


def test_only_clips_to_test_on_have_to_be_there(esc50: Path) -> None:
    """By the folds that are given, though others hold no recording."""
    labels = set(read_esc50(esc50).label)
    for path in esc50.glob("audio/[!2]-*.wav"):
        path.unlink()
    rows = esc50_rows(esc50, test_folds=[2], test_only=True)
    assert set(rows.fold[rows.split == "test"]) == {2}
    assert set(rows.split[rows.fold != 2]) == {""}
    assert set(rows.label) == labels
    with pytest.raises(FileNotFoundError, match="recordings listed are not there"):
        esc50_rows(esc50, test_only=True)


@pytest.mark.parametrize("split", ["auto", "folds", "development"])
def test_clips_to_test_on_are_those_of_training(esc50: Path, split: str) -> None:
    """Without folds given, a split's test clips are those that training leaves."""
    whole, tested = (esc50_rows(esc50, split, test_only=x) for x in (False, True))
    ids = [rows.id[rows.split == "test"].tolist() for rows in (whole, tested)]
    assert ids[0] == ids[1] != []


def test_a_copy_of_the_test_fold_alone(tmp_path: Path) -> None:
    """All of fold 5 is tested on, as of the whole set; a part of others is split."""
    folder = write_esc50(tmp_path / "five", folds=(5,))
    assert set(esc50_rows(folder, test_only=True).split) == {"test"}
    folder = write_esc50(tmp_path / "four", folds=(1, 2, 3, 4))
    rows = esc50_rows(folder, test_only=True)
    assert rows.split.tolist() == esc50_rows(folder).split.tolist()


def test_splits_that_do_not_exist_are_refused(esc50: Path) -> None:
    """The sentence names those there are; folds that are given are never replaced."""
    with pytest.raises(ValueError, match="'random', not auto, folds or development"):
        esc50_rows(esc50, "random")
    with pytest.raises(ValueError, match="holds no clip"):
        esc50_rows(esc50, "folds", test_folds=[9])


def test_labels_that_are_left_out_are_in_no_split(esc50: Path) -> None:
    """The other clips stay where they are; a label that does not exist is named."""
    whole, left = esc50_rows(esc50), esc50_rows(esc50, leave_out=["dog"])
    expected = whole[whole.label != "dog"]
    assert left.id.tolist() == expected.id.tolist()
    assert left.split.tolist() == expected.split.tolist()
    with pytest.raises(ValueError, match=r"leave_out names \['dgo'\]"):
        esc50_rows(esc50, leave_out=["dgo", "dog"])
