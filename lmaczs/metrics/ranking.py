"""How well a score tells clips of a kind from others, whatever the threshold."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def average_precision(scores: Tensor, present: Tensor) -> Tensor:
    """Mean of the precision at each clip of the kind, from the highest score down.

    Parameters
    ----------
    scores : Tensor [N, P]
        Of N clips by P scores.
    present : Tensor [N], bool
        Which clips are of the kind.

    Returns
    -------
    Tensor [P]
        In [0, 1], 1 where all of them are ahead. Clips of equal scores come at once.
        NaN where no clip is of the kind.
    """
    found = [_average_precision(column, present) for column in scores.unbind(1)]
    return torch.stack(found) if found else scores.new_zeros(0)


def _average_precision(scores: Tensor, present: Tensor) -> Tensor:
    if not present.any():
        return scores.new_tensor(math.nan)
    ahead = scores[:, None] >= scores[present]  # [N, n]
    precision = ahead[present].sum(0) / ahead.sum(0)
    return precision.to(scores.dtype).mean()


def roc_auc(scores: Tensor, present: Tensor) -> Tensor:
    """Chance that a clip of the kind has a higher score than another one.

    Of scores [N, P] and the clips of the kind [N]: [P] in [0, 1]. Equal scores count
    half; NaN where all clips are of the kind, or none.
    """
    own, others = scores[present][:, None], scores[~present][None]
    higher = (own > others).double() + (own == others).double() / 2
    return higher.mean((0, 1)).to(scores.dtype)
