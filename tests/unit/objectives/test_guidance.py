"""SpeechBrain's further terms of L-MAC against slow loops over their definitions."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.objectives.guidance import (
    LogMagnitude,
    guidance_term,
    log_magnitude,
    similar_enough,
    total_variation_term,
)
from lmaczs.objectives.terms import MaskedPairs


def slow_total_variation(mask: Tensor) -> float:
    """Half the squared steps between neighbours, by the number of cells."""
    rows, columns = mask.shape
    total = 0.0
    for f in range(rows):
        for t in range(columns):
            if f + 1 < rows:
                total += float(mask[f + 1, t] - mask[f, t]) ** 2
            if t + 1 < columns:
                total += float(mask[f, t + 1] - mask[f, t]) ** 2
    return total / 2 / (rows * columns)


def slow_correlation(one: Tensor, other: Tensor) -> float:
    """Scalar product by both norms."""
    pairs = list(zip(one.flatten().tolist(), other.flatten().tolist(), strict=True))
    norms = [math.sqrt(sum(p[k] ** 2 for p in pairs)) for k in (0, 1)]
    return sum(x * y for x, y in pairs) / (norms[0] * norms[1])


def slow_cross_entropy(mask: Tensor, clean: Tensor, level: float) -> float:
    """Mean over cells of what a mask pays for each loud and each quiet cell."""
    loudest, costs = float(clean.max()), []
    for m, c in zip(mask.flatten().tolist(), clean.flatten().tolist(), strict=True):
        counted = min(m, 0.95)
        costs.append(-math.log(counted if c >= level * loudest else 1 - counted))
    return sum(costs) / len(costs)


def magnitude_of(pairs: MaskedPairs) -> LogMagnitude:
    """The clips of the batch with a second sound beside each clean one."""
    assert pairs.magnitude is not None
    return pairs.magnitude


def test_total_variation_is_a_loop_over_neighbours(pairs: MaskedPairs) -> None:
    """Mean over a clip's masks; nothing for constant ones, whatever their level."""
    expected = [
        sum(slow_total_variation(mask) for mask in clip) / len(clip)
        for clip in pairs.masks
    ]
    torch.testing.assert_close(
        total_variation_term(pairs.masks), torch.tensor(expected)
    )
    assert not total_variation_term(torch.full((2, 3, 4, 5), 0.7)).any()


def test_total_variation_is_at_most_that_of_a_chessboard() -> None:
    """Every neighbour differs by one: nearly one half for each of two axes."""
    board = (torch.arange(20)[:, None] + torch.arange(30)) % 2
    found = total_variation_term(board[None, None].float()).item()
    assert found == pytest.approx((19 * 30 + 20 * 29) / 2 / 600)


def test_guidance_is_a_loop_over_cells(pairs: MaskedPairs) -> None:
    """Only for clips whose masked-in spectrogram resembles the clean one."""
    magnitude, masks = magnitude_of(pairs), pairs.masks[:, 0]
    correlations = [
        slow_correlation(clean, mask * clip)
        for mask, clip, clean in zip(masks, *magnitude, strict=True)
    ]
    threshold = sorted(correlations)[2]
    threshold = (threshold + sorted(correlations)[1]) / 2
    guided = [one >= threshold for one in correlations]
    assert sum(guided) == 3
    assert similar_enough(masks, magnitude, threshold).tolist() == guided
    expected = [
        slow_cross_entropy(mask, clean, 0.35) * on
        for mask, clean, on in zip(masks, magnitude.clean, guided, strict=True)
    ]
    found = guidance_term(masks, magnitude, threshold, 0.35)
    torch.testing.assert_close(found, torch.tensor(expected))


def test_silence_and_empty_masks_are_not_guided(pairs: MaskedPairs) -> None:
    """They resemble nothing, even by a threshold of 0; the gradient stays finite."""
    silent = LogMagnitude(*(torch.zeros(1, 6, 7) for _ in range(2)))
    mask = torch.ones(1, 6, 7, requires_grad=True)
    cost = guidance_term(mask, silent, 0.0, 0.35)
    cost.sum().backward()
    assert cost.tolist() == [0]
    assert mask.grad is not None and mask.grad.isfinite().all()
    empty = torch.zeros_like(pairs.masks[:, 0])
    assert not similar_enough(empty, magnitude_of(pairs), 0.0).any()


def test_masks_that_are_rounded_to_one_learn_from_every_cell() -> None:
    """A cross-entropy would have an infinite gradient where they keep a quiet cell."""
    clean = torch.linspace(0.01, 1, 42).view(1, 6, 7)
    mask = torch.full((1, 6, 7), 0.5)
    mask[:, :3] = 1 + 1e-6  # interpolated masks exceed 1 by rounding
    mask.requires_grad_()
    cost = guidance_term(mask, LogMagnitude(clean, clean), 0.6, 0.35)
    cost.sum().backward()
    assert 0 < cost.item() < -math.log(0.05)
    assert mask.grad is not None
    push = mask.grad[0] * mask.numel()
    assert (push[clean[0] < 0.35] > 0.9).all()
    assert (push[clean[0] >= 0.35] < -0.9).all()
    assert push.abs().max() <= 20.1


@pytest.mark.parametrize("domain", ["stft", "mel"])
def test_log_magnitude_is_on_the_grid_of_the_masks(
    tiny_clap: FrozenClap, draw: Callable[..., Tensor], domain: str
) -> None:
    """A cell of amplitude a is log(1 + a); the shape is that of a mask."""
    front_end = tiny_clap.front_end
    spectrum = front_end.stft(draw(2, front_end.max_samples))
    found = log_magnitude(front_end, spectrum, domain)
    rows = front_end.n_mels if domain == "mel" else spectrum.shape[1]
    assert found.shape == (2, rows, front_end.n_frames)
    if domain == "stft":
        inside = spectrum.abs()[..., : front_end.n_frames]
        torch.testing.assert_close(found, torch.log(1 + inside), atol=1e-5, rtol=1e-4)
