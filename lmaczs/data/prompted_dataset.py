"""Clips with present and absent prompts: what a decoder is trained on.

All random draws of a clip depend on (seed, epoch, clip), never on a global generator.
So a resumed run draws the same, whatever the number of workers and processes.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lmaczs.audio.mixing import concatenate, limit_peak, mix_at_snr
from lmaczs.data.augment import WaveformAugment
from lmaczs.data.clip_reader import ClipReader
from lmaczs.data.clip_texts import PromptSampler
from lmaczs.frontend import FrontEnd


@dataclass(frozen=True)
class Mixing:
    """How training clips are mixed and attenuated.

    Attributes
    ----------
    mix_prob : float
        Probability that a clip is mixed with a clip of another label.
    mix_snr_db : float
        Largest level difference of the two, either way, dB.
    concat_prob : float
        Probability that the two of a mixture come one after the other, not at once.
    max_attenuation_db : float
        Largest attenuation of a clip, dB.
    """

    mix_prob: float = 0.5
    mix_snr_db: float = 5.0
    concat_prob: float = 0.0
    max_attenuation_db: float = 12.0

    def mix(self, wav: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
        """Mix two clips of one length into [2, samples], whose sum is the mixture."""
        snr_db = rng.uniform(-self.mix_snr_db, self.mix_snr_db)
        if rng.random() >= self.concat_prob:
            return mix_at_snr(wav, other, snr_db)
        fraction = rng.uniform(0.35, 0.65)
        first_leads = rng.random() < 0.5
        return limit_peak(concatenate(wav, other, fraction, snr_db, first_leads))


class PromptedDataset(Dataset):
    """Clips of one split, fitted to the encoder's length, each with P prompts.

    Parameters
    ----------
    table : DataFrame
        A row a clip, with its id.
    front_end : FrontEnd
        Gives rate and length of the clips.
    reader : ClipReader
        Gives the waveforms of the table's rows.
    prompts : PromptSampler
        Gives the prompts of the table's rows.
    mixing : Mixing, optional
        For training. None: for evaluation, with unchanged clips and fixed prompts.
    augment : WaveformAugment, optional
        Augmentation of training clips, mixtures included.
    seed : int
        Seed of all random draws.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        front_end: FrontEnd,
        reader: ClipReader,
        prompts: PromptSampler,
        mixing: Mixing | None = None,
        augment: WaveformAugment | None = None,
        seed: int = 0,
    ) -> None:
        self.table = table.reset_index(drop=True)
        self.front_end, self.reader, self.prompts = front_end, reader, prompts
        self.training = mixing is not None
        self.mixing = mixing or Mixing(mix_prob=0.0, max_attenuation_db=0.0)
        self.augment = augment or WaveformAugment()
        self.seed = seed
        # shared with workers, which may outlive an epoch
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()

    @property
    def classes(self) -> dict[str, str]:
        """Classes of the zero-shot classifier, each with its prompt."""
        return self.prompts.classes

    @property
    def epoch(self) -> int:
        """The current epoch, in the workers, too."""
        return int(self._epoch)

    @epoch.setter
    def epoch(self, number: int) -> None:
        self._epoch.fill_(number)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip_id = self.table.id.iloc[index]
        rng = self.generator(clip_id)
        wav, samples = self._fitted(index, rng)
        sources = torch.stack([wav, torch.zeros_like(wav)])
        partner = self._draw_partner(index, rng)
        if partner is not None:
            other, _ = self._fitted(partner, rng)
            sources, samples = self.mixing.mix(wav, other, rng), len(wav)
        if self.training:
            sources, samples = self._altered(sources, samples, rng)
        prompts, present = self.prompts.draw(index, partner, rng, self.training)
        predicted = rng.random() < self.prompts.predicted_prob
        return {
            "id": clip_id,
            "wav": sources.sum(0),
            "sources": sources[:2],
            "samples": samples,
            "label": self.prompts.label(index),
            "prompts": prompts,
            "present": present,
            "use_predicted": self.training and predicted,
        }

    def generator(self, clip_id: str) -> np.random.Generator:
        """Random generator of one clip in one epoch."""
        epoch = self.epoch if self.training else 0
        return np.random.default_rng([self.seed, epoch, zlib.crc32(clip_id.encode())])

    def _fitted(self, index: int, rng: np.random.Generator) -> tuple[Tensor, int]:
        """Waveform [max_samples] of a clip, and how many samples are the clip itself.

        Of a longer clip, training draws a stretch; evaluation takes the middle.
        """
        wav = self.reader.read(index)
        if self.training:
            wav = self.augment.crop(wav, self.front_end.sample_rate, rng)
        surplus = len(wav) - self.front_end.max_samples
        draws = self.training and surplus > 0
        offset = int(rng.integers(surplus + 1)) if draws else None
        fitted = self.front_end.fit_length(wav[None], offset)[0]
        return fitted, min(len(wav), len(fitted))

    def _draw_partner(self, index: int, rng: np.random.Generator) -> int | None:
        if rng.random() >= self.mixing.mix_prob:
            return None
        others = self.prompts.partners(index, self.reader.at_hand())
        return int(rng.choice(others)) if len(others) else None

    def _altered(
        self, sources: Tensor, samples: int, rng: np.random.Generator
    ) -> tuple[Tensor, int]:
        augmented = self.augment(sources, self.front_end.sample_rate, rng)
        # the repetitions of a short clip now differ
        samples = samples if augmented is sources else sources.shape[-1]
        attenuation_db = rng.uniform(0, self.mixing.max_attenuation_db)
        return augmented * 10 ** (-attenuation_db / 20), samples


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a batch of the items of a `PromptedDataset`.

    wav [B, samples]; sources [B, 2, samples], the clip and its partner in the mixture
    (silence without one); samples [B]; present [B, P] and use_predicted [B], bool; id
    and label, lists of B; prompts, B lists of P.
    """
    names = ("samples", "present", "use_predicted")
    return {
        **{name: [item[name] for item in items] for name in ("id", "label", "prompts")},
        **{n: torch.stack([item[n] for item in items]) for n in ("wav", "sources")},
        **{name: torch.tensor([item[name] for item in items]) for name in names},
    }
