"""Clips with present and absent prompts: what a decoder is trained on.

All random draws of a clip depend on (seed, epoch, clip), never on a global generator.
So a resumed run draws the same, whatever the number of workers and processes.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Sequence
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
from lmaczs.utils.errors import AudioError, InputError

logger = logging.getLogger(__name__)


class UnreadableClipsError(InputError):
    """More clips of a split cannot be read than may be."""

    def __init__(self, text: str) -> None:
        # a DataLoader raises again what its worker met, with a traceback in the text
        super().__init__(text.rstrip().rsplit("UnreadableClipsError: ", 1)[-1])


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
    max_unreadable : float
        Fraction of the clips from which on it is an `UnreadableClipsError` if they
        cannot be read. Fewer are named in a warning; in training the next clip that can
        be read is taken instead, in evaluation an item is None.
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
        max_unreadable: float = 0.05,
    ) -> None:
        self.table = table.reset_index(drop=True)
        self.front_end, self.reader, self.prompts = front_end, reader, prompts
        self.training = mixing is not None
        self.mixing = mixing or Mixing(mix_prob=0.0, max_attenuation_db=0.0)
        self.augment = augment or WaveformAugment()
        self.seed, self.max_unreadable = seed, max_unreadable
        # shared with workers, which may outlive an epoch
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()
        self._unreadable = torch.zeros(len(self.table), dtype=torch.bool)
        self._unreadable.share_memory_()

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

    def __getitem__(self, index: int) -> dict[str, Any] | None:
        if item := self._item(index):
            return item
        for row in self._instead_of(index) if self.training else ():
            if item := self._item(row):
                return item
        if self.training:
            raise UnreadableClipsError(f"none of {len(self)} clips can be read")
        return None

    def _instead_of(self, index: int) -> Iterator[int]:
        """Other clips: those at hand, then those that follow in the table."""
        yield from self.reader.at_hand() or ()
        yield from range(index + 1, len(self))
        yield from range(index)

    @property
    def unreadable(self) -> int:
        """How many clips could not be read so far, by all workers."""
        return int(self._unreadable.sum())

    def _item(self, index: int) -> dict[str, Any] | None:
        """A clip with its prompts, None if it cannot be read."""
        clip_id = self.table.id.iloc[index]
        rng = self.generator(clip_id)
        read = self._fitted(index, rng)
        if read is None:
            return None
        wav, samples = read
        sources = torch.stack([wav, torch.zeros_like(wav)])
        partner = self._draw_partner(index, rng)
        other = None if partner is None else self._fitted(partner, rng)
        if other is None:
            partner = None
        else:
            sources, samples = self.mixing.mix(wav, other[0], rng), len(wav)
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

    def _fitted(
        self, index: int, rng: np.random.Generator
    ) -> tuple[Tensor, int] | None:
        """Waveform [max_samples] of a clip, and how many samples are the clip itself.

        Of a longer clip, training draws a stretch; evaluation takes the middle. None
        if the clip cannot be read.
        """
        try:
            wav = self.reader.read(index)
        except AudioError as error:
            self._leave_out(index, error)
            return None
        if self.training:
            wav = self.augment.crop(wav, self.front_end.sample_rate, rng)
        surplus = len(wav) - self.front_end.max_samples
        draws = self.training and surplus > 0
        offset = int(rng.integers(surplus + 1)) if draws else None
        fitted = self.front_end.fit_length(wav[None], offset)[0]
        return fitted, min(len(wav), len(fitted))

    def _leave_out(self, index: int, error: AudioError) -> None:
        """Count a clip that cannot be read, which could be when the run began."""
        if self._unreadable[index]:
            return
        self._unreadable[index] = True
        lost, total = self.unreadable, len(self)
        logger.warning("Clip %s is left out: %s", self.table.id.iloc[index], error)
        if lost > self.max_unreadable * total:
            raise UnreadableClipsError(
                f"{lost} of {total} clips can no longer be read, the last is {error}: "
                "see whether their disk is there; the same line resumes"
            )

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


def collate(items: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Make a batch of the items of a `PromptedDataset`; None where all are None.

    wav [B, samples]; sources [B, 2, samples], the clip and its partner in the mixture
    (silence without one); samples [B]; present [B, P] and use_predicted [B], bool; id
    and label, lists of B; prompts, B lists of P.
    """
    read = [item for item in items if item is not None]
    if not read:
        return None
    names = ("samples", "present", "use_predicted")
    return {
        **{name: [item[name] for item in read] for name in ("id", "label", "prompts")},
        **{n: torch.stack([item[n] for item in read]) for n in ("wav", "sources")},
        **{name: torch.tensor([item[name] for item in read]) for name in names},
    }
