"""Train, valid and test: three tables, by folds or by recording."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lmaczs.utils.errors import InputError

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Splits:
    """Tables of the three splits, a row a clip."""

    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame

    @classmethod
    def of(cls, clips: pd.DataFrame) -> Splits:
        """Divide a table by its column ``split``."""
        return cls(*(clips[clips.split == name] for name in SPLITS))

    @property
    def split_by(self) -> str:
        """How the set was split, if chosen automatically, see `esc50_rows`."""
        names = self.train.get("split_by", pd.Series(dtype=str)).unique()
        return str(names[0]) if len(names) else ""

    @property
    def labels(self) -> list[str]:
        """All labels, sorted; clips with captions only add none."""
        tables = (self.train, self.valid, self.test)
        return sorted({label for table in tables for label in table.label} - {""})


def take_fraction(clips: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """Draw a fraction of the clips, spread over the labels.

    For a seed, a smaller fraction is a part of every greater one.

    Parameters
    ----------
    clips : DataFrame
        id and label.
    fraction : float
        In (0, 1]; at least one clip is drawn.
    seed : int
        Seed of the draw, which depends on ids and labels alone.

    Returns
    -------
    DataFrame
        Rows of `clips`, in their order.

    Raises
    ------
    InputError
        If `fraction` is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise InputError(
            f"train_fraction is {fraction}: give more than 0 and at most 1"
        )
    order = pd.DataFrame({"label": clips.label, "drawn": 0})
    order["drawn"] = [zlib.crc32(f"{seed} {name}".encode()) for name in clips.id]
    labels = order.groupby("label").drawn
    # every label's first clip, then its next: a prefix has each label's share
    order["place"] = (labels.rank("first") - 0.5) / labels.transform("size")
    order = order.sort_values(["place", "drawn"], kind="stable")
    taken = order.index[: max(1, round(fraction * len(clips)))]
    return clips[clips.index.isin(taken)]


def split_by_fold(
    table: pd.DataFrame,
    train_folds: Sequence[int],
    valid_folds: Sequence[int],
    test_folds: Sequence[int],
) -> pd.DataFrame:
    """Add a column split by the column fold; clips of other folds are left out.

    A fold in two splits, or folds without a clip, raise `InputError`.
    """
    wanted = dict(zip(SPLITS, (train_folds, valid_folds, test_folds), strict=True))
    folds = [f for split in wanted.values() for f in split]
    if len(folds) != len(set(folds)):
        raise InputError(f"a fold is in two splits: {wanted}")
    split_of = {f: split for split, chosen in wanted.items() for f in chosen}
    split = table.fold.map(split_of)
    empty = [s for s, chosen in wanted.items() if chosen and not (split == s).any()]
    if empty:
        raise InputError(f"{empty[0]}_folds {list(wanted[empty[0]])} holds no clip")
    return table.assign(split=split).dropna(subset=["split"]).reset_index(drop=True)


def split_for_test(
    table: pd.DataFrame, folds: Sequence[int], place: str | Path
) -> pd.DataFrame:
    """Add a column split by the column fold: test, or empty outside of these folds.

    A fold without a clip raises `InputError`; `place` names the set there.
    """
    there = sorted(set(table.fold))
    empty = sorted(set(folds) - set(there))
    if empty or not folds:
        lack = f"fold {empty[0]} holds no clip" if empty else "test_folds names no fold"
        raise InputError(
            f"{lack} in {place}: choose among folds {', '.join(map(str, there))}, e.g. "
            f"--test_folds=[{there[-1]}]"
        )
    return table.assign(split=["test" if f in folds else "" for f in table.fold])


def fill_splits(
    clips: pd.DataFrame, valid_share: float = 0.2, test_share: float = 0.2
) -> pd.DataFrame:
    """Move training clips to the splits that no clip names, by recording.

    A recording is a file, or a value of the column ``recording`` where there is one.
    The shares are fractions of the training recordings, at least one; test is taken
    first. The choice depends on names and labels alone and is spread over the labels;
    the only recording of a label stays in training. A clip whose split is empty is of
    training. Too few recordings raise `InputError`.
    """
    clips = clips.assign(split=clips.split.replace("", "train"))
    if not (clips.split == "train").any():
        raise InputError(
            "no clip has the split train, so there is nothing to train on: such a set "
            "can only be evaluated on"
        )
    for split, share in (("test", test_share), ("valid", valid_share)):
        if (clips.split == split).any():
            continue
        train = clips[clips.split == "train"]
        taken = _recordings_of(train).isin(_spread(train, share))
        clips.loc[train.index[taken], "split"] = split
        logger.warning(
            "No row has the split %s: it gets %d of the %d training clips, by "
            "recording",
            split,
            taken.sum(),
            len(train),
        )
    return clips


def _recordings_of(clips: pd.DataFrame) -> pd.Series:
    if "recording" not in clips:
        return clips.path
    return clips.recording.where(clips.recording != "", clips.path)


def _spread(clips: pd.DataFrame, share: float) -> list[str]:
    """Recordings that make about a fraction of all, spread evenly over the labels."""
    named = pd.DataFrame({"name": _recordings_of(clips), "label": clips.label})
    named = named.drop_duplicates("name")
    # names often follow the order of recording, so that neighbours are similar
    named["order"] = [zlib.crc32(Path(name).name.encode()) for name in named.name]
    named = named.sort_values(["label", "order"])
    sizes = named.groupby("label").name.transform("size")
    named = named[(sizes > 1) | (named.label == "")]
    wanted = max(1, round(share * len(named)))
    if wanted >= len(named):
        raise InputError(
            "too few recordings, they cannot be split into train, valid and test: add "
            "recordings, two of a label at least, or a column split"
        )
    places = (np.arange(wanted) + 0.5) * len(named) / wanted
    return named.name.iloc[places.astype(int)].tolist()
