"""UrbanSound8K (Salamon, Jacoby and Bello, 2014): its clips and its ten folds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lmaczs.data.lists import MissingDataError, read_list, require_files
from lmaczs.data.splits import split_by_fold, split_for_test
from lmaczs.utils.errors import InputError

logger = logging.getLogger(__name__)

METADATA = Path("metadata", "UrbanSound8K.csv")
READ = ("slice_file_name", "fsID", "start", "end", "fold", "class")
URBANSOUND8K_LABELS: tuple[str, ...] = (
    "air conditioner",
    "car horn",
    "children playing",
    "dog bark",
    "drilling",
    "engine idling",
    "gun shot",
    "jackhammer",
    "siren",
    "street music",
)
"""The ten labels of UrbanSound8K, in the order of its class ids."""
PAGE = "https://urbansounddataset.weebly.com/urbansound8k.html"
FIX = (
    f"UrbanSound8K is not downloaded for you, its page asks for a form first ({PAGE}): "
    "unpack its archive and let --data_folder be the folder that holds "
    "metadata/UrbanSound8K.csv and audio/fold1/ to audio/fold10/"
)


def read_urbansound8k(data_folder: str | Path) -> pd.DataFrame:
    """UrbanSound8K as released, no split yet.

    Needs ``metadata/UrbanSound8K.csv`` and ``audio/fold1`` to ``fold10``. Columns: id,
    path (absolute), label ("dog bark"), fold (1 to 10), recording (its Freesound id),
    source_start and source_end (where in it, seconds), and as text salience ("1":
    foreground, "2": background) and classID. Missing files raise `MissingDataError`,
    another list `InputError`.
    """
    return require_files(_listed(data_folder), FIX)


def _listed(data_folder: str | Path) -> pd.DataFrame:
    """As `read_urbansound8k`, whether the recordings are there or not."""
    folder = Path(data_folder)
    if not (folder / METADATA).is_file():
        raise MissingDataError(f"{folder / METADATA} is not there; {FIX}")
    listed = read_list(folder / METADATA, READ, "unpack the archive again")
    audio = (folder / "audio").resolve()
    places = zip(listed.fold, listed.slice_file_name, strict=True)
    own = {
        "id": listed.slice_file_name.str.removesuffix(".wav"),
        "path": [str(audio / f"fold{fold}" / name) for fold, name in places],
        "label": listed["class"].str.replace("_", " "),
        "fold": listed.fold.astype(int),
        "recording": listed.fsID,
        # not start and stop, which would cut: these files are cut already
        "source_start": listed.start.astype(float),
        "source_end": listed.end.astype(float),
    }
    return pd.concat([pd.DataFrame(own), listed.drop(columns=list(READ))], axis=1)


def urbansound8k_rows(
    data_folder: str | Path,
    train_folds: Sequence[int] = (1, 2, 3, 4, 5, 6, 7, 8),
    valid_folds: Sequence[int] = (9,),
    test_folds: Sequence[int] = (10,),
    test_only: bool = False,
) -> pd.DataFrame:
    """Rows of UrbanSound8K's clips, split by the folds that the set defines.

    The folds are never reshuffled: clips of one recording are in one fold. Columns as
    `read_urbansound8k`, with split. A fold in two splits, or without a clip, raises
    `InputError`. With `test_only` the recordings of the test folds alone have to be
    there, and split is empty outside of these folds.
    """
    if test_only:
        table = split_for_test(_listed(data_folder), test_folds, data_folder)
        require_files(table[table.split == "test"], FIX)
        return table
    table = read_urbansound8k(data_folder)
    chosen = (train_folds, valid_folds, test_folds)
    empty = {fold for folds in chosen for fold in folds} - set(table.fold)
    if empty:
        raise InputError(
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
    return table
