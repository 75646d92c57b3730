"""Which recordings a run has learnt from: none of them is ever tested on.

They are known by their content, so that a copy under another name, or a list that was
split otherwise, changes nothing. Where that is not known (of clips in shards of older
versions) they are known by their ids; those of the embedded models by both.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from lmaczs.data.splits import Splits
from lmaczs.model_file import LEARNT
from lmaczs.utils.errors import InputError
from lmaczs.utils.files import atomic_write
from lmaczs.utils.plain_files import read_plain_json

logger = logging.getLogger(__name__)

SHOWN = 3  # clips that a line names
MOST_BYTES = 1 << 28  # of learnt.json: of two million clips

Learnt = Mapping[str, list[list[float]]]
"""Stretches [start, stop] in s, by the SHA-256 of their recording, or by "clip ID"."""


def read_learnt(folder: str | Path) -> Learnt:
    """What a run folder notes; nothing where the file is missing.

    `InputError` if it cannot be read: what was learnt is not known.
    """
    path = Path(folder) / LEARNT
    if not path.is_file():
        return {}
    try:  # a stranger may have made it
        learnt = read_plain_json(folder, LEARNT, MOST_BYTES)
        _require_stretches(learnt)
    except (InputError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}), so which clips were learnt is not "
            "known: choose another --output_folder, or another model"
        ) from error
    return learnt


def _require_stretches(learnt: Mapping[str, Any]) -> None:
    """Raise an error unless every value is a list of pairs of numbers."""
    for places in learnt.values():
        for start, stop in places:
            if not all(isinstance(one, (int, float)) for one in (start, stop)):
                raise TypeError(f"{start!r:.40} is no time")


def learnt_by(folder: str | Path) -> Learnt:
    """What the model in a folder has learnt; a warning where it does not note it."""
    if not Path(folder, LEARNT).is_file():
        logger.warning(
            "%s has no %s: which clips it learnt is not known, and they are tested on",
            folder,
            LEARNT,
        )
    return read_learnt(folder)


def write_learnt(folder: str | Path, learnt: Learnt) -> None:
    """Note what a run learns from, before it does."""
    with atomic_write(Path(folder) / LEARNT) as part:
        part.write_text(json.dumps(learnt, indent=0) + "\n", encoding="utf-8")


def with_clips(learnt: Learnt, table: pd.DataFrame) -> Learnt:
    """Add a table's clips: id and sha256; start and stop in s where they are cut."""
    found = {key: [*places] for key, places in learnt.items()}
    for sha256, clip, place in _places(table):
        places = found.setdefault(sha256 or clip, [])
        if place not in places:
            places.append(place)
    return found


def joined(every: Iterable[Learnt]) -> Learnt:
    """What any of several runs has learnt."""
    found: dict[str, dict[tuple[float, ...], None]] = {}
    for learnt in every:
        for key, places in learnt.items():
            found.setdefault(key, {}).update(dict.fromkeys(map(tuple, places)))
    return {key: [list(one) for one in places] for key, places in found.items()}


def without_learnt(splits: Splits, learnt: Learnt) -> Splits:
    """Leave out of valid and test what is learnt, see `unlearnt`.

    `learnt` is what was learnt before, and the clips of the split train.
    """
    valid, test = (unlearnt(getattr(splits, x), learnt, x) for x in ("valid", "test"))
    return replace(splits, valid=valid, test=test)


def unlearnt(table: pd.DataFrame, learnt: Learnt, split: str) -> pd.DataFrame:
    """Leave out the clips that are learnt, and log how many and which.

    Parameters
    ----------
    table : DataFrame
        id and sha256; start and stop in s where clips are cut. A clip that overlaps
        with what was learnt is left out.
    learnt : mapping
        From `with_clips` or `read_learnt`.
    split : str
        What the clips are for.

    Returns
    -------
    DataFrame
        Rows of `table`.

    Raises
    ------
    InputError
        If none is left.
    """
    known = [
        any(_overlaps(place, learnt.get(key, ())) for key in keys)
        for *keys, place in _places(table)
    ]
    if not any(known):
        return table
    ids = table.id[known].astype(str).tolist()
    text = (
        f"{len(ids)} of the {len(table)} clips of split {split} were learnt and are "
        f"left out of it: {named(ids)}"
    )
    if all(known):
        raise InputError(f"{text}; no clip is left: add others")
    logger.warning("%s", text)
    return table[[not one for one in known]]


def named(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _places(table: pd.DataFrame) -> Iterable[tuple[str, str, list[float]]]:
    """Recording, or "", of each clip, its id and its stretch."""
    rows: Any = table.reindex(columns=["id", "sha256", "start", "stop"])
    for name, sha256, start, stop in rows.itertuples(index=False, name=None):
        first = 0.0 if pd.isna(start) else float(start)
        last = 1e9 if pd.isna(stop) else float(stop)  # JSON has no infinity
        yield "" if pd.isna(sha256) else sha256, f"clip {name}", [first, last]


def _overlaps(place: list[float], others: Iterable[list[float]]) -> bool:
    return any(place[0] < stop and start < place[1] for start, stop in others)
