"""How alike two masks are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from lmaczs.metrics.metric import ratio_or_zero, require_equal_shapes

SIGMA, RADIUS = 1.5, 5  # of the Gaussian window, in cells
C1, C2 = 0.01**2, 0.03**2


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of masks, mean over the windows that fit.

    Parameters
    ----------
    first : Tensor [B, F, T]
        In [0, 1].
    second : Tensor [B, F, T]
        In [0, 1].

    Returns
    -------
    Tensor [B]
        -1 to 1, 1 for equal masks; Gaussian windows of deviation 1.5, range 1.

    References
    ----------
    Wang et al., "Image Quality Assessment: From Error Visibility to Structural
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
    """What two masks have in common, of what either of them keeps.

    SSIM is high where both masks are empty; this is not.

    Parameters
    ----------
    first : Tensor [B, F, T]
        In [0, 1].
    second : Tensor [B, F, T]
        In [0, 1].

    Returns
    -------
    Tensor [B]
        ``sum(min) / sum(max)``, in [0, 1]; 1 for two that keep nothing.
    """
    require_equal_shapes(first, second)
    common = torch.minimum(first, second).sum((1, 2))
    either = torch.maximum(first, second).sum((1, 2))
    return torch.where(either > 0, ratio_or_zero(common, either), 1.0)
