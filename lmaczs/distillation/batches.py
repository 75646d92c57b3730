"""Training batches of a small CLAP: clips and composites, mixed and augmented."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from lmaczs.distillation.clip_cache import ClipFeatures
from lmaczs.distillation.composite_cache import CompositeFeatures
from lmaczs.distillation.mel_augment import MelAugment, mix, rotate, rotate_scores
from lmaczs.distillation.yamnet import patch_centres

STRETCHES = 8  # of equal length in a clip; the tagger's scores of each are targets


@dataclass(frozen=True)
class SoundBatch:
    """B sounds and their targets."""

    mel: Tensor  # [B, n_mels, T], power
    present: Tensor  # [B, L], 1 for every label that sounds
    scores: Tensor  # [B, S, K], the tagger's, of S stretches of time
    teacher_embedding: Tensor  # [B, D], the tagger's, projected; 0 where there is none
    silent: Tensor  # [B], whether the sound was replaced by digital silence

    def append(self, other: SoundBatch) -> SoundBatch:
        """These sounds, followed by those of another batch."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return SoundBatch(*(torch.cat(pair) for pair in pairs))


class BatchBuilder:
    """Builds batches for training and validation from cached features.

    Parameters
    ----------
    clips : ClipFeatures
        Labelled and unlabelled clips.
    composites : CompositeFeatures, optional
        Appended to the clips of every training batch.
    composites_in_batch : int
        Composites in a training batch.
    augment : MelAugment, optional
        Applied to training batches.
    mix_prob : float
        Probability of mixing a clip with another one of the batch at full strength; a
        quarter of it at strength 0.
    mix_snr_db : tuple of float
        Lowest and highest SNR of a mixture.
    silent_prob : float
        Probability of replacing a sound by digital silence.
    """

    def __init__(
        self,
        clips: ClipFeatures,
        composites: CompositeFeatures | None = None,
        *,
        composites_in_batch: int = 0,
        augment: MelAugment | None = None,
        mix_prob: float = 0.4,
        mix_snr_db: tuple[float, float] = (-6.0, 6.0),
        silent_prob: float = 0.05,
    ) -> None:
        self.clips, self.composites = clips, composites
        self.composites_in_batch = composites_in_batch
        self.augment = MelAugment() if augment is None else augment
        self.mix_prob, self.mix_snr_db = mix_prob, mix_snr_db
        self.silent_prob = silent_prob
        self.centres = patch_centres(clips.scores.shape[2], clips.seconds)

    def plain(self, batch: Tensor) -> SoundBatch:
        """Clips ``batch [B]``, at their own speed and without augmentation."""
        still = torch.zeros(len(batch), dtype=torch.long)
        return self._clips(batch, still, still)

    def augmented(self, batch: Tensor, rng: Generator, strength: float) -> SoundBatch:
        """Clips ``batch [B]``, and after them composites, for a training step.

        Each clip is played at a random speed and begins at a random frame. `strength`,
        in [0, 1], scales the augmentations.
        """
        versions, frames = self.clips.mel.shape[1], self.clips.mel.shape[-1]
        speed = torch.randint(versions, (len(batch),), generator=rng)
        shift = torch.randint(frames, (len(batch),), generator=rng)
        sounds = self._clips(batch, speed, shift)
        sounds = self._mixed(sounds, rng, strength)
        if self.composites is not None:
            drawn = self._composites(self.composites, rng)
            sounds = sounds.append(drawn)
        silent = torch.rand(len(sounds.mel), generator=rng) < self.silent_prob
        mel, loud = self.augment(sounds.mel, rng, strength), ~silent
        return SoundBatch(
            mel.masked_fill(silent[:, None, None], 0.0),
            sounds.present * loud[:, None],
            sounds.scores * loud[:, None, None],
            sounds.teacher_embedding * loud[:, None],
            silent,
        )

    def _clips(self, batch: Tensor, speed: Tensor, shift: Tensor) -> SoundBatch:
        mel = rotate(self.clips.mel[batch, speed], shift)
        start = shift / mel.shape[-1]
        scores = self.clips.scores[batch, speed]
        present = torch.zeros(len(batch), len(self.clips.labels) + 1)
        present[torch.arange(len(batch)), self.clips.target[batch]] = 1
        dim = 0 if self.composites is None else self.composites.embedding.shape[1]
        return SoundBatch(
            mel,
            present[:, :-1],  # the last column is that of clips without a label
            rotate_scores(scores, self.centres, start, STRETCHES),
            torch.zeros(len(batch), dim),
            torch.zeros(len(batch), dtype=torch.bool),
        )

    def _composites(self, composites: CompositeFeatures, rng: Generator) -> SoundBatch:
        count, frames = self.composites_in_batch, composites.decibels.shape[-1]
        rows = torch.randint(len(composites), (count,), generator=rng)
        shift = torch.randint(frames, (count,), generator=rng)
        scores, start = composites.scores[rows].float(), shift / frames
        return SoundBatch(
            rotate(composites.mel(rows), shift),
            composites.present[rows].float(),
            rotate_scores(scores, self.centres, start, STRETCHES),
            composites.embedding[rows],
            torch.zeros(count, dtype=torch.bool),
        )

    def _mixed(self, sounds: SoundBatch, rng: Generator, strength: float) -> SoundBatch:
        """Mix some clips with another one of the batch."""
        count, (low, high) = len(sounds.mel), self.mix_snr_db
        partner = torch.randperm(count, generator=rng)
        snr = low + (high - low) * torch.rand(count, generator=rng)
        probability = self.mix_prob * (0.25 + 0.75 * strength)
        mixed = torch.rand(count, 1, generator=rng) < probability
        mel, present, scores = sounds.mel, sounds.present, sounds.scores
        either = 1 - (1 - scores) * (1 - scores[partner])
        return SoundBatch(
            torch.where(mixed[:, None], mix(mel, mel[partner], snr), mel),
            torch.where(mixed, present + present[partner], present),
            torch.where(mixed[:, None], either, scores),
            sounds.teacher_embedding,
            sounds.silent,
        )
