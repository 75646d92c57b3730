"""Where clips come from: a data set (an entry of `DATASETS`) or a manifest."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from lmaczs.data import caption_sets, class_folders, esc50, urbansound8k
from lmaczs.data.annotations import audacity_rows, raven_rows
from lmaczs.data.augment import WaveformAugment
from lmaczs.data.clip_reader import FileReader
from lmaczs.data.clip_texts import PromptSampler, texts_of
from lmaczs.data.lists import MissingDataError, require_audio
from lmaczs.data.manifest import CLIP, clip_splits, manifest_splits, read_manifest
from lmaczs.data.prompted_dataset import Mixing, PromptedDataset
from lmaczs.data.shards.dataset import ShardDataset, ShardReader
from lmaczs.data.shards.reader import in_shards, is_shards, read_shards
from lmaczs.data.splits import Splits, take_fraction
from lmaczs.frontend import FrontEnd
from lmaczs.utils.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSet:
    """A kind of data set: its reader, its folder's layout, where it is published.

    `read` takes the folder and the set's own options. It returns the rows of a
    manifest: id, path (absolute), text or label, split (empty where there is none), and
    the set's other columns. `labels` are all that the set defines, where the labels of
    a part of it are not all.
    """

    read: Callable[..., pd.DataFrame]
    holds: str
    source: str
    labels: tuple[str, ...] = ()


DATASETS: dict[str, DataSet] = {
    "esc50": DataSet(esc50.esc50_rows, "audio/ and meta/esc50.csv", esc50.PAGE),
    "urbansound8k": DataSet(
        urbansound8k.urbansound8k_rows,
        "audio/fold1/ to fold10/ and metadata/UrbanSound8K.csv",
        urbansound8k.PAGE,
        urbansound8k.URBANSOUND8K_LABELS,
    ),
    "folder": DataSet(
        class_folders.read_class_folders,
        "a subfolder for each label, with its recordings",
        "your own recordings",
    ),
    "raven": DataSet(
        raven_rows,
        "Raven selection tables (*.selections.txt), beside their recordings or not",
        "your own annotations",
    ),
    "audacity": DataSet(
        audacity_rows,
        "Audacity label files (*.txt), beside their recordings or not",
        "your own annotations",
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
        Folder of the data set.
    manifest : str or Path, optional
        A CSV instead of a data set, see `lmaczs.data.manifest`.
    dataset : str
        A key of `DATASETS`.
    **options : Any
        For the set's reader; None means its default. Without effect on a manifest.

    Returns
    -------
    DataFrame
        id, path (absolute), label, text, split (empty where the set has none); start
        and stop where clips are cut.

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
    train_fraction: float = 1.0,
    seed: int = 0,
    **options: Any,
) -> Splits:
    """Clips of a data set, a manifest or shards, in three tables with a row a clip.

    The options are those of `read_rows`, where `manifest` may be a pattern of shards
    (`read_shards`), those of `fill_splits`, and those of `take_fraction` for the split
    train. Columns: id, path, label and texts.
    """
    if data_folder is None and manifest is not None and is_shards(manifest):
        if train_fraction != 1:
            raise InputError(
                "train_fraction is for clips in files: name fewer shards, or write "
                "shards of a part of the manifest"
            )
        return read_shards(str(manifest))
    if data_folder is None and manifest is not None:
        splits = manifest_splits(manifest, valid_share, test_share)
    else:
        rows = read_rows(data_folder, manifest, dataset, **options)
        splits = clip_splits(rows, valid_share, test_share)
    return replace(splits, train=take_fraction(splits.train, train_fraction, seed))


def labelled_test_clips(
    data_folder: str | Path | None = None,
    manifest: str | Path | None = None,
    dataset: str = "esc50",
    urbansound8k_folder: str | Path | None = None,
    **options: Any,
) -> tuple[pd.DataFrame, list[str]]:
    """Labelled clips to test on, and the labels to choose among.

    Parameters
    ----------
    data_folder : str or Path, optional
        Folder of the data set.
    manifest : str or Path, optional
        A CSV instead of a data set, see `lmaczs.data.manifest`.
    dataset : str
        A key of `DATASETS`.
    urbansound8k_folder : str or Path, optional
        The same as `data_folder` with `dataset` urbansound8k.
    **options : Any
        As of `read_rows`. Folds that are not tested on need not be there.

    Returns
    -------
    clips : DataFrame
        id, path, label; of the split test, or all clips where there are no splits.
    labels : list of str
        All that the set defines, or that its clips of any split have; sorted.

    Raises
    ------
    InputError
        If there is no labelled clip to test on, or one label alone.
    """
    places = (data_folder, urbansound8k_folder, manifest)
    if sum(place is not None for place in places) != 1:
        raise InputError(
            "give the clips by one of --data_folder=FOLDER, "
            "--urbansound8k_folder=FOLDER and --manifest=FILE.csv"
        )
    if manifest is not None:
        rows = read_manifest(manifest, open_recordings=True, for_test=True)
        return _tested(rows, manifest)  # whose recordings are checked already
    if urbansound8k_folder is not None:
        data_folder, dataset = urbansound8k_folder, "urbansound8k"
    one = DATASETS.get(dataset)
    if one and "test_only" in inspect.signature(one.read).parameters:
        options = {**_as_folds(options), "test_only": True}
    try:
        rows = read_rows(data_folder, None, dataset, **options)
    except MissingDataError as error:
        if dataset != "esc50":  # it is chosen, not the default
            raise
        raise MissingDataError(
            f"{error}; for other clips give --dataset=urbansound8k or --dataset=folder"
        ) from error
    _require_untrained(rows, options)
    clips, labels = _tested(rows, data_folder, one.labels if one else ())
    require_audio(clips.path)
    return clips, labels


def _as_folds(options: dict[str, Any]) -> dict[str, Any]:
    """Options with lists of folds, where a single one may be a number."""
    return {
        name: [value] if name.endswith("_folds") and isinstance(value, int) else value
        for name, value in options.items()
    }


def _require_untrained(rows: pd.DataFrame, options: dict[str, Any]) -> None:
    """Raise `InputError` if clips of split test are of a fold that was trained on."""
    if "fold" not in rows or "development" in set(rows.get("split_by", ())):
        return  # a development split has clips of every fold
    tested = set(rows.fold[rows.split == "test"])
    for name in ("train_folds", "valid_folds"):
        if both := sorted(tested.intersection(options.get(name) or ())):
            raise InputError(
                f"fold {both[0]} is in --{name} and would be tested on: give another "
                "one by --test_folds"
            )


def _tested(
    rows: pd.DataFrame, place: str | Path | None, labels: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Clips of the split test, or all where there are no splits, and all labels."""
    clip = [name for name in (*CLIP, "label") if name in rows]
    rows = rows[rows.label != ""].drop_duplicates(clip)  # a row a caption
    if rows.empty:
        raise InputError(
            f"{place} has no labels: clips are scored by their label, so give a "
            "manifest with a column label, or --dataset=folder with a subfolder a label"
        )
    labels = sorted({*labels, *rows.label})
    if len(labels) < 2:
        raise InputError(
            f"{place} has clips of {labels[0]!r} alone: the model chooses among "
            "labels, so add clips of another one"
        )
    if (rows.split == "").all():
        logger.info(
            "%s has no splits: all of its %d clips are tested on", place, len(rows)
        )
        rows = rows.assign(split="test")
    clips = rows[rows.split == "test"]
    if clips.empty:
        raise InputError(
            f"{place} has no labelled clip of split test: set the column split of some "
            f"of its {len(rows)} clips to test, or leave it out to test on all"
        )
    return clips, labels


def build_datasets(
    splits: Splits,
    front_end: FrontEnd,
    templates: Sequence[str],
    mixing: Mixing,
    augment: WaveformAugment | None = None,
    extra_labels: Sequence[str] = (),
    negatives_per_clip: int = 1,
    predicted_prob: float = 0.0,
    keep_in_memory: bool = False,
    buffer_clips: int = 256,
    max_unreadable: float = 0.05,
    seed: int = 0,
) -> dict[str, PromptedDataset | ShardDataset]:
    """Make what a decoder is trained, validated and tested on.

    Parameters
    ----------
    splits : Splits
        From `read_splits`.
    front_end : FrontEnd
        Gives rate and length of the clips.
    templates : sequence of str
        For labels; captions are prompts as they are.
    mixing : Mixing
        Of training clips.
    augment : WaveformAugment, optional
        Of training clips.
    extra_labels : sequence of str
        Labels that no clip has, as further absent prompts.
    negatives_per_clip : int
        Absent prompts for each training clip; one in validation and test.
    predicted_prob : float
        Probability that the predicted class replaces a training clip's first prompt.
    keep_in_memory : bool
        Whether clips are cached by each worker; without effect on shards.
    buffer_clips : int
        Clips of shards that each worker holds to draw from.
    max_unreadable : float
        Of the clips of a split, see `PromptedDataset`.
    seed : int
        Seed of all random draws.

    Returns
    -------
    dict of str to PromptedDataset or ShardDataset
        By split; mixtures are drawn of train.
    """
    tables = (splits.train, splits.valid, splits.test)
    texts = {text for table in tables for row in table.texts for text in row}
    labels = sorted({text.words for text in texts if text.is_label}.union(extra_labels))

    def make(
        table: pd.DataFrame,
        prompts: PromptSampler,
        mixing: Mixing | None = None,
        augment: WaveformAugment | None = None,
    ) -> PromptedDataset | ShardDataset:
        rate, drawn = front_end.sample_rate, (prompts, mixing, augment, seed)
        if in_shards(table):
            shards = ShardReader(table, rate)
            given = front_end, shards, *drawn, max_unreadable
            return ShardDataset(PromptedDataset(table, *given), shards, buffer_clips)
        files = FileReader(table, rate, keep_in_memory)
        return PromptedDataset(table, front_end, files, *drawn, max_unreadable)

    options = (templates, labels, negatives_per_clip, predicted_prob)
    drawn = PromptSampler(texts_of(splits.train), *options)
    valid, test = (PromptSampler(texts_of(x), templates, labels) for x in tables[1:])
    return {
        "train": make(splits.train, drawn, mixing, augment),
        "valid": make(splits.valid, valid),
        "test": make(splits.test, test),
    }
