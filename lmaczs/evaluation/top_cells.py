"""The first cells of a map, in an exact number: areas, curves and the loudest cells."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def top_cells(values: Tensor, counts: Tensor, power: Tensor) -> Tensor:
    """Masks of the highest cells of each clip, as many as `counts` has.

    Parameters
    ----------
    values : Tensor [B, F, T]
        A map, finite.
    counts : Tensor [B, N], int64
        Numbers of cells, from 0 to F * T.
    power : Tensor [B, F, T]
        Between equal values the louder cell comes first, then the one that is first in
        the flattened clip.

    Returns
    -------
    Tensor [B, N, F, T]
        1 for the chosen cells, else 0.
    """
    chosen = np.stack(
        [
            _first(*clip)
            for clip in zip(
                values.flatten(1).cpu().numpy(),
                counts.cpu().numpy(),
                power.flatten(1).cpu().numpy(),
                strict=True,
            )
        ]
    )
    masks = torch.from_numpy(chosen).to(values.device, torch.float32)
    return masks.reshape(*counts.shape, *values.shape[1:])


def _first(
    values: NDArray[np.floating], counts: NDArray[np.int64], power: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Of one clip: [N, F * T]. A sort of values is faster than one of cells."""
    ascending = np.sort(values)
    masks = np.zeros((len(counts), len(values)), bool)
    for mask, count in zip(masks, counts, strict=True):
        if count == 0:
            continue
        least = ascending[len(values) - count]
        mask[:] = values > least
        equal = np.flatnonzero(values == least)
        wanted = count - np.count_nonzero(mask)
        if wanted < len(equal):
            equal = equal[np.argsort(-power[equal], kind="stable")]
        mask[equal[:wanted]] = True
    return masks
