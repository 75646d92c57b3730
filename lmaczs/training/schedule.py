"""The one schedule of learning rates: a linear warm-up, then half a cosine to 0."""

from __future__ import annotations

import math


def cosine_decay(done: float, total: float, warmup: float = 0.0) -> float:
    """Factor of the learning rate, in [0, 1], after `done` of `total` epochs or steps.

    It rises linearly from 0 to 1 during `warmup`, then falls to 0. It has no state, so
    a resumed training has none to load.
    """
    if done < warmup:
        return done / warmup
    fraction = (done - warmup) / max(1e-9, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, fraction))))
