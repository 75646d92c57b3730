"""Features of all clips, in memory: mel power at several speeds, a tagger's scores."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from lmaczs.audio.effects import change_speed
from lmaczs.audio.resampling import resample
from lmaczs.data.build import read_rows
from lmaczs.data.lists import recordings_in
from lmaczs.data.recordings import digests_of
from lmaczs.data.segments import Segment, segments_of
from lmaczs.distillation.yamnet import SAMPLE_RATE
from lmaczs.frontend import FrontEnd, power
from lmaczs.utils.cache import cached
from lmaczs.utils.errors import InputError

logger = logging.getLogger(__name__)

NO_LABEL = -1
VERSION = "clips 1"  # of what is cached: raise it where the features change


class Tagger(Protocol):
    """An audio tagger of sound at 16 kHz, such as YAMNet."""

    class_names: list[str]
    fingerprint: str

    def forward(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [P, K] and embeddings [P, E] of the P patches of ``wav [samples]``."""
        ...


@dataclass(frozen=True)
class ClipFeatures:
    """All N clips of a training."""

    table: pd.DataFrame  # a row a clip: id, path, label, text, split, ...
    mel: Tensor  # [N, V, n_mels, T], power at V speeds, the clip's own speed first
    target: Tensor  # [N], index of the label, -1 for a clip without
    labels: list[str]  # all of them, sorted
    captions: list[bool]  # which of them are captions, used without a template
    scores: Tensor  # [N, V, P, K], the tagger's, of P patches; K is 0 without one
    class_names: list[str]  # the tagger's K
    seconds: float  # length of a clip as the encoder reads it

    def rows(self, split: str) -> Tensor:
        """Indices [n] of the clips of train, valid or test."""
        return torch.from_numpy((self.table.split == split).to_numpy().nonzero()[0])


# ---------------------------------------------------------------- which clips


def clip_table(
    unlabelled_folder: str | Path | None = None, **source: Any
) -> pd.DataFrame:
    """Table of the clips to train on, from `read_rows`, with unlabelled ones appended.

    Columns: id, path, label, text, split, and the data set's own. From recordings in
    `unlabelled_folder` only the tagger's scores are learnt.
    """
    table = read_rows(**source)
    if not (table.split == "train").any():
        place = source.get("manifest") or source.get("data_folder")
        raise InputError(f"{place} holds no clip whose split is train")
    if unlabelled_folder is not None:
        more = unlabelled_clips(unlabelled_folder)
        table = pd.concat([table, more], ignore_index=True)
    return table.reset_index(drop=True)


def unlabelled_clips(folder: str | Path) -> pd.DataFrame:
    """Table of all recordings below a folder, without labels, in split train."""
    paths = recordings_in(folder)
    ids = [str(path.relative_to(folder)) for path in paths]
    columns = {"id": ids, "path": [str(path.resolve()) for path in paths]}
    return pd.DataFrame(columns).assign(label="", text="", split="train")


def label_weights(target: Tensor, balance: float) -> Tensor:
    """Sampling weights [N] of clips: (number of clips with its label) ** -balance.

    `target` [N] are labels; a balance of 0 makes all clips equally likely, 1 all
    labels.
    """
    _, label, size = target.unique(return_inverse=True, return_counts=True)
    return size[label].double() ** -balance


# ------------------------------------------------------------------- features


def load_clips(
    table: pd.DataFrame,
    front_end: FrontEnd,
    speeds: Sequence[float],
    tagger: Tagger | None,
    cache: Path,
) -> ClipFeatures:
    """Compute the features of a `clip_table`, or read them from the file `cache`.

    The file is replaced if its clips or settings are others. The first of the speeds
    must be 1; unlabelled clips need a tagger.
    """
    ratios = [Fraction(str(speed)) for speed in speeds]
    if ratios[:1] != [1]:
        raise InputError(
            "speeds must begin with 1: clips are tested at their own speed"
        )
    texts = table.text.where(table.text != "", table.label)
    if tagger is None and (texts == "").any():
        raise InputError("unlabelled_folder needs a tagger: give --tagger_model")
    segments = segments_of(table)
    teacher = None if tagger is None else tagger.fingerprint
    settings = front_end_key(front_end), ratios, teacher
    key = digest_of(VERSION, clips_key(table), *settings)
    mel, scores = cached(
        cache, key, lambda: _features(segments, front_end, ratios, tagger)
    )
    labels = sorted(set(texts) - {""})
    captions = set(table.text)
    return ClipFeatures(
        table,
        mel,
        torch.tensor([labels.index(x) if x else NO_LABEL for x in texts]),
        labels,
        [label in captions for label in labels],
        scores.float(),
        tagger.class_names if tagger else [],
        front_end.max_samples / front_end.sample_rate,
    )


def _features(
    segments: Sequence[Segment],
    front_end: FrontEnd,
    speeds: Sequence[Fraction],
    tagger: Tagger | None,
) -> tuple[Tensor, Tensor]:
    """Mel power [N, V, n_mels, T] and half-precision scores [N, V, P, K]."""
    logger.info("Reading %d clips at %d speeds", len(segments), len(speeds))
    clips = [
        clip_features(segment.load(front_end.sample_rate), front_end, speeds, tagger)
        for segment in tqdm(segments, desc="clips", disable=len(segments) < 50)
    ]
    mel, scores = (torch.stack(part) for part in zip(*clips, strict=True))
    return mel, scores.half()


def clips_key(table: pd.DataFrame) -> list[tuple[object, ...]]:
    """Contents of a table's clips: SHA-256 of their files, start and stop.

    The table has the column sha256, or else the files are read.
    """
    if "sha256" not in table:
        digests = digests_of(table.path)
        table = table.assign(sha256=[digests.get(path) for path in table.path])
    pairs = zip(table.sha256, segments_of(table), strict=True)
    return [(sha256, one.start, one.stop) for sha256, one in pairs]


def front_end_key(front_end: FrontEnd) -> tuple[object, ...]:
    """All settings of a front end that features depend on."""
    numbers = (front_end.sample_rate, front_end.n_fft, front_end.hop_length)
    filters = front_end.mel_filters.double().sum().item()
    return (*numbers, front_end.padding, filters, front_end.max_samples)


def digest_of(*values: object) -> str:
    """SHA-256 of values' representations."""
    return hashlib.sha256(repr(values).encode()).hexdigest()


def clip_features(
    wav: Tensor,
    front_end: FrontEnd,
    speeds: Sequence[Fraction],
    tagger: Tagger | None = None,
) -> tuple[Tensor, Tensor]:
    """Mel power [V, n_mels, T] and scores [V, P, K] of ``wav [samples]`` at V speeds.

    A speed of 5/4 makes a clip shorter and higher. Encoder and tagger get it fitted to
    the same length. K is 0 without a tagger.
    """
    played = [change_speed(wav, speed)[None] for speed in speeds]
    fitted = torch.cat([front_end.fit_length(one) for one in played])
    mel = front_end.mel_power(power(front_end.stft(fitted)))[..., : front_end.n_frames]
    if tagger is None:
        return mel, torch.zeros(len(speeds), 1, 0)
    at_16k = resample(fitted, front_end.sample_rate, SAMPLE_RATE)
    return mel, torch.stack([tagger.forward(one)[0] for one in at_16k])
