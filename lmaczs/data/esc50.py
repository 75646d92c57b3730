"""ESC-50 (Piczak, 2015): its clips, its folds, and a split for copies without all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from lmaczs.data.lists import MissingDataError, read_list, require_files
from lmaczs.data.splits import split_by_fold, split_for_test
from lmaczs.utils.errors import InputError

logger = logging.getLogger(__name__)

PAGE = "https://github.com/karolpiczak/ESC-50"
FIX = f"unpack ESC-50 again ({PAGE})"
ESC10 = (
    "dog",
    "rooster",
    "rain",
    "sea waves",
    "crackling fire",
    "crying baby",
    "sneezing",
    "clock tick",
    "helicopter",
    "chainsaw",
)
ESC50_LABELS: tuple[str, ...] = tuple(
    label.replace("_", " ")
    for label in """
    dog rooster pig cow frog cat hen insects sheep crow
    rain sea_waves crackling_fire crickets chirping_birds water_drops wind
    pouring_water toilet_flush thunderstorm
    crying_baby sneezing clapping breathing coughing footsteps laughing
    brushing_teeth snoring drinking_sipping
    door_wood_knock mouse_click keyboard_typing door_wood_creaks can_opening
    washing_machine vacuum_cleaner clock_alarm clock_tick glass_breaking
    helicopter chainsaw siren car_horn engine train church_bells airplane
    fireworks hand_saw""".split()
)
"""The fifty labels of ESC-50, in the order of its targets."""


def read_esc50(data_folder: str | Path) -> pd.DataFrame:
    """ESC-50 as released: ``audio/*.wav`` and ``meta/esc50.csv``; no split yet.

    Columns: id, path (absolute), label ("sea waves"), fold (1 to 5), esc10 (bool) and
    recording (from which the clip was cut). Missing files raise `MissingDataError`,
    another list `InputError`.
    """
    return require_files(_listed(data_folder), FIX)


def _listed(data_folder: str | Path) -> pd.DataFrame:
    """As `read_esc50`, whether the recordings are there or not."""
    folder = Path(data_folder)
    meta = folder / "meta" / "esc50.csv"
    if not meta.is_file():
        raise MissingDataError(
            f"{folder} is not ESC-50 as released: meta/esc50.csv is missing "
            "(--data_folder is the folder that holds audio/ and meta/)"
        )
    columns = ["filename", "fold", "category", "esc10", "src_file"]
    listed = read_list(meta, columns, FIX)
    return pd.DataFrame(
        {
            "id": listed.filename.str.removesuffix(".wav"),
            "path": [str((folder / "audio" / f).resolve()) for f in listed.filename],
            "label": listed.category.str.replace("_", " "),
            "fold": listed.fold.astype(int),
            "esc10": listed.esc10 == "True",
            "recording": listed.src_file,
        }
    )


def split_for_development(table: pd.DataFrame) -> pd.DataFrame:
    """Add a column split, for a copy of ESC-50 that has all classes in fold 4 alone.

    test: fold 4 of the ESC-10 classes, and one in four clips of the other classes.
    valid: one in eight clips of the ESC-10 classes' other folds. train: the rest. Clips
    of one recording are never in two splits.
    """
    split = pd.Series("train", index=table.index)
    split[table.esc10 & (table.fold == 4)] = "test"
    rest = table[table.esc10 & (table.fold != 4)]
    split[_every_nth_recording(rest, 8)] = "valid"
    split[_every_nth_recording(table[~table.esc10], 4)] = "test"
    return table.assign(split=split)


def _every_nth_recording(clips: pd.DataFrame, n: int) -> pd.Index:
    """Whole recordings that make one clip in `n`, spread evenly over the labels.

    A recording that holds more than half of its label's clips is never taken.
    """
    sizes = clips.groupby("label").size()
    taken, seen, due = [], 0, n
    for (label, _), recording in clips.groupby(["label", "recording"]):
        seen += len(recording)
        if seen >= due and 2 * len(recording) <= sizes[label]:
            taken.extend(recording.index)
            due += n * len(recording)
    return pd.Index(taken)


def esc50_rows(
    data_folder: str | Path,
    split: Literal["auto", "folds", "development"] = "auto",
    train_folds: Sequence[int] = (1, 2, 3),
    valid_folds: Sequence[int] = (4,),
    test_folds: Sequence[int] | None = None,
    leave_out: Sequence[str] = (),
    test_only: bool = False,
) -> pd.DataFrame:
    """Rows of ESC-50's clips, as `read_esc50`, with split and split_by.

    ``split="folds"`` splits by the folds given (test: 5, unless given),
    ``"development"`` by `split_for_development`, ``"auto"`` by folds unless one of them
    holds no clip; the choice is logged and returned as split_by. `leave_out` names
    labels whose clips are left out of every split. An unknown split or label raises
    `InputError`.

    With `test_only` the recordings of the split test alone have to be there, and folds
    of the other splits do not count: ``"auto"`` is by folds where `test_folds` are
    given, or where there are no other clips; split is empty outside of test folds.
    """
    table = _listed(data_folder)
    tested = (5,) if test_folds is None else test_folds
    chosen = (train_folds, valid_folds, tested)
    by_test_folds = test_only and (
        test_folds is not None or set(table.fold) <= set(tested)
    )
    if split == "auto":
        empty = sorted({fold for folds in chosen for fold in folds} - set(table.fold))
        split = "development" if empty and not by_test_folds else "folds"
        why = f"fold {empty[0]} holds no clip" if empty else "every fold holds clips"
        why = "only test folds count" if by_test_folds else why
        logger.info("ESC-50 is split by %r: %s", split, why)
    if split == "folds" and test_only:
        table = split_for_test(table, tested, data_folder)
    elif split == "folds":
        table = split_by_fold(table, *chosen)
    elif split == "development":
        table = split_for_development(table)
    else:
        raise InputError(f"split is {split!r}, not auto, folds or development")
    require_files(table[table.split == "test"] if test_only else table, FIX)
    if unknown := sorted(set(leave_out) - set(table.label)):
        raise InputError(f"leave_out names {unknown}, which no clip of ESC-50 has")
    return table[~table.label.isin(leave_out)].assign(split_by=split)
