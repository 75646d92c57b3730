"""Data sets as one table: a row a clip, whatever the set.

The columns are those of a manifest: ``id``, ``path`` (absolute), ``label``, ``split``
(train, valid, test); a set's own columns are carried through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from lmaczs.data.manifest import read_manifest

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")

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
    label.strip().replace("_", " ")
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


@dataclass(frozen=True)
class Splits:
    """Tables of a data set's three splits.

    Attributes
    ----------
    train, valid, test : DataFrame
        One row a clip.
    chosen_by : str
        "folds", "development" (see `split_for_development`), or empty where nothing
        was chosen.
    """

    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame
    chosen_by: str = ""

    @property
    def labels(self) -> list[str]:
        """All labels, sorted; of captions there are none."""
        tables = (self.train, self.valid, self.test)
        return sorted({label for table in tables for label in table.label} - {""})


def read_esc50(data_folder: str | Path) -> pd.DataFrame:
    """ESC-50 (Piczak, 2015) as released: ``audio/*.wav`` and ``meta/esc50.csv``.

    Parameters
    ----------
    data_folder : str or Path
        Folder with ``audio`` and ``meta``.

    Returns
    -------
    DataFrame
        id, path, label ("sea waves"), fold (1 to 5), esc10 (bool), source (the
        recording that the clip was cut from); no split yet.

    Raises
    ------
    FileNotFoundError
        If the folder is not laid out so, or clips of the list are missing.
    """
    folder = Path(data_folder)
    meta = folder / "meta" / "esc50.csv"
    if not meta.is_file():
        raise FileNotFoundError(
            f"{folder} is not ESC-50 as released: meta/esc50.csv is missing "
            "(--data_folder is the folder that holds audio/ and meta/)"
        )
    listed = pd.read_csv(meta)
    table = pd.DataFrame(
        {
            "id": listed.filename.str.removesuffix(".wav"),
            "path": [str((folder / "audio" / f).resolve()) for f in listed.filename],
            "label": listed.category.str.replace("_", " "),
            "fold": listed.fold,
            "esc10": listed.esc10.astype(str) == "True",
            "source": listed.src_file.astype(str),
        }
    )
    _require_files(table, folder)
    return table


def _require_files(table: pd.DataFrame, folder: Path) -> None:
    missing = [p for p in table.path if not Path(p).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(table)} clips listed for {folder} are not "
            f"there, the first is {missing[0]}; unpack the data set again"
        )


def split_by_fold(
    table: pd.DataFrame,
    train_folds: Sequence[int],
    valid_folds: Sequence[int],
    test_folds: Sequence[int],
) -> pd.DataFrame:
    """Split by the folds that a set defines; clips of other folds are left out.

    Parameters
    ----------
    table : DataFrame
        With a column ``fold``.
    train_folds : sequence of int
        Folds to train on.
    valid_folds : sequence of int
        Folds to validate on.
    test_folds : sequence of int
        Folds to test on; no fold is in two of the three.

    Returns
    -------
    DataFrame
        With the column ``split``.

    Raises
    ------
    ValueError
        If a fold is in two splits or a split gets no clip.
    """
    wanted = dict(zip(SPLITS, (train_folds, valid_folds, test_folds), strict=True))
    folds = [f for split in wanted.values() for f in split]
    if len(folds) != len(set(folds)):
        raise ValueError(f"a fold is in two splits: {wanted}")
    split_of = {f: split for split, chosen in wanted.items() for f in chosen}
    split = table.fold.map(split_of)
    empty = [s for s, chosen in wanted.items() if chosen and not (split == s).any()]
    if empty:
        raise ValueError(f"{empty[0]}_folds {list(wanted[empty[0]])} holds no clip")
    return table.assign(split=split).dropna(subset=["split"]).reset_index(drop=True)


def split_for_development(table: pd.DataFrame) -> pd.DataFrame:
    """Split for a copy of ESC-50 that has all fifty classes in fold 4 alone.

    test: fold 4 of the ESC-10 classes, and of fold 4's other classes one clip in
    four. valid: of the ESC-10 classes' other folds one clip in eight. train:
    the rest. Clips of one recording are never in two splits.

    Parameters
    ----------
    table : DataFrame
        From `read_esc50`.

    Returns
    -------
    DataFrame
        With the column ``split``.
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
    for (label, _), recording in clips.groupby(["label", "source"]):
        seen += len(recording)
        if seen >= due and 2 * len(recording) <= sizes[label]:
            taken.extend(recording.index)
            due += n * len(recording)
    return pd.Index(taken)


def esc50_splits(
    data_folder: str | Path,
    split: Literal["auto", "folds", "development"] = "auto",
    train_folds: Sequence[int] = (1, 2, 3),
    valid_folds: Sequence[int] = (4,),
    test_folds: Sequence[int] = (5,),
    leave_out: Sequence[str] = (),
) -> Splits:
    """Tables of ESC-50's splits.

    Parameters
    ----------
    data_folder : str or Path
        ESC-50 as released.
    split : {"auto", "folds", "development"}
        ``folds``: by the folds given. ``development``: see `split_for_development`.
        ``auto``: by folds, unless one of them holds no clip; what was chosen is
        logged.
    train_folds : sequence of int
        Folds to train on.
    valid_folds : sequence of int
        Folds that choose the checkpoint.
    test_folds : sequence of int
        Folds that are reported.
    leave_out : sequence of str
        Labels whose clips are left out of every split, as if the set had none.

    Returns
    -------
    Splits

    Raises
    ------
    ValueError
        If `split` is none of the three, or a label to leave out is unknown.
    """
    table = read_esc50(data_folder)
    folds = [*train_folds, *valid_folds, *test_folds]
    if split == "auto":
        empty = sorted(set(folds) - set(table.fold))
        split = "development" if empty else "folds"
        why = f"fold {empty[0]} holds no clip" if empty else "every fold holds clips"
        logger.info("ESC-50 is split by %r: %s", split, why)
    if split == "folds":
        table = split_by_fold(table, train_folds, valid_folds, test_folds)
    elif split == "development":
        table = split_for_development(table)
    else:
        raise ValueError(f"split is {split!r}, not auto, folds or development")
    if unknown := sorted(set(leave_out) - set(table.label)):
        raise ValueError(f"leave_out names {unknown}, which no clip of ESC-50 has")
    table = table[~table.label.isin(leave_out)]
    return Splits(*(table[table.split == name] for name in SPLITS), chosen_by=split)


def recordings_in(folder: str | Path) -> list[Path]:
    """Every recording below a folder.

    Parameters
    ----------
    folder : str or Path
        Searched with its subfolders.

    Returns
    -------
    list of Path
        In the order of their names.

    Raises
    ------
    FileNotFoundError
        If it holds none.
    """
    found = Path(folder).rglob("*")
    paths = sorted(path for path in found if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"{folder} holds no recording ({', '.join(SUFFIXES)})")
    return paths


def labelled_clips(
    data_folder: str | Path | None,
    manifest: str | Path | None,
    splits: Callable[[str | Path], Splits],
) -> tuple[pd.DataFrame, list[str]]:
    """Clips of the split test whose label is known, and all labels.

    Parameters
    ----------
    data_folder : str or Path, optional
        A data set as released; or
    manifest : str or Path, optional
        a CSV of one's own, see `lmaczs.data.manifest`.
    splits : callable
        Reads the data set.

    Returns
    -------
    tuple
        Table of id, path, label; labels in alphabetical order.

    Raises
    ------
    ValueError
        If neither or both are given, or there is no such clip.
    """
    if (data_folder is None) == (manifest is None):
        raise ValueError("give either --data_folder=FOLDER or --manifest=FILE.csv")
    if manifest is None:
        found = splits(data_folder)
        clips, labels = found.test, found.labels
    else:
        table = read_manifest(manifest)
        table = table[table.label != ""]
        clips, labels = table[table.split == "test"], sorted(table.label.unique())
    if clips.empty:
        raise ValueError(
            f"{manifest or data_folder} has no labelled clip of split test"
        )
    return clips, labels
