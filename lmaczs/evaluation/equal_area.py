"""Equal area: every method's map cut to the same number of cells, clip by clip.

A soft mask, a rounded one and a larger one score differently whatever they explain.
Here each method only ranks the cells: the highest ones are kept, as many for every
method, and the masks of zeros and ones are scored as any others. A map is taken alone,
and times a power of the cells' power, since few maps are finer than the model's grid.

An area is a fraction of the cells of the masks' grid: of the bins of the STFT, or of
the mel bands in the mel domain.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from lmaczs.evaluation.baselines import cells_kept
from lmaczs.evaluation.explainers import KEEP_ALL, Explained
from lmaczs.evaluation.scoring import PredictedClips
from lmaczs.evaluation.top_cells import top_cells

SCORED = ("AI", "AD", "AG", "FF", "Fid-In")
"""Metrics of equal_area.csv: others are those of the area alone."""
ALONE, TIMES_POWER = "alone", "times power"
OURS, WHOLE = "ours", "1"


def equal_area(
    predicted: PredictedClips,
    method: str,
    explained: Explained,
    areas: Sequence[float],
    exponent: float,
) -> pd.DataFrame:
    """Score a method's map at each area, alone and times power.

    Beside `areas`, that of the reference masks (``ours``) where there are any. Keep-all
    ranks nothing; its area is 1. A row for each clip, map and area: id, method, map,
    area, `SCORED`, and those at scale 1.
    """
    cells, reference = predicted.batch.cells, predicted.batch.reference
    ranking = explained.ranking
    if method == KEEP_ALL:
        return _rows(predicted, method, ALONE, WHOLE, explained.masks)
    counts = [torch.full((len(cells),), round(a * cells[0].numel())) for a in areas]
    names = [str(area) for area in areas]
    if reference is not None:
        counts.append(cells_kept(reference).cpu())
        names.append(OURS)
    products = times_power(ranking, cells, exponent)
    parts = []
    for kind, values in ((ALONE, ranking), (TIMES_POWER, products)):
        chosen = top_cells(values, torch.stack(counts, 1), cells)
        for name, masks in zip(names, chosen.unbind(1), strict=True):
            parts.append(_rows(predicted, method, kind, name, masks))
    return pd.concat(parts, ignore_index=True)


def times_power(ranking: Tensor, power: Tensor, exponent: float) -> Tensor:
    """Product of each clip's map, from 0 to 1, and its power to an exponent.

    Of tensors [B, F, T]. The map's minimum becomes 0: with all negative values at 0,
    signed maps (RISE, occlusion) would lose the order of these cells.
    """
    low, high = ranking.amin((1, 2), True), ranking.amax((1, 2), True)
    return (ranking - low) / (high - low).clamp_min(1e-30) * power**exponent


def _rows(
    predicted: PredictedClips, method: str, kind: str, area: str, masks: Tensor
) -> pd.DataFrame:
    table = predicted.metrics(masks, SCORED)
    first = {"id": predicted.clips["id"], "method": method, "map": kind, "area": area}
    return pd.DataFrame({**first, **{k: v.tolist() for k, v in table.items()}})
