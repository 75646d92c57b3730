"""Clips in memory, at several speeds, with an audio tagger's scores."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from lmaczs.audio.effects import change_speed
from lmaczs.audio.io import load_audio
from lmaczs.audio.resampling import resample
from lmaczs.data.esc50 import read_esc50
from lmaczs.data.lists import recordings_in
from lmaczs.data.manifest import read_manifest
from lmaczs.distillation import yamnet as audioset_teacher
from lmaczs.distillation.yamnet import AudioSetTagger
from lmaczs.frontend import FrontEnd, power
from lmaczs.utils.files import atomic_write

logger = logging.getLogger(__name__)

NO_LABEL = -1


@dataclass(frozen=True)
class ClipBank:
    """All clips in memory.

    Attributes
    ----------
    table : DataFrame
        One row a clip: id, path, label, split and what the set carries.
    mel : Tensor [N, V, n_mels, T]
        Mel power at V speeds, the clip's own first.
    target : Tensor [N]
        Index of each clip's label in `labels`, -1 for a clip without.
    labels : list of str
        All labels, sorted.
    captions : list of bool
        Which of `labels` are captions, which no template is put around.
    scores : Tensor [N, V, P, K]
        The tagger's scores of P patches; K is 0 without one.
    class_names : list of str
        The tagger's K class names.
    """

    table: pd.DataFrame
    mel: Tensor
    target: Tensor
    labels: list[str]
    captions: list[bool]
    scores: Tensor
    class_names: list[str]

    def rows(self, split: str) -> Tensor:
        """Indices of a split's clips.

        Parameters
        ----------
        split : str
            train, valid or test.

        Returns
        -------
        Tensor [n]
        """
        return torch.from_numpy((self.table.split == split).to_numpy().nonzero()[0])


def load_clips(hparams: dict[str, Any]) -> ClipBank:
    """Read, split and score the clips that a YAML names.

    Parameters
    ----------
    hparams : dict
        Of hparams/clap_small.yaml.

    Returns
    -------
    ClipBank

    Raises
    ------
    ValueError
        If the first of the speeds is not 1.
    """
    table = load_table(hparams)
    front_end = FrontEnd(hparams["feature_extractor"])
    tagger = None
    if hparams["tagger_model"] is not None:
        tagger = AudioSetTagger(hparams["tagger_model"], hparams["tagger_class_map"])
    cache = Path(hparams["output_folder"]) / "clips.pt"
    speeds = [Fraction(str(speed)) for speed in hparams["speeds"]]
    if speeds[:1] != [1]:
        raise ValueError("the first of speeds must be 1: tests hear clips as they are")
    mel, scores = cached_features(cache, table, front_end, speeds, tagger)
    texts = table.text.where(table.text != "", table.label)
    labels = sorted(set(texts) - {""})
    target = [labels.index(text) if text else NO_LABEL for text in texts]
    captions = set(table.text)
    return ClipBank(
        table,
        mel,
        torch.tensor(target),
        labels,
        [label in captions for label in labels],
        scores,
        tagger.class_names if tagger else [],
    )


def load_table(hparams: dict[str, Any]) -> pd.DataFrame:
    """Table of the clips that a YAML names: a manifest or ESC-50, and unlabelled ones.

    Parameters
    ----------
    hparams : dict
        Of hparams/clap_small.yaml.

    Returns
    -------
    DataFrame
        id, path, label, text, split, and what the set carries.

    Raises
    ------
    ValueError
        If neither or both of data_folder and manifest are given, or nothing is to be
        trained on.
    """
    manifest, folder = hparams["manifest"], hparams["data_folder"]
    if (manifest is None) == (folder is None):
        raise ValueError("give --data_folder=ESC50 or --manifest=FILE.csv, one of them")
    if manifest is None:
        table = hparams["split"](read_esc50(folder)).assign(text="")
    else:
        table = read_manifest(manifest)
    if not (table.split == "train").any():
        raise ValueError(f"{manifest or folder} holds no clip whose split is train")
    if hparams["unlabelled_folder"] is not None:
        more = unlabelled_clips(hparams["unlabelled_folder"])
        if hparams["tagger_model"] is None:
            raise ValueError("unlabelled_folder needs a tagger: give --tagger_model")
        table = pd.concat([table, more], ignore_index=True)
    return table.reset_index(drop=True)


def unlabelled_clips(folder: str | Path) -> pd.DataFrame:
    """Every recording below a folder, to learn a tagger's scores on.

    Parameters
    ----------
    folder : str or Path
        Searched with its subfolders.

    Returns
    -------
    DataFrame
        id, path, label and text (empty), split (train).

    Raises
    ------
    FileNotFoundError
        If it holds no recording.
    """
    paths = recordings_in(folder)
    ids = [str(path.relative_to(folder)) for path in paths]
    columns = {"id": ids, "path": [str(path.resolve()) for path in paths]}
    return pd.DataFrame(columns).assign(label="", text="", split="train")


def label_weights(target: Tensor, balance: float) -> Tensor:
    """How often each clip is drawn, up to a factor.

    Parameters
    ----------
    target : Tensor [N]
        Labels.
    balance : float
        0: each clip alike; 1: each label alike.

    Returns
    -------
    Tensor [N]
        Size of the clip's label to the power of minus `balance`, float64.
    """
    _, kind, size = target.unique(return_inverse=True, return_counts=True)
    return size[kind].double() ** -balance


# ------------------------------------------------------------------- features


def cached_features(
    cache: Path,
    table: pd.DataFrame,
    front_end: FrontEnd,
    speeds: Sequence[Fraction],
    tagger: AudioSetTagger | None,
) -> tuple[Tensor, Tensor]:
    """Mel power and scores of all clips, computed once.

    Parameters
    ----------
    cache : Path
        File that keeps them; another set of clips or options replaces it.
    table : DataFrame
        N rows: path; start and stop (seconds) where only a part is meant.
    front_end : FrontEnd
        The checkpoint's.
    speeds : sequence of Fraction
        V of them.
    tagger : AudioSetTagger, optional
        Without one there are no scores.

    Returns
    -------
    tuple of Tensor
        Mel power [N, V, n_mels, T] and scores [N, V, P, K].
    """
    cuts = list(
        table.reindex(columns=["path", "start", "stop"]).itertuples(False, None)
    )
    key = _key(cuts, front_end, speeds, tagger)
    if cache.is_file():
        kept = torch.load(cache, weights_only=True, mmap=True)
        if kept["key"] == key:
            return kept["mel"].float(), kept["scores"].float()
    logger.info("Reading %d clips at %d speeds", len(cuts), len(speeds))
    clips = [
        clip_features(path, front_end, speeds, tagger, start, stop)
        for path, start, stop in tqdm(cuts, desc="clips", disable=len(cuts) < 50)
    ]
    mel, scores = (torch.stack(part) for part in zip(*clips, strict=True))
    cache.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(cache) as part:
        torch.save({"key": key, "mel": mel, "scores": scores.half()}, part)
    return mel, scores


def _key(cuts: list[tuple], front_end: FrontEnd, speeds: Any, tagger: Any) -> str:
    """What decides the features: which files in which state, and every option."""
    states = [Path(path).stat() for path, *_ in cuts]
    files = [
        (*cut, state.st_size, state.st_mtime_ns)
        for cut, state in zip(cuts, states, strict=True)
    ]
    numbers = (front_end.sample_rate, front_end.n_fft, front_end.hop_length)
    numbers = (*numbers, front_end.padding)
    filters = front_end.mel_filters.double().sum().item(), front_end.max_samples
    teacher = None if tagger is None else tagger.fingerprint
    text = repr((files, numbers, filters, list(speeds), teacher))
    return hashlib.sha256(text.encode()).hexdigest()


def clip_features(
    path: str,
    front_end: FrontEnd,
    speeds: Sequence[Fraction],
    tagger: AudioSetTagger | None = None,
    start: float = math.nan,
    stop: float = math.nan,
) -> tuple[Tensor, Tensor]:
    """Mel power and scores of a recording at some speeds.

    The tagger hears what the encoder gets: the clip fitted to its length.

    Parameters
    ----------
    path : str
        A recording.
    front_end : FrontEnd
        The checkpoint's.
    speeds : sequence of Fraction
        V speeds; 5/4 makes a clip shorter and higher.
    tagger : AudioSetTagger, optional
        Without one there are no scores.
    start : float
        Where the clip begins in the recording, seconds; NaN: where that begins.
    stop : float
        Where it ends, seconds; NaN: where the recording ends.

    Returns
    -------
    tuple of Tensor
        Mel power [V, n_mels, T] and scores [V, P, K].

    Raises
    ------
    AudioError
        If the recording cannot be read, or ends before `start`.
    """
    rate = front_end.sample_rate
    begin, end = (None if math.isnan(time) else time for time in (start, stop))
    wav = load_audio(path, rate, start=begin, stop=end)
    played = [change_speed(wav, speed)[None] for speed in speeds]
    fitted = torch.cat([front_end.fit_length(one) for one in played])
    mel = front_end.mel_power(power(front_end.stft(fitted)))[..., : front_end.n_frames]
    if tagger is None:
        return mel, torch.zeros(len(speeds), 1, 0)
    heard = resample(fitted, front_end.sample_rate, audioset_teacher.SAMPLE_RATE)
    return mel, torch.stack([tagger.scores(one) for one in heard])
