"""Clips with prompts, present and absent ones: what a decoder learns on.

Whatever is drawn at random is drawn for each clip from (seed, epoch, clip), never from
a global generator. So a run that was killed repeats itself, and neither the number of
workers nor that of processes changes what is drawn.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lmaczs.audio.io import load_audio
from lmaczs.audio.mixing import concatenate, limit_peak, mix_at_snr
from lmaczs.data.augment import WaveformAugment
from lmaczs.data.clip_texts import Phrase, PhrasePool, holders_of, phrases_of
from lmaczs.data.segments import Cut, cuts_of
from lmaczs.frontend import FrontEnd
from lmaczs.utils.errors import InputError


class PromptedClips(Dataset):
    """Clips of one split, fitted to the encoder's length, each with P prompts.

    The first prompt speaks of the clip: of several captions one is drawn in each epoch.
    The others (`negatives_per_clip`) are drawn from what is said of other clips, never
    of this one; in a mixture the first of them is the partner's half of the time, and
    then it is present.

    Parameters
    ----------
    table : DataFrame
        id, path, and label or phrases (a tuple of `Phrase` a clip); start and stop
        (seconds; NaN: where the recording begins and ends) where a part is meant.
    front_end : FrontEnd
        Gives rate and length policy.
    templates : sequence of str
        One is drawn for each prompt; the first one alone when `train` is false.
    labels : sequence of str, optional
        What absent prompts are drawn from, besides the table's captions: the labels of
        the whole data set. Without it the table's own.
    negatives_per_clip : int
        Other prompts for each clip.
    mixture_share : float
        Share of the training clips that are mixed with a clip of another label.
    mixture_db : float
        The partner is up to this many dB weaker or louder.
    sequence_share : float
        Share of the mixtures in which the two come one after the other.
    gain_db : float
        Training clips are made up to this many dB weaker.
    disturb : WaveformAugment, optional
        How training clips are disturbed, mixtures included.
    predicted_share : float
        Share of the training clips that are asked for what the model takes them for
        instead of what is said of them.
    seed : int
        Of everything that is drawn.
    train : bool
        Whether mixtures, gains and templates are drawn.
    keep_in_memory : bool
        Whether decoded clips are kept, by each worker its own; a recording of many
        clips is then decoded once.

    Raises
    ------
    InputError
        If there are too few labels or captions for `negatives_per_clip`.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        front_end: FrontEnd,
        templates: Sequence[str],
        labels: Sequence[str] | None = None,
        negatives_per_clip: int = 1,
        mixture_share: float = 0.5,
        mixture_db: float = 5.0,
        sequence_share: float = 0.0,
        gain_db: float = 12.0,
        disturb: WaveformAugment | None = None,
        predicted_share: float = 0.0,
        seed: int = 0,
        train: bool = True,
        keep_in_memory: bool = True,
    ) -> None:
        self.table = table.reset_index(drop=True)
        self.phrases = phrases_of(self.table)
        said = [phrase for row in self.phrases for phrase in row]
        own = {phrase.words for phrase in said if phrase.is_label}
        self.labels = sorted(own if labels is None else labels)
        captions = [phrase for phrase in said if not phrase.is_label]
        self.pool = PhrasePool([*map(Phrase, self.labels), *captions])
        self._require_absent(negatives_per_clip)
        self.holders = holders_of(self.phrases)
        self.front_end = front_end
        self.templates = list(templates)
        self.negatives = negatives_per_clip
        self.mixture_share = mixture_share if train else 0.0
        self.mixture_db, self.gain_db = mixture_db, gain_db
        self.sequence_share = sequence_share
        self.disturb = disturb if train and disturb is not None else WaveformAugment()
        self.predicted_share = predicted_share if train else 0.0
        self.seed, self.train = seed, train
        # shared: workers that outlive an epoch learn of the next one
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()
        self.memory: dict[Cut, Tensor] | None = {} if keep_in_memory else None
        self.cuts = cuts_of(self.table)
        self.cuts_in: dict[str, set[Cut]] = {}
        for cut in self.cuts:
            self.cuts_in.setdefault(cut.path, set()).add(cut)

    def _require_absent(self, negatives: int) -> None:
        """Refuse what leaves too little to ask a clip, or a mixture of two, for."""
        most = sorted((len(row) for row in self.phrases), reverse=True)[:2]
        left = min(len(self.pool) - most[0], len(self.pool) - sum(most) + 1)
        if negatives > 0 and left < negatives:
            raise InputError(
                f"negatives_per_clip is {negatives}, but there are only "
                f"{len(self.pool)} labels and captions to ask for what is not there"
            )

    @property
    def classes(self) -> dict[str, str]:
        """Classes that a clip of this split is told apart from others by.

        All labels, and where clips have captions the first one of each: zero-shot
        classification is then retrieval among the split's captions. From a class's
        name to the sentence that asks for it.
        """
        firsts = [row[0] for row in self.phrases]
        found = {one.words: one.words for one in firsts if not one.is_label}
        return found | {x: self.templates[0].format(x) for x in self.labels}

    @property
    def sentences(self) -> list[str]:
        """All prompts that may be asked for, each once."""
        labels = [t.format(x) for t in self.templates for x in self.labels]
        captions = [one.words for one in self.pool.phrases if not one.is_label]
        own = [one.words for row in self.phrases for one in row if not one.is_label]
        return list(dict.fromkeys([*labels, *captions, *own]))

    @property
    def epoch(self) -> int:
        """Number of the epoch that is drawn for, in the workers, too."""
        return int(self._epoch)

    @epoch.setter
    def epoch(self, number: int) -> None:
        self._epoch.fill_(number)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.table.iloc[index]
        rng = self.chance(row.id)
        wav, samples = self.clip(index, rng)
        sources = torch.stack([wav, torch.zeros_like(wav)])
        partner = self._draw_partner(index, rng)
        if partner is not None:
            other, _ = self.clip(partner, rng)
            sources, samples = self._join(wav, other, rng), len(wav)
        if self.train:
            sources, samples = self._disturb(sources, samples, rng)
        phrases, present = self._draw_phrases(index, partner, rng)
        return {
            "id": row.id,
            "wav": sources.sum(0),
            "sources": sources[:2],
            "samples": samples,
            "label": self.phrases[index][0].words,
            "prompts": [phrase.sentence(self._template(rng)) for phrase in phrases],
            "present": present,
            "ask_predicted": rng.random() < self.predicted_share,
        }

    def chance(self, clip_id: str) -> np.random.Generator:
        """Source of chance of one clip in one epoch.

        Parameters
        ----------
        clip_id : str
            Its id.

        Returns
        -------
        numpy.random.Generator
        """
        epoch = self.epoch if self.train else 0
        return np.random.default_rng([self.seed, epoch, zlib.crc32(clip_id.encode())])

    def clip(self, index: int, rng: np.random.Generator) -> tuple[Tensor, int]:
        """Read a clip and fit it to the encoder's length.

        Parameters
        ----------
        index : int
            Its row; of a clip that is too long a stretch is drawn in training, the
            middle is taken otherwise.
        rng : numpy.random.Generator
            Source of chance.

        Returns
        -------
        tuple
            Waveform [max_samples] and how many of them are the clip itself.
        """
        wav = self._read(self.cuts[index])
        surplus = len(wav) - self.front_end.max_samples
        offset = int(rng.integers(surplus + 1)) if self.train and surplus > 0 else None
        fitted = self.front_end.fit_length(wav[None], offset)[0]
        return fitted, min(len(wav), len(fitted))

    def _read(self, wanted: Cut) -> Tensor:
        rate = self.front_end.sample_rate
        if self.memory is not None and wanted in self.memory:
            return self.memory[wanted]
        whole = load_audio(wanted.path, rate)
        if self.memory is None:
            return wanted.of(whole, rate)
        # a recording is decoded once, however many clips are cut out of it
        for cut in self.cuts_in[wanted.path]:
            self.memory[cut] = cut.of(whole, rate)
        return self.memory[wanted]

    def _draw_partner(self, index: int, rng: np.random.Generator) -> int | None:
        """Row of a clip of which nothing is said that is said of this one."""
        if rng.random() >= self.mixture_share:
            return None
        alike = [i for phrase in self.phrases[index] for i in self.holders[phrase.key]]
        others = np.delete(np.arange(len(self)), alike)
        return int(rng.choice(others)) if len(others) else None

    def _join(self, wav: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
        level = rng.uniform(-self.mixture_db, self.mixture_db)
        if rng.random() >= self.sequence_share:
            return mix_at_snr(wav, other, level)
        share = rng.uniform(0.35, 0.65)
        first_leads = rng.random() < 0.5
        return limit_peak(concatenate(wav, other, share, level, first_leads))

    def _disturb(
        self, sources: Tensor, samples: int, rng: np.random.Generator
    ) -> tuple[Tensor, int]:
        disturbed = self.disturb(sources, self.front_end.sample_rate, rng)
        # the repetitions of a short clip are no longer alike
        samples = samples if disturbed is sources else sources.shape[-1]
        return disturbed * 10 ** (-rng.uniform(0, self.gain_db) / 20), samples

    def _draw_phrases(
        self, index: int, partner: int | None, rng: np.random.Generator
    ) -> tuple[list[Phrase], list[bool]]:
        own = self.phrases[index]
        others = () if partner is None else self.phrases[partner]
        absent = self.pool.outside([*own, *others])
        # every clip has as many prompts: where labels are few, the partner's is one
        ask_partner = partner is not None and self.negatives > 0
        ask_partner = ask_partner and (
            rng.random() < 0.5 or len(absent) < self.negatives
        )
        asked = [
            self._one_of(x, rng) for x in ([own, others] if ask_partner else [own])
        ]
        drawn = self.pool.draw(1 + self.negatives - len(asked), absent, rng)
        present = [True] * len(asked) + [False] * len(drawn)
        return [*asked, *drawn], present

    def _one_of(self, said: tuple[Phrase, ...], rng: np.random.Generator) -> Phrase:
        """One caption an epoch; the first in validation, whose name the class has."""
        # nothing is drawn where there is no choice
        several = self.train and len(said) > 1
        return said[int(rng.integers(len(said)))] if several else said[0]

    def _template(self, rng: np.random.Generator) -> str:
        if not self.train:
            return self.templates[0]
        return self.templates[int(rng.integers(len(self.templates)))]


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a batch of clips.

    Parameters
    ----------
    items : sequence of dict
        From `PromptedClips`.

    Returns
    -------
    dict
        wav [B, samples]; sources [B, 2, samples], of what is in it the clip itself and
        its partner, silence where it has none; samples [B], present [B, P] bool; id
        and label, lists of B; prompts, a list of B lists of P.
    """
    return {
        "id": [item["id"] for item in items],
        "label": [item["label"] for item in items],
        "prompts": [item["prompts"] for item in items],
        "wav": torch.stack([item["wav"] for item in items]),
        "sources": torch.stack([item["sources"] for item in items]),
        "samples": torch.tensor([item["samples"] for item in items]),
        "present": torch.tensor([item["present"] for item in items]),
        "ask_predicted": torch.tensor([item["ask_predicted"] for item in items]),
    }
