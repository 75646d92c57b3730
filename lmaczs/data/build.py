"""The one place where the source of the clips is chosen: a data set or a manifest.

Every data set is a reader that gives the rows of a manifest; adding one is an entry of
`DATASETS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lmaczs.data import caption_sets, esc50, urbansound8k
from lmaczs.data.manifest import clip_splits, manifest_splits, read_manifest
from lmaczs.data.prompted_dataset import PromptedClips
from lmaczs.data.shards.dataset import PromptedShards
from lmaczs.data.shards.reader import is_shards, read_shards
from lmaczs.data.splits import Splits
from lmaczs.frontend import FrontEnd
from lmaczs.utils.errors import InputError


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    Attributes
    ----------
    read : callable
        Takes its folder, and options of its own; returns the rows of a manifest: id,
        path (absolute), text or label, split, and what the set has besides.
    holds : str
        What the folder must hold.
    source : str
        Where the set is published.
    """

    read: Callable[..., pd.DataFrame]
    holds: str
    source: str


DATASETS: dict[str, DataSet] = {
    "esc50": DataSet(esc50.esc50_rows, "audio/ and meta/esc50.csv", esc50.PAGE),
    "urbansound8k": DataSet(
        urbansound8k.urbansound8k_rows,
        "audio/fold1/ to fold10/ and metadata/UrbanSound8K.csv",
        urbansound8k.PAGE,
    ),
    "clotho": DataSet(
        caption_sets.read_clotho,
        "clotho_captions_development.csv and development/, and so on",
        "https://zenodo.org/records/4783391",
    ),
    "audiocaps": DataSet(
        caption_sets.read_audiocaps,
        "train.csv, val.csv, test.csv and audio/<youtube_id>.wav",
        "https://github.com/cdjkim/audiocaps",
    ),
    "macs": DataSet(
        caption_sets.read_macs,
        "MACS.yaml and audio/",
        "https://zenodo.org/records/5114771",
    ),
    "fsd50k": DataSet(
        caption_sets.read_fsd50k,
        "FSD50K.ground_truth/, FSD50K.dev_audio/ and FSD50K.eval_audio/",
        "https://zenodo.org/records/4060432",
    ),
}


def read_rows(
    data_folder: str | Path | None = None,
    manifest: str | Path | None = None,
    dataset: str = "esc50",
    **options: Any,
) -> pd.DataFrame:
    """Rows of a data set or of a manifest.

    Parameters
    ----------
    data_folder : str or Path, optional
        Folder of the data set; or
    manifest : str or Path, optional
        your own CSV, see `lmaczs.data.manifest`.
    dataset : str
        Which set `data_folder` holds: a key of `DATASETS`.
    **options : Any
        Of the set's reader; None: its default. Without effect on a manifest.

    Returns
    -------
    DataFrame
        id, path (absolute), label, text, split; start and stop where clips are cut.

    Raises
    ------
    InputError
        If neither or both are given, or there is no such set or option of it.
    """
    if (data_folder is None) == (manifest is None):
        raise InputError("give either --data_folder=FOLDER or --manifest=FILE.csv")
    if manifest is not None:
        return read_manifest(manifest)
    if dataset not in DATASETS:
        known = ", ".join(DATASETS)
        raise InputError(f"dataset is {dataset!r}: choose one of {known}")
    given = {name: value for name, value in options.items() if value is not None}
    read = DATASETS[dataset].read
    if foreign := sorted(set(given) - set(inspect.signature(read).parameters)):
        raise InputError(
            f"{foreign[0]} is no option of dataset {dataset}: leave it out"
        )
    rows = read(data_folder, **given)
    texts = {name: "" for name in ("text", "label") if name not in rows}
    return rows.assign(**texts)


def read_splits(
    data_folder: str | Path | None = None,
    manifest: str | Path | None = None,
    dataset: str = "esc50",
    valid_share: float = 0.2,
    test_share: float = 0.2,
    **options: Any,
) -> Splits:
    """Clips of a data set, a manifest or shards, in three tables.

    Parameters
    ----------
    data_folder : str or Path, optional
        See `read_rows`.
    manifest : str or Path, optional
        See `read_rows`; or a pattern of shards, see `lmaczs.data.shards.reader`.
    dataset : str
        See `read_rows`.
    valid_share : float
        Fraction of the training recordings, see `lmaczs.data.splits.fill_splits`.
    test_share : float
        The same for the test.
    **options : Any
        See `read_rows`.

    Returns
    -------
    Splits
        A row a clip: id, path, label, phrases and what the set has besides.
    """
    if data_folder is None and manifest is not None:
        if is_shards(manifest):
            return read_shards(str(manifest))
        return manifest_splits(manifest, valid_share, test_share)
    rows = read_rows(data_folder, manifest, dataset, **options)
    return clip_splits(rows, valid_share, test_share)


def labelled_test_clips(**source: Any) -> tuple[pd.DataFrame, list[str]]:
    """Clips of the split test whose label is known, and all labels.

    Parameters
    ----------
    **source : Any
        See `read_rows`.

    Returns
    -------
    tuple
        Table of id, path, label; labels in alphabetical order.

    Raises
    ------
    InputError
        If there is no such clip.
    """
    rows = read_rows(**source)
    rows = rows[rows.label != ""]
    clips = rows[rows.split == "test"]
    if clips.empty:
        place = source.get("manifest") or source.get("data_folder")
        raise InputError(f"{place} has no labelled clip of split test")
    return clips, sorted(rows.label.unique())


TRAINING = {
    "mixture_share",
    "mixture_db",
    "sequence_share",
    "gain_db",
    "disturb",
    "predicted_share",
}


@dataclass(frozen=True)
class PromptedSplits:
    """Clips with prompts of the three splits.

    Attributes
    ----------
    train, valid, test : PromptedClips
        Of the first one, mixtures, gains and captions are drawn in each epoch.
    """

    train: PromptedClips
    valid: PromptedClips
    test: PromptedClips


def prompted_splits(
    manifest: str | Path,
    front_end: FrontEnd,
    templates: Sequence[str],
    other_labels: Sequence[str] = (),
    valid_share: float = 0.2,
    test_share: float = 0.2,
    negatives_per_clip: int = 1,
    buffer_clips: int = 256,
    **options: Any,
) -> PromptedSplits:
    """Make the data of a training: the one place where its source is chosen.

    Parameters
    ----------
    manifest : str or Path
        A CSV, see `lmaczs.data.manifest`; or the shards to train on, see
        `lmaczs.data.shards.reader`.
    front_end : FrontEnd
        Gives rate and length policy.
    templates : sequence of str
        For labels; captions are taken as they are.
    other_labels : sequence of str
        Labels that no clip has, to be asked for as well.
    valid_share : float
        Share of the training recordings, see `fill_splits`.
    test_share : float
        Likewise.
    negatives_per_clip : int
        Absent prompts for each training clip.
    buffer_clips : int
        Of shards, see `PromptedShards`.
    **options : Any
        Further ones of `PromptedClips`.

    Returns
    -------
    PromptedSplits
    """
    if is_shards(manifest):
        splits, kind = read_splits(None, manifest), PromptedShards
        options["buffer_clips"] = buffer_clips
    else:
        splits = read_splits(None, manifest, "", valid_share, test_share)
        kind = PromptedClips
    return prompted(
        splits, front_end, templates, other_labels, negatives_per_clip, options, kind
    )


def prompted(
    splits: Splits,
    front_end: FrontEnd,
    templates: Sequence[str],
    other_labels: Sequence[str],
    negatives_per_clip: int,
    options: dict[str, Any],
    kind: type[PromptedClips] = PromptedClips,
) -> PromptedSplits:
    """Put prompts to the clips of three tables.

    Parameters
    ----------
    splits : Splits
        A row a clip, with its phrases.
    front_end : FrontEnd
        See `prompted_splits`.
    templates : sequence of str
        See `prompted_splits`.
    other_labels : sequence of str
        See `prompted_splits`.
    negatives_per_clip : int
        See `prompted_splits`.
    options : dict
        See `prompted_splits`.
    kind : type
        What reads the clips.

    Returns
    -------
    PromptedSplits
    """
    tables = (splits.train, splits.valid, splits.test)
    said = {phrase for table in tables for row in table.phrases for phrase in row}
    labels = {phrase.words for phrase in said if phrase.is_label}.union(other_labels)
    shared = {"labels": sorted(labels), **options}
    judged = {k: v for k, v in shared.items() if k not in TRAINING}
    train = kind(
        splits.train,
        front_end,
        templates,
        negatives_per_clip=negatives_per_clip,
        **shared,
    )
    valid, test = (
        kind(table, front_end, templates, train=False, **judged) for table in tables[1:]
    )
    return PromptedSplits(train, valid, test)
