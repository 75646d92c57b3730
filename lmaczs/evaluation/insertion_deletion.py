"""Insertion and deletion: how soon a mask's first cells decide the prediction.

Petsiuk et al., "RISE", BMVC 2018. Cells come in the order of the mask, equal ones by
loudness; a deleted cell is digital silence.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from lmaczs.evaluation.explainers import KEEP_ALL
from lmaczs.evaluation.scoring import Explained
from lmaczs.metrics.metric import Column

AREAS = (
    Column("insertion", better="higher", digits=3),
    Column("deletion", better="lower", digits=3),
)
"""Columns of areas.csv."""


def cell_ranks(mask: Tensor, loudness: Tensor) -> Tensor:
    """Rank int64 of every cell [B, F, T] in each clip, from 0 (first) to F * T - 1.

    By the mask, highest first; equal cells by `loudness`.
    """
    order = loudness.flatten(1).argsort(dim=1, descending=True, stable=True)
    ranked = mask.flatten(1).gather(1, order)
    order = order.gather(1, ranked.argsort(dim=1, descending=True, stable=True))
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).reshape(mask.shape)


def top_cells(ranks: Tensor, fraction: float) -> Tensor:
    """1 for the first `fraction` of the cells by `cell_ranks` in each clip, else 0."""
    return (ranks < round(fraction * ranks[0].numel())).float()


def area(values: Tensor, fractions: Sequence[float]) -> Tensor:
    """Area [...] under a curve [..., S] over ascending fractions, by trapezoids."""
    return torch.trapezoid(values, torch.tensor(fractions, dtype=values.dtype))


@torch.no_grad()
def insertion_deletion(
    explained: Explained, fractions: Sequence[float]
) -> pd.DataFrame:
    """Probability of the predicted class while cells are inserted or deleted.

    `fractions` of the cells ascend from 0 to 1. Keep-all ranks nothing and is left out.
    A row for each clip, method and fraction: id, method, share, insertion, deletion.
    """
    cells, predicted = explained.batch.cells, explained.unmasked.argmax(1, keepdim=True)

    def certainty(mask: Tensor) -> list[float]:
        return explained.probabilities(mask).gather(1, predicted)[:, 0].tolist()

    # where nothing or all is kept, no method decides
    ends = {end: certainty(torch.full_like(cells, end)) for end in (0.0, 1.0)}

    def both(ranks: Tensor, fraction: float) -> dict[str, list[float]]:
        if fraction in ends:
            return {"insertion": ends[fraction], "deletion": ends[1 - fraction]}
        kept = top_cells(ranks, fraction)
        return {"insertion": certainty(kept), "deletion": certainty(1 - kept)}

    parts = []
    for name, (mask, _) in explained.masks.items():
        if name == KEEP_ALL:
            continue
        ranks = cell_ranks(mask, cells)
        for fraction in fractions:
            first = {"id": explained.clips["id"], "method": name, "share": fraction}
            parts.append(pd.DataFrame({**first, **both(ranks, fraction)}))
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
