"""What a small CLAP hears in a step of its training.

Clips of a `ClipBank` at random speeds, from anywhere, mixed and augmented; beside them
composites of a `CompositeBank`, which are that already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from lmaczs.distillation import mel_augment as augment
from lmaczs.distillation import yamnet as audioset_teacher
from lmaczs.distillation.clip_cache import ClipBank
from lmaczs.distillation.composite_cache import CompositeBank

STEPS = 8  # stretches of a clip whose content the tagger also judges


@dataclass(frozen=True)
class SoundBatch:
    """Sounds, and what is known of them.

    Attributes
    ----------
    mel : Tensor [B, n_mels, T]
        Power.
    present : Tensor [B, L]
        1 for every label that sounds.
    scores : Tensor [B, S, K]
        The tagger's, of S stretches.
    goal : Tensor [B, D]
        Where the tagger hears them in the text space, unit norm; 0 where that is not
        known.
    """

    mel: Tensor
    present: Tensor
    scores: Tensor
    goal: Tensor

    def beside(self, other: SoundBatch) -> SoundBatch:
        """These sounds, and after them others.

        Parameters
        ----------
        other : SoundBatch
            The others.

        Returns
        -------
        SoundBatch
        """
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return SoundBatch(*(torch.cat(pair) for pair in pairs))


class SoundDrawer:
    """Draws and augments the sounds of a step.

    Parameters
    ----------
    clips : ClipBank
        Labelled and unlabelled clips.
    dim : int
        D, of the text space.
    hparams : dict
        Of hparams/clap_small.yaml.
    """

    def __init__(self, clips: ClipBank, dim: int, hparams: dict[str, Any]) -> None:
        self.clips, self.dim, self.hparams = clips, dim, hparams
        self.centres = patch_centres(
            clips.scores.shape[2], hparams["feature_extractor"].max_length_s
        )
        self.composites: CompositeBank | None = None
        self.goals = torch.zeros(0, dim)

    def as_they_are(self, batch: Tensor) -> SoundBatch:
        """Clips at their own speed.

        Parameters
        ----------
        batch : Tensor [B]
            Indices of clips.

        Returns
        -------
        SoundBatch
        """
        still = torch.zeros(len(batch), dtype=torch.long)
        return self._played(batch, still, still)

    def for_training(
        self, batch: Tensor, rng: Generator, hardness: float
    ) -> tuple[SoundBatch, Tensor]:
        """Clips and composites, augmented.

        Parameters
        ----------
        batch : Tensor [B]
            Indices of clips.
        rng : Generator
            Source of chance.
        hardness : float
            Of the augmentations, in [0, 1].

        Returns
        -------
        tuple
            The sounds, and which of them were made silent [B].
        """
        versions, frames = self.clips.mel.shape[1], self.clips.mel.shape[-1]
        speed = torch.randint(versions, (len(batch),), generator=rng)
        shift = torch.randint(frames, (len(batch),), generator=rng)
        sounds = self._mixed(self._played(batch, speed, shift), rng, hardness)
        if self.composites is not None:
            sounds = sounds.beside(self._composites(rng))
        chance = torch.rand(len(sounds.mel), generator=rng)
        silent = chance < self.hparams["silent_share"]
        mel = self._augmented(sounds.mel, rng, hardness)
        mel, heard = mel.masked_fill(silent[:, None, None], 0.0), ~silent
        present = sounds.present * heard[:, None]
        scores = sounds.scores * heard[:, None, None]
        return SoundBatch(mel, present, scores, sounds.goal * heard[:, None]), silent

    def _played(self, batch: Tensor, speed: Tensor, shift: Tensor) -> SoundBatch:
        """Clips at one of their speeds, from a frame on."""
        mel = augment.rotate(self.clips.mel[batch, speed], shift)
        scores = augment.rotate_scores(
            self.clips.scores[batch, speed],
            self.centres,
            shift / mel.shape[-1],
            STEPS,
        )
        present = torch.zeros(len(batch), len(self.clips.labels) + 1)
        present[torch.arange(len(batch)), self.clips.target[batch]] = 1
        unknown = torch.zeros(len(batch), self.dim)
        # a clip without label has the last one
        return SoundBatch(mel, present[:, :-1], scores, unknown)

    def _composites(self, rng: Generator) -> SoundBatch:
        bank, count = self.composites, self.hparams["composites_in_batch"]
        rows = torch.randint(len(bank), (count,), generator=rng)
        frames = bank.decibels.shape[-1]
        shift = torch.randint(frames, (count,), generator=rng)
        scores = augment.rotate_scores(
            bank.scores[rows].float(), self.centres, shift / frames, STEPS
        )
        mel = augment.rotate(bank.mel(rows), shift)
        return SoundBatch(mel, bank.present[rows].float(), scores, self.goals[rows])

    def _mixed(self, sounds: SoundBatch, rng: Generator, hardness: float) -> SoundBatch:
        """Some clips with another one of the batch."""
        count = len(sounds.mel)
        partner = torch.randperm(count, generator=rng)
        level = 12 * torch.rand(count, generator=rng) - 6
        share = self.hparams["mixture_share"] * (0.25 + 0.75 * hardness)
        mixed = torch.rand(count, 1, generator=rng) < share
        mel, present, scores = sounds.mel, sounds.present, sounds.scores
        both = augment.mix(mel, mel[partner], level)
        heard = 1 - (1 - scores) * (1 - scores[partner])
        return SoundBatch(
            torch.where(mixed[:, None], both, mel),
            torch.where(mixed, present + present[partner], present),
            torch.where(mixed[:, None], heard, scores),
            sounds.goal,
        )

    def _augmented(self, mel: Tensor, rng: Generator, hardness: float) -> Tensor:
        mel = augment.random_gain(mel, rng, -25.0, 5.0)
        mel = augment.random_filter(mel, rng, self.hparams["filter_db"])
        mel = augment.random_gate(mel, rng, 0.3 * hardness)
        mel = augment.random_band(mel, rng, 0.15 * hardness)
        for axis, share in ((1, 0.3), (2, 0.4)):
            mel = augment.random_stripes(mel, rng, axis, share * hardness)
        return mel


def patch_centres(patches: int, seconds: float) -> Tensor:
    """Middles of the tagger's patches.

    Parameters
    ----------
    patches : int
        Number P of patches.
    seconds : float
        Length of the clip.

    Returns
    -------
    Tensor [P]
        In lengths of the clip.
    """
    hop = audioset_teacher.PATCH_HOP_SAMPLES / audioset_teacher.SAMPLE_RATE
    half = audioset_teacher.PATCH_SAMPLES / audioset_teacher.SAMPLE_RATE / 2
    return (hop * torch.arange(patches) + half) / seconds
