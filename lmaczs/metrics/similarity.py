"""Similarity of two masks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from lmaczs.metrics.metric import ratio_or_zero, require_equal_shapes

SIGMA, RADIUS = 1.5, 5  # of the Gaussian window, in cells
C1, C2 = 0.01**2, 0.03**2


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of masks [B, F, T] in [0, 1]: [B], -1 to 1.

    Mean over the Gaussian windows of deviation 1.5 cells that fit; range 1. Equal masks
    have 1. Wang et al., "Image Quality Assessment: From Error Visibility to Structural
    Similarity", IEEE TIP 2004.
    """
    require_equal_shapes(first, second)
    one, other = first.double(), second.double()
    mean_one, mean_other = _windowed(one), _windowed(other)
    variance_one = _windowed(one * one) - mean_one.square()
    variance_other = _windowed(other * other) - mean_other.square()
    covariance = _windowed(one * other) - mean_one * mean_other
    luminance = (2 * mean_one * mean_other + C1) / (
        mean_one.square() + mean_other.square() + C1
    )
    structure = (2 * covariance + C2) / (variance_one + variance_other + C2)
    return (luminance * structure).mean((1, 2))


def _windowed(cells: Tensor) -> Tensor:
    """Weighted mean of every 11 by 11 window: [B, F - 10, T - 10]."""
    place = torch.arange(-RADIUS, RADIUS + 1, dtype=cells.dtype, device=cells.device)
    taps = (-((place / SIGMA) ** 2) / 2).exp()
    taps = taps / taps.sum()
    rows = conv2d(cells[:, None], taps[None, None, :, None])
    return conv2d(rows, taps[None, None, None, :])[:, 0]


def soft_iou(first: Tensor, second: Tensor) -> Tensor:
    """``sum(min) / sum(max)`` of two masks [B, F, T] in [0, 1]: [B] in [0, 1].

    1 for two masks that keep nothing. SSIM is high where both masks are empty; this is
    not.
    """
    require_equal_shapes(first, second)
    common = torch.minimum(first, second).sum((1, 2))
    either = torch.maximum(first, second).sum((1, 2))
    return torch.where(either > 0, ratio_or_zero(common, either), 1.0)
