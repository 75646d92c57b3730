"""The losses of CLAP training against slow loops and against CLIP's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lmaczs.distillation.losses import (
    clip_level,
    contrastive_loss,
    fit_logit_scale,
    silence_loss,
    soft_cross_entropy,
    tagger_loss,
)

CLIPS, TEXTS = 5, 7
SCALE = torch.tensor(9.0)


def cosines(rows: int = CLIPS, columns: int = TEXTS, seed: int = 0) -> Tensor:
    """Draw similarities in (-1, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(rows, columns, generator=generator) - 1


def shares() -> Tensor:
    """How much of each text is in each clip: mixtures, one clip and text without."""
    present = cosines(seed=1).clamp_min(0)
    present[2], present[:, 3] = 0, 0
    return present


def slow_softmax(scores: list[float]) -> list[float]:
    """Compute a softmax in plain Python."""
    exponentials = [math.exp(score) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def slow_cross_entropy(scores: list[float], weights: list[float]) -> float:
    """Cross-entropy with weights that are made to sum to one; 0 without any."""
    total, value = sum(weights), 0.0
    for probability, weight in zip(slow_softmax(scores), weights, strict=True):
        value -= weight / total * math.log(probability) if weight else 0.0
    return value


def test_soft_cross_entropy_is_a_loop() -> None:
    """Minus the targets' mean of log-probabilities, one value a row."""
    logits, targets = 3 * cosines(), shares() / shares().sum(1, True).clamp_min(1e-9)
    expected = [
        slow_cross_entropy(row, target)
        for row, target in zip(logits.tolist(), targets.tolist(), strict=True)
    ]
    actual = soft_cross_entropy(logits, targets)
    assert torch.allclose(actual, torch.tensor(expected), atol=1e-5)


def test_one_hot_targets_are_torchs_cross_entropy() -> None:
    """A distribution on one class is a label."""
    logits, labels = 3 * cosines(), torch.tensor([0, 6, 2, 2, 1])
    expected = nn.functional.cross_entropy(logits, labels, reduction="none")
    targets = nn.functional.one_hot(labels, TEXTS).float()
    assert torch.allclose(soft_cross_entropy(logits, targets), expected, atol=1e-6)


def test_contrastive_loss_is_a_loop_both_ways() -> None:
    """Half the clips' mean over texts, half the texts' mean over clips."""
    similarities, present = cosines(), shares()
    logits = (SCALE * similarities).tolist()
    to_text = [slow_cross_entropy(logits[i], present[i].tolist()) for i in range(CLIPS)]
    to_clip = [
        slow_cross_entropy([row[k] for row in logits], present[:, k].tolist())
        for k in range(TEXTS)
        if present[:, k].sum() > 0
    ]
    loss = contrastive_loss(similarities, present, SCALE)
    assert loss.shape == (CLIPS,)
    expected = 0.5 * sum(to_text) / CLIPS + 0.5 * sum(to_clip) / len(to_clip)
    assert loss.mean().item() == pytest.approx(expected, rel=1e-5)
    assert loss[2] == 0  # nothing is known of what is in this clip


def test_the_identity_makes_it_clips_infonce() -> None:
    """One text a clip: the mean of the two cross-entropies of CLIP and CLAP."""
    similarities = cosines(6, 6)
    logits, labels = SCALE * similarities, torch.arange(6)
    expected = nn.functional.cross_entropy(logits, labels)
    expected = (expected + nn.functional.cross_entropy(logits.T, labels)) / 2
    loss = contrastive_loss(similarities, torch.eye(6), SCALE)
    assert torch.allclose(loss.mean(), expected)


def test_contrastive_loss_knows_several_right_answers() -> None:
    """Two clips of one text share it: being alike to it is no mistake of either."""
    present = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    loss = contrastive_loss(2 * present - 1, present, torch.tensor(50.0))
    # clip to text: certain; text to clip: at best one half for each of two clips
    assert loss.mean().item() == pytest.approx(0.25 * math.log(2), abs=1e-5)


def test_amounts_count_by_their_ratio() -> None:
    """Only shares within a clip and within a text matter, not their scale."""
    similarities, present = cosines(), shares()
    assert torch.allclose(
        contrastive_loss(similarities, present, SCALE),
        contrastive_loss(similarities, 7 * present, SCALE),
    )


def test_tagger_loss_is_a_loop_over_its_classes() -> None:
    """Scores become a distribution; a clip without any costs nothing."""
    similarities, scores = cosines(), shares()
    expected = [
        slow_cross_entropy((SCALE * row).tolist(), score.tolist())
        for row, score in zip(similarities, scores, strict=True)
    ]
    actual = tagger_loss(similarities, scores, SCALE)
    assert torch.allclose(actual, torch.tensor(expected), atol=1e-5)
    assert actual[2] == 0


def test_tagger_loss_takes_stretches_of_clips() -> None:
    """Any leading shape: each stretch costs what it costs as a clip."""
    similarities, scores = cosines(CLIPS * 3), cosines(CLIPS * 3, seed=2).clamp_min(0)
    actual = tagger_loss(
        similarities.view(CLIPS, 3, TEXTS), scores.view(CLIPS, 3, TEXTS), SCALE
    )
    expected = tagger_loss(similarities, scores, SCALE)
    assert torch.equal(actual, expected.view(CLIPS, 3))


@pytest.mark.parametrize("silence", [None, 2])
def test_clip_level_is_a_loop(silence: int | None) -> None:
    """Half the mean and half the maximum over patches; silence is no content."""
    scores = torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(0))
    kept = scores.clone()
    level = clip_level(scores, silence)
    assert level.shape == (4, 5)
    for clip, row in zip(scores.tolist(), level.tolist(), strict=True):
        for k, value in enumerate(row):
            column = [patch[k] for patch in clip]
            expected = 0 if k == silence else (sum(column) / 3 + max(column)) / 2
            assert value == pytest.approx(expected, abs=1e-6)
    assert torch.equal(scores, kept)


@pytest.mark.parametrize("scale", [4.0, 12.0, 40.0])
def test_fit_logit_scale_finds_the_scale_that_labels_came_from(scale: float) -> None:
    """Labels that are drawn by probabilities of a scale give that scale back."""
    generator = torch.Generator().manual_seed(0)
    similarities = 0.5 * cosines(4000, 6)
    probabilities = (scale * similarities).softmax(-1)
    target = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
    assert fit_logit_scale(similarities, target) == pytest.approx(scale, rel=0.1)


def test_fit_logit_scale_of_a_model_that_is_always_right() -> None:
    """It is not certain: N clips of N say (N + 1) / (N + 2), in closed form here."""
    similarities = 0.1 * torch.eye(6)
    expected = 10 * math.log(5 * 7)
    found = fit_logit_scale(similarities, torch.arange(6))
    assert found == pytest.approx(expected, rel=0.02)
    assert fit_logit_scale(0.01 * similarities, torch.arange(6)) == pytest.approx(100)
    assert fit_logit_scale(similarities, torch.arange(6).flip(0)) == pytest.approx(1)


def test_silence_loss_pushes_every_sound_below_zero() -> None:
    """Squares of positive cosines, summed, and the distance to silence."""
    similarities, to_silence = cosines(), cosines(CLIPS, 1)[:, 0]
    expected = [
        sum(max(0.0, c) ** 2 for c in row) + 1 - own
        for row, own in zip(similarities.tolist(), to_silence.tolist(), strict=True)
    ]
    actual = silence_loss(similarities, to_silence)
    assert torch.allclose(actual, torch.tensor(expected), atol=1e-5)
    assert silence_loss(torch.full((1, 3), -0.1), torch.ones(1)) == 0


def test_gradients_are_finite_where_nothing_is_present() -> None:
    """Batches without any text or score make zeros."""
    similarities = cosines().requires_grad_()
    nothing = torch.zeros(CLIPS, TEXTS)
    loss = contrastive_loss(similarities, nothing, SCALE)
    loss = loss + tagger_loss(similarities, nothing, SCALE)
    loss.sum().backward()
    assert (loss == 0).all()
    assert (similarities.grad == 0).all()
