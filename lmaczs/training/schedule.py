"""The one schedule of learning rates: a linear warm-up, then half a cosine to 0."""

from __future__ import annotations

import math


def cosine_decay(done: float, total: float, warmup: float = 0.0) -> float:
    """Factor of the learning rate at a point of a training.

    It depends on that point alone, so that a resumed training has no state to load.

    Parameters
    ----------
    done : float
        Epochs or steps that lie behind.
    total : float
        How many there are until the rate is 0, warm-up included.
    warmup : float
        During the first of them the factor rises linearly from 0 to 1.

    Returns
    -------
    float
        In [0, 1].
    """
    if done < warmup:
        return done / warmup
    fraction = (done - warmup) / max(1e-9, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, fraction))))
