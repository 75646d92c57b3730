"""Likeness of masks against slow loops, scikit-image, and at its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from lmaczs.metrics.similarity import soft_iou, ssim


def mask_like(seed: int, *shape: int) -> Tensor:
    """Draw a mask in [0, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def slow_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """SSIM window by window: Gaussian of 11 by 11 cells, wherever it fits."""
    radius = 5
    taps = [math.exp(-((k / 1.5) ** 2) / 2) for k in range(-radius, radius + 1)]
    window = np.outer(taps, taps) / sum(taps) ** 2
    rows, columns = one.shape
    found = []
    for row in range(radius, rows - radius):
        for column in range(radius, columns - radius):
            where = np.s_[
                row - radius : row + radius + 1, column - radius : column + radius + 1
            ]
            a, b = one[where], other[where]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a = (window * (a - mean_a) ** 2).sum()
            var_b = (window * (b - mean_b) ** 2).sum()
            both = (window * (a - mean_a) * (b - mean_b)).sum()
            means = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            found.append(means * (2 * both + 9e-4) / (var_a + var_b + 9e-4))
    return float(np.mean(found))


def test_ssim_is_its_definition() -> None:
    """A mean over windows, with the constants of the paper for a range of 1."""
    one, noise = mask_like(0, 14, 17), mask_like(1, 14, 17)
    others = torch.stack([noise, 1 - one, 0.5 * one + 0.1, one.square()])
    pairs = [(one.double().numpy(), x.double().numpy()) for x in others]
    expected = [slow_ssim(*pair) for pair in pairs]
    found = ssim(one.expand_as(others), others).tolist()
    assert found == pytest.approx(expected, abs=1e-6)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for pair, value in zip(pairs, found, strict=True):
        reference = structural_similarity(*pair, data_range=1.0, **options)
        assert value == pytest.approx(reference, abs=1e-6)


def test_ssim_is_one_for_equal_masks_only() -> None:
    """It falls the more a mask is changed, and is symmetric."""
    one, noise = mask_like(0, 1, 20, 30), mask_like(1, 1, 20, 30)
    nothing = torch.zeros(1, 20, 30)
    assert ssim(one, one).item() == pytest.approx(1, abs=1e-6)
    assert ssim(nothing, nothing).item() == pytest.approx(1)
    found = [ssim(one, (1 - w) * one + w * noise).item() for w in (0.0, 0.2, 0.5, 1.0)]
    assert found == sorted(found, reverse=True)
    assert found[1] < 0.99
    assert found[-1] < 0.2
    assert ssim(noise, one).item() == pytest.approx(ssim(one, noise).item(), abs=1e-6)
    assert ssim(one, 1 - one).item() < 0


def test_soft_iou_is_a_loop_over_cells() -> None:
    """Common part of what either keeps; empty places do not count."""
    one, other = mask_like(4, 2, 1, 5, 7)
    pairs = list(zip(one.flatten().tolist(), other.flatten().tolist(), strict=True))
    expected = sum(map(min, pairs)) / sum(map(max, pairs))
    assert soft_iou(one, other).item() == pytest.approx(expected)
    around = [torch.nn.functional.pad(x, (0, 9, 0, 9)) for x in (one, other)]
    assert soft_iou(*around).item() == pytest.approx(expected)
    assert soft_iou(one, one).item() == 1
    assert soft_iou(one, torch.zeros_like(one)).item() == 0
    assert soft_iou(torch.zeros(1, 3, 3), torch.zeros(1, 3, 3)).item() == 1


def test_masks_of_other_shapes_are_refused() -> None:
    """Nothing is broadcast."""
    with pytest.raises(ValueError, match="shapes"):
        ssim(torch.zeros(1, 20, 20), torch.zeros(2, 20, 20))
