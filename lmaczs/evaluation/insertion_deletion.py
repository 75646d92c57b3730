"""Insertion and deletion: how soon a mask's first cells decide the prediction.

Petsiuk et al., "RISE", BMVC 2018. Cells come in the order of the mask, equal ones by
loudness; a deleted cell is digital silence.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from lmaczs.evaluation.explainers import Explained
from lmaczs.evaluation.scoring import PredictedClips
from lmaczs.evaluation.top_cells import top_cells
from lmaczs.metrics.metric import Column

AREAS = (
    Column("insertion", better="higher", digits=3),
    Column("deletion", better="lower", digits=3),
)
"""Columns of areas.csv."""


def area(values: Tensor, fractions: Sequence[float]) -> Tensor:
    """Area [...] under a curve [..., S] over ascending fractions, by trapezoids."""
    return torch.trapezoid(values, torch.tensor(fractions, dtype=values.dtype))


@torch.no_grad()
def insertion_deletion(
    predicted: PredictedClips,
    method: str,
    explained: Explained,
    fractions: Sequence[float],
) -> pd.DataFrame:
    """Probability of the predicted class while cells are inserted or deleted.

    `fractions` of the cells ascend from 0 to 1. A row for each clip and fraction: id,
    method, share, insertion, deletion.
    """
    cells, ids = predicted.batch.cells, predicted.clips["id"]
    counts = torch.tensor([round(f * cells[0].numel()) for f in fractions])
    kept = top_cells(explained.masks, counts.expand(len(cells), -1), cells)
    parts = []
    for fraction, masks in zip(fractions, kept.unbind(1), strict=True):
        # where nothing or all is kept, no method decides
        known = {0.0: predicted.ends[::-1], 1.0: predicted.ends}.get(fraction)
        curves = known or predicted.certainties(masks)
        first = {"id": ids, "method": method, "share": fraction}
        both = {"insertion": curves[0].tolist(), "deletion": curves[1].tolist()}
        parts.append(pd.DataFrame({**first, **both}))
    return pd.concat(parts, ignore_index=True)


def areas(curves: pd.DataFrame) -> pd.DataFrame:
    """Areas under the curves of `insertion_deletion`: id, method, `AREAS`."""
    names = [column.name for column in AREAS]
    wide = curves.pivot_table(
        index=["method", "id"], columns="share", values=names, sort=False
    ).sort_index(axis=1)
    found = {
        name: area(torch.tensor(wide[name].to_numpy()), list(wide[name].columns))
        for name in names
    }
    return pd.DataFrame(found, index=wide.index).reset_index()
