"""Insertion and deletion: how soon the cells that a mask ranks first decide.

Petsiuk et al., "RISE", BMVC 2018. Cells come in the order of the mask, and of equal
ones the louder first; what is absent is digital silence.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from lmaczs.evaluation.explainers import KEEP_ALL
from lmaczs.evaluation.scoring import Explained


def cell_ranks(mask: Tensor, loudness: Tensor) -> Tensor:
    """The place of every cell in the order in which a mask ranks them.

    Parameters
    ----------
    mask : Tensor [B, F, T]
        Gives the order, highest first.
    loudness : Tensor [B, F, T]
        Decides between equals.

    Returns
    -------
    Tensor [B, F, T]
        int64, of each clip every number from 0 (first) to F * T - 1 once.
    """
    order = loudness.flatten(1).argsort(dim=1, descending=True, stable=True)
    ranked = mask.flatten(1).gather(1, order)
    order = order.gather(1, ranked.argsort(dim=1, descending=True, stable=True))
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).reshape(mask.shape)


def top_cells(ranks: Tensor, share: float) -> Tensor:
    """The cells that come first.

    Parameters
    ----------
    ranks : Tensor [B, F, T]
        From `cell_ranks`.
    share : float
        How many, in [0, 1].

    Returns
    -------
    Tensor [B, F, T]
        0 or 1, with the same number of ones in each clip.
    """
    return (ranks < round(share * ranks[0].numel())).float()


def area(values: Tensor, shares: Sequence[float]) -> Tensor:
    """Area under a curve over shares from 0 to 1.

    Parameters
    ----------
    values : Tensor [..., S]
        At each share.
    shares : sequence of float
        Ascending.

    Returns
    -------
    Tensor [...]
        Trapezoidal; of a probability in [0, 1].
    """
    return torch.trapezoid(values, torch.tensor(shares, dtype=values.dtype))


@torch.no_grad()
def draw_curves(explained: Explained, shares: Sequence[float]) -> pd.DataFrame:
    """Probability of the predicted class while cells are inserted or deleted.

    Parameters
    ----------
    explained : Explained
        A batch; keep-all ranks nothing and is left out.
    shares : sequence of float
        Of the cells that are inserted (or deleted), ascending, from 0 to 1.

    Returns
    -------
    DataFrame
        One row a clip, method and share: id, method, share, insertion, deletion.
    """
    cells, predicted = explained.cells, explained.unmasked.argmax(1, keepdim=True)

    def certainty(mask: Tensor) -> list[float]:
        return explained.classify(mask).gather(1, predicted)[:, 0].tolist()

    # where nothing or all is kept, no method decides
    ends = {share: certainty(torch.full_like(cells, share)) for share in (0.0, 1.0)}

    def both(ranks: Tensor, share: float) -> dict[str, list[float]]:
        if share in ends:
            return {"insertion": ends[share], "deletion": ends[1 - share]}
        kept = top_cells(ranks, share)
        return {"insertion": certainty(kept), "deletion": certainty(1 - kept)}

    parts = []
    for name, (mask, _) in explained.masks.items():
        if name == KEEP_ALL:
            continue
        ranks = cell_ranks(mask, cells)
        for share in shares:
            first = {"id": explained.batch["id"], "method": name, "share": share}
            parts.append(pd.DataFrame({**first, **both(ranks, share)}))
    return pd.concat(parts, ignore_index=True)


def areas(curves: pd.DataFrame) -> pd.DataFrame:
    """Areas under each clip's curves.

    Parameters
    ----------
    curves : DataFrame
        From `draw_curves`.

    Returns
    -------
    DataFrame
        One row a clip and method: id, method, insertion (higher is better), deletion
        (lower is better).
    """
    wide = curves.pivot_table(
        index=["method", "id"],
        columns="share",
        values=["insertion", "deletion"],
        sort=False,
    ).sort_index(axis=1)
    names = ("insertion", "deletion")
    found = {
        name: area(torch.tensor(wide[name].to_numpy()), list(wide[name].columns))
        for name in names
    }
    return pd.DataFrame(found, index=wide.index).reset_index()
