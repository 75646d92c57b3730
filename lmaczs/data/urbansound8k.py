"""UrbanSound8K (Salamon, Jacoby and Bello, 2014): its clips and its ten folds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lmaczs.data.esc50 import SPLITS, Splits, split_by_fold

logger = logging.getLogger(__name__)

METADATA = Path("metadata", "UrbanSound8K.csv")
READ = ("slice_file_name", "fold", "class")
PAGE = "https://urbansounddataset.weebly.com/urbansound8k.html"
MEND = (
    f"UrbanSound8K is not downloaded for you, its page asks for a form first ({PAGE}): "
    "unpack its archive and let --data_folder be the folder that holds "
    "metadata/UrbanSound8K.csv and audio/fold1/ to audio/fold10/"
)


def read_urbansound8k(data_folder: str | Path) -> pd.DataFrame:
    """UrbanSound8K (Salamon, Jacoby and Bello, 2014) as released.

    Parameters
    ----------
    data_folder : str or Path
        Folder with ``metadata/UrbanSound8K.csv`` and ``audio/fold1`` to ``fold10``.

    Returns
    -------
    DataFrame
        id, path (absolute), label ("dog bark"), fold (1 to 10), and what the set has
        besides: fsID (the recording that the clip was cut from), source_start and
        source_end (where in it, seconds), salience (1: foreground, 2: background),
        classID; no split yet.

    Raises
    ------
    FileNotFoundError
        If the list of clips or clips of the list are missing.
    ValueError
        If the list is not the released one.
    """
    folder = Path(data_folder)
    listed = _read_metadata(folder / METADATA)
    audio = (folder / "audio").resolve()
    places = zip(listed.fold, listed.slice_file_name, strict=True)
    own = {
        "id": listed.slice_file_name.str.removesuffix(".wav"),
        "path": [str(audio / f"fold{fold}" / name) for fold, name in places],
        "label": listed["class"].str.replace("_", " "),
        "fold": listed.fold,
    }
    # `start` in a table is where a file is to be cut; these files are cut already
    renamed = {"start": "source_start", "end": "source_end"}
    carried = listed.drop(columns=list(READ)).rename(columns=renamed)
    table = pd.concat([pd.DataFrame(own), carried], axis=1)
    _require_clips(table)
    return table


def _read_metadata(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; {MEND}")
    try:
        listed = pd.read_csv(path)
    except ValueError as error:  # not CSV, not UTF-8 or empty
        raise ValueError(f"{path} cannot be read: {error}; unpack it again") from error
    lacking = [name for name in READ if name not in listed]
    if lacking:
        raise ValueError(
            f"{path} has no column {', '.join(lacking)}: it is not the released list, "
            "unpack the archive again"
        )
    return listed


def _require_clips(table: pd.DataFrame) -> None:
    missing = [path for path in table.path if not Path(path).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(table)} clips listed are not there, the first "
            f"is {missing[0]}; {MEND}"
        )


def urbansound8k_splits(
    data_folder: str | Path,
    train_folds: Sequence[int] = (1, 2, 3, 4, 5, 6, 7, 8),
    valid_folds: Sequence[int] = (9,),
    test_folds: Sequence[int] = (10,),
) -> Splits:
    """Tables of UrbanSound8K's splits, by the folds that the set defines.

    The folds are never reshuffled: clips of one recording are in one fold.

    Parameters
    ----------
    data_folder : str or Path
        UrbanSound8K as released.
    train_folds : sequence of int
        Folds to train on.
    valid_folds : sequence of int
        Folds that choose the checkpoint.
    test_folds : sequence of int
        Folds that are reported.

    Returns
    -------
    Splits

    Raises
    ------
    ValueError
        If a fold is in two splits or holds no clip.
    """
    table = read_urbansound8k(data_folder)
    chosen = (train_folds, valid_folds, test_folds)
    empty = {fold for folds in chosen for fold in folds} - set(table.fold)
    if empty:
        raise ValueError(
            f"fold {min(empty)} holds no clip in {data_folder}: choose others with "
            "--train_folds, --valid_folds and --test_folds"
        )
    table = split_by_fold(table, *chosen)
    for name, part in table.groupby("split"):
        if part.label.nunique() == 1:
            logger.warning(
                "--%s_folds hold clips of %r alone: a prompt for what is absent needs "
                "a second label, choose other folds",
                name,
                part.label.iloc[0],
            )
    return Splits(*(table[table.split == name] for name in SPLITS))
