"""Zero-shot classification of labelled clips: how often it is right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def accuracies(
    similarities: Tensor, target: Tensor, labels: Sequence[str], subset: Sequence[str]
) -> dict[str, float]:
    """Accuracy, that of a subset of the labels (ESC-10) among themselves.

    Parameters
    ----------
    similarities : Tensor [N, K]
        Cosines of clips and labels.
    target : Tensor [N]
        Index of the right one.
    labels : sequence of str
        K labels.
    subset : sequence of str
        Labels whose clips are classified among themselves; ignored unless all of them
        are among `labels`.

    Returns
    -------
    dict
        accuracy_esc10 among the subset; top-1 and top-5 of the other clips (of all
        clips where the labels are others) among all labels.
    """
    if not set(subset) <= set(labels):
        return hit_rates(similarities, target, "all")
    ten = torch.tensor([list(labels).index(label) for label in subset])
    in_ten = torch.isin(target, ten)
    found = hit_rates(similarities[~in_ten], target[~in_ten], "other")
    if not in_ten.any():
        return found
    right = ten[similarities[in_ten][:, ten].argmax(1)] == target[in_ten]
    return {"accuracy_esc10": float(right.float().mean()), **found}


def hit_rates(similarities: Tensor, target: Tensor, name: str) -> dict[str, float]:
    """How often the right label is first, and among the first five.

    Parameters
    ----------
    similarities : Tensor [N, K]
        Cosines of clips and labels.
    target : Tensor [N]
        Index of the right one.
    name : str
        Of the clips; part of the keys.

    Returns
    -------
    dict
        accuracy_<name> and top5_<name>; empty without clips.
    """
    if not len(target):
        return {}
    best = similarities.topk(min(5, similarities.shape[1])).indices
    hit = best == target[:, None]
    return {
        f"accuracy_{name}": float(hit[:, 0].float().mean()),
        f"top5_{name}": float(hit.any(1).float().mean()),
    }
