"""Prompts of clips that have no labels: what the model itself ranks high and low.

A prompt counts as present in a clip where it is among those that the model finds most
similar to it, and as absent where its presence is low. Nobody says what sounds in a
clip, and nobody has to: a decoder explains what the model recognises, right or wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from lmaczs.clap import FrozenClap
from lmaczs.data.augment import WaveformAugment
from lmaczs.data.clip_reader import FileReader
from lmaczs.data.clip_texts import ClipText, PromptSampler
from lmaczs.data.prompted_dataset import Mixing, PromptedDataset
from lmaczs.data.splits import SPLITS, Splits
from lmaczs.presence import ABSENT, PRESENT, presence, reference_names, reference_text
from lmaczs.prompts import clean_prompt, read_prompts, to_sentence
from lmaczs.utils.cache import cached
from lmaczs.utils.digests import clips_digest, digest, fingerprint
from lmaczs.utils.errors import InputError

FEWEST = 8  # prompts of a vocabulary
CLASSES = 10  # prompts that the model chooses from, at least


class Ranked(NamedTuple):
    """Prompts of a vocabulary that count as present and absent in a clip: places."""

    high: list[int]
    low: list[int]


def choose_prompts(
    similarity: Tensor, references: Tensor, most: int = 3, least: int = 2
) -> list[Ranked]:
    """Choose the prompts of clips by the model's own ranks.

    Parameters
    ----------
    similarity : Tensor [N, V]
        Cosines of clips and the prompts of a vocabulary.
    references : Tensor [N, R]
        Those of the same clips and the reference prompts.
    most : int
        Prompts that are high, at most: the most similar ones of presence `PRESENT` or
        more, the most similar of all if there is none.
    least : int
        Prompts that are low, at least: those of a presence below `ABSENT`, else the
        least similar ones.

    Returns
    -------
    list of Ranked
        Of each clip: high by descending similarity, low by ascending place.
    """
    ranks = presence(similarity, references)
    orders = similarity.sort(dim=1, descending=True, stable=True).indices
    found = []
    for order, rank in zip(orders.tolist(), ranks.tolist(), strict=True):
        high = [i for i in order[:most] if rank[i] >= PRESENT] or order[:1]
        low = [i for i in order if rank[i] < ABSENT and i not in high]
        if len(low) < least:
            low = [i for i in order if i not in high][-least:]
        found.append(Ranked(high, sorted(low)))
    return found


class RankedPrompts(PromptSampler):
    """Draws the prompts of clips that have no labels.

    Parameters
    ----------
    ranked : sequence of Ranked
        Of each clip.
    vocabulary : sequence of ClipText
        The prompts, in the places of `ranked`.
    classes : sequence of int
        Places of those that the model chooses from.
    templates : sequence of str
        For labels; the first is for evaluation.
    negatives_per_clip : int
        Number of prompts beside the first.
    predicted_prob : float
        Probability that the predicted class replaces the first prompt in training.
    """

    def __init__(
        self,
        ranked: Sequence[Ranked],
        vocabulary: Sequence[ClipText],
        classes: Sequence[int],
        templates: Sequence[str],
        negatives_per_clip: int = 1,
        predicted_prob: float = 0.0,
    ) -> None:
        self.ranked = list(ranked)
        texts = [tuple(vocabulary[i] for i in one.high) for one in ranked]
        labels = [one.words for one in vocabulary]
        super().__init__(texts, templates, labels, negatives_per_clip, predicted_prob)
        self.vocabulary, self.chosen = list(vocabulary), list(classes)

    @property
    def classes(self) -> dict[str, str]:
        """Prompts that the model chooses from, by their words."""
        chosen = [self.vocabulary[i] for i in self.chosen]
        return {one.words: one.prompt(self.templates[0]) for one in chosen}

    def label(self, row: int) -> str:
        """None: it has no label."""
        return ""

    def draw_absent(
        self, row: int, partner: int | None, count: int, rng: np.random.Generator
    ) -> list[ClipText]:
        """Draw prompts that are low in a clip, and in the one it is mixed with."""
        low = self.ranked[row].low
        if partner is not None:
            both = np.intersect1d(low, self.ranked[partner].low).tolist()
            low = both if len(both) >= count else low
        drawn = rng.choice(low, count, replace=len(low) < count)
        return [self.vocabulary[i] for i in drawn]


def read_vocabulary(path: str | Path | None = None) -> list[ClipText]:
    """Prompts of a text file, one a line; without one the names of AudioSet's classes.

    Labels and sentences, as `lmaczs.prompts.to_sentence` tells them apart. InputError
    if the file cannot be used.
    """
    if path is None:
        return [ClipText(name) for name in reference_names()]
    texts: dict[str, ClipText] = {}
    for words in map(clean_prompt, read_prompts(path)):
        one = ClipText(words, is_label=to_sentence(words, "{}.") != words)
        texts.setdefault(one.key, one)
    if len(texts) < FEWEST:
        raise InputError(
            f"--prompts {path} has {len(texts)} prompts: give {FEWEST} or more, one a "
            "line, of sounds that are in the recordings and of others"
        )
    return list(texts.values())


def build_ranked_datasets(
    splits: Splits,
    clap: FrozenClap,
    templates: Sequence[str],
    mixing: Mixing,
    augment: WaveformAugment | None = None,
    vocabulary: str | Path | None = None,
    ranks: str | Path | None = None,
    negatives_per_clip: int = 1,
    predicted_prob: float = 0.0,
    keep_in_memory: bool = False,
    max_unreadable: float = 0.05,
    batch_size: int = 8,
    seed: int = 0,
) -> dict[str, PromptedDataset]:
    """Make what a decoder is trained, validated and tested on, of unlabelled clips.

    Parameters
    ----------
    splits : Splits
        From `lmaczs.data.unlabelled.read_unlabelled`. Digital silence is left out.
    clap : FrozenClap
        The model that is to be explained; it ranks the prompts on its own device.
    templates : sequence of str
        For labels; the first is that of the ranks.
    mixing : Mixing
        Of training clips.
    augment : WaveformAugment, optional
        Of training clips.
    vocabulary : str or Path, optional
        See `read_vocabulary`.
    ranks : str or Path, optional
        File in which the ranks are cached.
    negatives_per_clip : int
        Absent prompts for each training clip; one in validation and test.
    predicted_prob : float
        Probability that the predicted class replaces a training clip's first prompt.
    keep_in_memory : bool
        Whether clips are cached by each worker.
    max_unreadable : float
        Of the clips of a split, see `PromptedDataset`.
    batch_size : int
        Clips that are encoded at once.
    seed : int
        Seed of all random draws.

    Returns
    -------
    dict of str to PromptedDataset
        By split.

    Raises
    ------
    InputError
        If the vocabulary cannot be used, or a split has no sound.
    """
    prompts = read_vocabulary(vocabulary)
    tables = [getattr(splits, name).reset_index(drop=True) for name in SPLITS]
    every = pd.concat(tables, ignore_index=True)

    def rank() -> list[list[list[int]]]:
        return _ranks(every, clap, prompts, templates[0], batch_size)

    words = [one.prompt(templates[0]) for one in prompts]
    key = digest([fingerprint(clap), words, clips_digest(every)])
    found = rank() if ranks is None else cached(ranks, key, rank)
    chosen = sorted({place for high, _ in found for place in high})
    classes = chosen if len(chosen) >= CLASSES else range(len(prompts))
    datasets, first = {}, 0
    for name, table in zip(SPLITS, tables, strict=True):
        part = [Ranked(*one) for one in found[first : first + len(table)]]
        first += len(table)
        table, part = _sounding(table, part, name)
        drawn = (negatives_per_clip, predicted_prob) if name == "train" else ()
        sampler = RankedPrompts(part, prompts, classes, templates, *drawn)
        datasets[name] = PromptedDataset(
            table.assign(texts=sampler.texts),
            clap.front_end,
            FileReader(table, clap.front_end.sample_rate, keep_in_memory),
            sampler,
            mixing if name == "train" else None,
            augment if name == "train" else None,
            seed,
            max_unreadable,
        )
    return datasets


def _sounding(
    table: pd.DataFrame, ranked: Sequence[Ranked], split: str
) -> tuple[pd.DataFrame, list[Ranked]]:
    """Clips and ranks without digital silence; InputError if nothing is left."""
    sounding = [bool(one.high) for one in ranked]
    if not any(sounding):
        raise InputError(
            f"all clips for the split {split} are digital silence: give others by "
            "--data"
        )
    return table[sounding], [one for one in ranked if one.high]


@torch.no_grad()
def _ranks(
    clips: pd.DataFrame,
    clap: FrozenClap,
    vocabulary: Sequence[ClipText],
    template: str,
    batch_size: int,
) -> list[list[list[int]]]:
    """Fields of `Ranked` for each clip; both are empty in digital silence."""
    front_end, device = clap.front_end, clap.device
    reader = FileReader(clips, front_end.sample_rate, keep_in_memory=False)
    references = reference_text(clap, template)
    text = clap.embed_texts([one.prompt(template) for one in vocabulary]).to(device)
    found: list[list[list[int]]] = []
    starts = range(0, len(clips), batch_size)
    for start in tqdm(starts, "ranks", disable=None, leave=False):
        rows = range(start, min(start + batch_size, len(clips)))
        wavs = [front_end.fit_length(reader.read(row)[None])[0] for row in rows]
        batch = torch.stack(wavs).to(device)
        embedding = clap.audio_embedding(front_end.log_mel(batch))
        cosines = (embedding @ text.T).cpu(), (embedding @ references.T).cpu()
        for ranked, wav in zip(choose_prompts(*cosines), wavs, strict=True):
            found.append([*ranked] if wav.any() else [[], []])
    return found
