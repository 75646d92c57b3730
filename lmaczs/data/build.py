"""A manifest as what a decoder is trained, validated and tested on.

Rows of one clip are joined: several captions are several texts for the same sound. A
split that no row names is taken out of the training rows, by recording: no recording
is on both sides.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmaczs.data.clip_texts import Phrase
from lmaczs.data.esc50 import SPLITS, Splits
from lmaczs.data.manifest import ManifestError, read_manifest
from lmaczs.data.prompted_dataset import PromptedClips
from lmaczs.data.shards.dataset import PromptedShards
from lmaczs.data.shards.reader import is_shards, read_shards
from lmaczs.frontend import FrontEnd

logger = logging.getLogger(__name__)

CLIP = ["path", "start", "stop"]
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
        splits, kind = read_shards(str(manifest)), PromptedShards
        options["buffer_clips"] = buffer_clips
    else:
        splits, kind = manifest_splits(manifest, valid_share, test_share), PromptedClips
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


def manifest_splits(
    manifest: str | Path, valid_share: float = 0.2, test_share: float = 0.2
) -> Splits:
    """Read a manifest as three tables of clips.

    Parameters
    ----------
    manifest : str or Path
        A CSV, see `lmaczs.data.manifest`.
    valid_share : float
        See `fill_splits`.
    test_share : float
        See `fill_splits`.

    Returns
    -------
    Splits
        A row a clip: see `join_rows`.

    Raises
    ------
    ManifestError
        With all mistakes of the manifest and their lines; or if a split stays empty.
    """
    clips = join_rows(read_manifest(manifest, open_recordings=True))
    try:
        clips = fill_splits(clips, valid_share, test_share)
    except ValueError as error:
        raise ManifestError(Path(manifest), [str(error)]) from error
    sizes = ", ".join(f"{(clips.split == name).sum()} {name}" for name in SPLITS)
    logger.info("%s: %d clips (%s)", manifest, len(clips), sizes)
    return Splits(*(clips[clips.split == name] for name in SPLITS))


def join_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Join the rows of each clip: those that share recording, start and stop.

    Parameters
    ----------
    rows : DataFrame
        From `lmaczs.data.manifest.read_manifest`.

    Returns
    -------
    DataFrame
        A row a clip, as its first row has it, with phrases, a tuple of `Phrase`: each
        text and label once; label is the first of them that is one, or empty.
    """
    words = rows.text.where(rows.text != "", rows.label)
    phrases = list(map(Phrase, words, rows.text == ""))
    joined: dict[tuple, list[Phrase]] = {}
    clip_of = list(rows[CLIP].astype(str).itertuples(index=False, name=None))
    for clip, phrase in zip(clip_of, phrases, strict=True):
        joined.setdefault(clip, []).append(phrase)
    clips = rows[~rows[CLIP].astype(str).duplicated()].reset_index(drop=True)
    said = [tuple(dict.fromkeys(one)) for one in joined.values()]
    labels = [[p.words for p in one if p.is_label] for one in said]
    return clips.assign(phrases=said, label=[(x or [""])[0] for x in labels])


def fill_splits(
    clips: pd.DataFrame, valid_share: float = 0.2, test_share: float = 0.2
) -> pd.DataFrame:
    """Take the splits that no clip names out of the training clips, by recording.

    A recording is a file, or a value of the column ``recording`` where there is one.
    Which ones are taken depends on nothing but their names and labels; they are spread
    over the labels, and the only recording of a label stays in training.

    Parameters
    ----------
    clips : DataFrame
        From `join_rows`.
    valid_share : float
        Of the training recordings, at least one.
    test_share : float
        Likewise.

    Returns
    -------
    DataFrame
        With the column ``split`` filled.

    Raises
    ------
    ValueError
        If there are too few recordings, or none to train on.
    """
    clips = clips.copy()
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
    if not (clips.split == "train").any():
        raise ValueError("no row has the split train: there is nothing to learn from")
    return clips


def _recordings_of(clips: pd.DataFrame) -> pd.Series:
    if "recording" not in clips:
        return clips.path
    return clips.recording.where(clips.recording != "", clips.path)


def _spread(clips: pd.DataFrame, share: float) -> list[str]:
    """Recordings that make about a share of all, spread evenly over the labels."""
    named = pd.DataFrame({"name": _recordings_of(clips), "label": clips.label})
    named = named.drop_duplicates("name")
    # names often follow the order of recording, so that neighbours are alike
    named["order"] = [zlib.crc32(Path(name).name.encode()) for name in named.name]
    named = named.sort_values(["label", "order"])
    sizes = named.groupby("label").name.transform("size")
    named = named[(sizes > 1) | (named.label == "")]
    wanted = max(1, round(share * len(named)))
    if wanted >= len(named):
        raise ValueError(
            f"{len(named)} recordings cannot be split into train, valid and test: add "
            "recordings, two of a label at least, or a column split"
        )
    places = (np.arange(wanted) + 0.5) * len(named) / wanted
    return named.name.iloc[places.astype(int)].tolist()
