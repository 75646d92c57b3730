"""Batches of a small CLAP's training: what is drawn, mixed, silenced and appended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Generator, Tensor

from lmaczs.distillation.batches import BatchBuilder, SoundBatch
from lmaczs.distillation.clip_cache import ClipFeatures
from lmaczs.distillation.composite_cache import CompositeFeatures
from lmaczs.distillation.mel_augment import MelAugment
from lmaczs.distillation.yamnet import patch_centres

LABELS = [f"label {index}" for index in range(5)]
PATCHES, BANDS, FRAMES = 10, 8, 251
OFF = MelAugment((0.0, 0.0), 0.0, 0.0, 0.0, 0.0, 0.0)
PLAIN = {"augment": OFF, "mix_prob": 0.0, "silent_prob": 0.0}


@pytest.fixture
def clips() -> ClipFeatures:
    """Ten clips of five labels, at two speeds, scored in three classes."""
    rng = Generator().manual_seed(0)
    mel = 10 ** (3 * torch.rand(10, 2, BANDS, FRAMES, generator=rng) - 3)
    scores = torch.rand(10, 2, PATCHES, 3, generator=rng)
    target, captions = torch.arange(10) % 5, [False] * 5
    table = pd.DataFrame({"split": ["train"] * 10})
    return ClipFeatures(table, mel, target, LABELS, captions, scores, ["a"] * 3, 5.0)


@pytest.fixture
def composites() -> CompositeFeatures:
    """Six composites, the first two without a label."""
    rng = Generator().manual_seed(5)
    present = torch.eye(6, 5, dtype=torch.bool).flip(0)
    return CompositeFeatures(
        (-40 * torch.rand(6, BANDS, FRAMES, generator=rng)).half(),
        torch.rand(6, PATCHES, 3, generator=rng).half(),
        torch.nn.functional.normalize(torch.randn(6, 4, generator=rng), dim=1),
        present,
    )


def augmented(
    builder: BatchBuilder, rows: int, strength: float = 1.0, seed: int = 0
) -> SoundBatch:
    """A training batch of the first clips."""
    rng = Generator().manual_seed(seed)
    return builder.augmented(torch.arange(rows), rng, strength)


def moved_together(mel: Tensor, scores: Tensor) -> bool:
    """Whether an event and its score are at the same time of each sound, anywhere."""
    turn = torch.exp(2j * torch.pi * torch.arange(FRAMES) / FRAMES)
    event, stretch = (mel.mean(1) * turn).sum(1), scores[..., 0].argmax(1)
    apart = event * torch.exp(-2j * torch.pi * (stretch + 0.5) / 8)
    near = apart.angle().abs() / (2 * torch.pi) < 0.5 / 8 + 0.01
    return bool(near.all()) and len(set(stretch.tolist())) > 4


def test_plain_clips_are_as_cached(clips: ClipFeatures) -> None:
    """At their own speed, from the beginning; scores interpolated over stretches."""
    sounds = BatchBuilder(clips, silent_prob=1.0, mix_prob=1.0).plain(torch.arange(3))
    assert torch.equal(sounds.mel, clips.mel[:3, 0])
    assert not sounds.silent.any()
    assert torch.equal(sounds.present, torch.eye(5)[:3])
    time, centres = (np.arange(8) + 0.5) / 8, patch_centres(PATCHES, 5.0)
    for own, row in zip(clips.scores[:3, 0], sounds.scores, strict=True):
        for k in range(3):
            expected = torch.tensor(np.interp(time, centres, own[:, k])).float()
            torch.testing.assert_close(row[:, k], expected, atol=1e-5, rtol=0)


def test_speeds_are_drawn_in_training(clips: ClipFeatures) -> None:
    """Sound and scores are of one speed, clip by clip."""
    mel, scores = clips.mel.clone(), torch.zeros_like(clips.scores)
    mel[:, 0], mel[:, 1], scores[:, 1] = 1, 2, 0.5
    sounds = augmented(
        BatchBuilder(replace(clips, mel=mel, scores=scores), **PLAIN), 10
    )
    second = sounds.scores[:, 0, 0] == 0.5
    assert 0 < second.sum() < 10
    assert torch.equal(sounds.mel[:, 0, 0] == 2, second)


def test_clips_begin_anywhere_in_training(clips: ClipFeatures) -> None:
    """An event moves, and its scores move with it."""
    mel, scores = torch.zeros_like(clips.mel), torch.zeros_like(clips.scores)
    mel[..., 113:129] = 1
    scores[:, :, 4] = 1  # the middle of this patch is at 0.48 of the clip
    sounds = augmented(
        BatchBuilder(replace(clips, mel=mel, scores=scores), **PLAIN), 10
    )
    assert moved_together(sounds.mel, sounds.scores)


def test_silent_sounds_hold_nothing(
    clips: ClipFeatures, composites: CompositeFeatures
) -> None:
    """A sound that is replaced by silence has no label, score or embedding."""
    options: dict[str, Any] = {"composites_in_batch": 3, "silent_prob": 1.0}
    sounds = augmented(BatchBuilder(clips, composites, **options), 4)
    assert sounds.silent.all()
    for value in (sounds.mel, sounds.present, sounds.scores, sounds.teacher_embedding):
        assert len(value) == 7
        assert not value.any()


def test_some_sounds_are_silent(clips: ClipFeatures) -> None:
    """About as many as the probability says; the others keep sound and label."""
    builder = BatchBuilder(clips, augment=OFF, mix_prob=0.0, silent_prob=0.3)
    batches = [augmented(builder, 10, seed=seed) for seed in range(40)]
    silent = torch.cat([sounds.silent for sounds in batches])
    assert float(silent.float().mean()) == pytest.approx(0.3, abs=0.1)
    for sounds in batches:
        assert torch.equal(sounds.mel.flatten(1).any(1), ~sounds.silent)
        assert torch.equal(sounds.present.sum(1) == 1, ~sounds.silent)


def test_mixtures_hold_both_labels(clips: ClipFeatures) -> None:
    """A mixture has the labels of both clips, and scores that no part exceeds."""
    alone = augmented(BatchBuilder(clips, **PLAIN), 4)
    mixed = augmented(BatchBuilder(clips, **{**PLAIN, "mix_prob": 1.0}), 4)
    assert torch.equal(alone.present.sum(1), torch.ones(4))
    assert torch.equal(mixed.present.sum(1), torch.full((4,), 2.0))
    assert (mixed.present >= alone.present).all()
    assert (mixed.scores >= alone.scores - 1e-6).all()
    assert (mixed.mel >= alone.mel).all()
    extra = mixed.mel.mean((1, 2)) / alone.mel.mean((1, 2)) - 1
    assert ((extra > 10**-0.6 - 1e-3) & (extra < 10**0.6 + 1e-3)).all()


def test_mixtures_are_rarer_at_first(clips: ClipFeatures) -> None:
    """At strength 0 a quarter of the probability at strength 1."""
    builder = BatchBuilder(clips, augment=OFF, mix_prob=0.8, silent_prob=0.0)
    for strength, expected in ((0.0, 0.2), (1.0, 0.8)):
        batches = [augmented(builder, 10, strength, seed) for seed in range(60)]
        labels = torch.cat([sounds.present.sum(1) for sounds in batches])
        assert float(labels.mean()) - 1 == pytest.approx(expected, abs=0.08)


def test_an_unlabelled_clip_in_a_mixture(clips: ClipFeatures) -> None:
    """It adds no label to its partner's."""
    clips = replace(clips, target=torch.tensor([-1, -1, *clips.target[2:]]))
    present = augmented(BatchBuilder(clips, **{**PLAIN, "mix_prob": 1.0}), 4).present
    assert present.shape == (4, 5)
    assert present.sum() == 4  # each of two labels, alone and as a partner
    assert set(present.nonzero()[:, 1].tolist()) == {2, 3}


def test_composites_come_after_the_clips(
    clips: ClipFeatures, composites: CompositeFeatures
) -> None:
    """As many as wanted, with their own labels and embeddings; none in validation."""
    alone = augmented(BatchBuilder(clips, **PLAIN), 4)
    builder = BatchBuilder(clips, composites, composites_in_batch=3, **PLAIN)
    sounds = augmented(builder, 4)
    assert len(sounds.mel) == 4 + 3
    assert torch.equal(sounds.present[:4], alone.present)
    assert not sounds.teacher_embedding[:4].any()
    pairs = zip(sounds.teacher_embedding[4:], sounds.present[4:], strict=True)
    for embedding, present in pairs:
        same = (composites.embedding == embedding).all(1)
        (row,) = same.nonzero()[:, 0].tolist()
        assert torch.equal(present, composites.present[row].float())
    assert len(builder.plain(torch.arange(4)).mel) == 4


def test_a_composite_is_rotated_with_its_scores(
    clips: ClipFeatures, composites: CompositeFeatures
) -> None:
    """An event and the score that it has come at the same time."""
    decibels = torch.full((6, BANDS, FRAMES), -100.0)
    decibels[..., 113:129] = 0
    scores = torch.zeros(6, PATCHES, 3)
    scores[:, 4] = 1
    changed = replace(composites, decibels=decibels.half(), scores=scores.half())
    builder = BatchBuilder(clips, changed, composites_in_batch=20, **PLAIN)
    sounds = augmented(builder, 4)
    assert moved_together(sounds.mel[4:], sounds.scores[4:])


def test_a_batch_depends_on_the_generator_alone(
    clips: ClipFeatures, composites: CompositeFeatures
) -> None:
    """The same generator gives the same batch, another one another."""
    builder = BatchBuilder(clips, composites, composites_in_batch=3)
    first, again, other = (augmented(builder, 6, seed=seed) for seed in (0, 0, 1))
    for found, expected in zip(vars(again).values(), vars(first).values(), strict=True):
        assert torch.equal(found, expected)
    assert not torch.equal(other.mel, first.mel)
