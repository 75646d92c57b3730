"""Zero-shot classification of labelled clips: how often it is right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def rank_of_target(scores: Tensor, target: Tensor) -> Tensor:
    """Count the classes that are at least as likely as the right one.

    Parameters
    ----------
    scores : Tensor [N, K]
        Similarities or probabilities of K classes.
    target : Tensor [N]
        Index of the right one.

    Returns
    -------
    Tensor [N]
        0 where the right class is first. A tie and NaN count against the model: one
        that gives every class the same score is never right.
    """
    less = scores < scores.gather(1, target[:, None])
    return scores.shape[1] - 1 - less.sum(1)


def top_k_hits(scores: Tensor, target: Tensor, k: int = 1) -> Tensor:
    """Whether the right class is among the first `k`: Tensor [N] of 0 and 1."""
    return (rank_of_target(scores, target) < k).float()


def accuracies(
    similarities: Tensor,
    target: Tensor,
    labels: Sequence[str],
    subset: Sequence[str],
    name: str = "esc10",
) -> dict[str, float]:
    """Accuracy of some labels' clips among these labels, and of the others among all.

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
    name : str
        Of the subset.

    Returns
    -------
    dict
        accuracy_<name> among the subset; accuracy_other and top5_other of the other
        clips among all labels, called accuracy_all and top5_all where the subset is
        ignored. Without clips there is no figure.
    """
    if not set(subset) <= set(labels):
        return hit_rates(similarities, target, "all")
    few = torch.tensor([list(labels).index(label) for label in subset])
    inside = target[:, None] == few
    rows = inside.any(1)
    found = hit_rates(similarities[~rows], target[~rows], "other")
    if not rows.any():
        return found
    hits = top_k_hits(similarities[rows][:, few], inside[rows].float().argmax(1))
    return {f"accuracy_{name}": float(hits.double().mean()), **found}


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
    return {
        f"accuracy_{name}": float(top_k_hits(similarities, target).double().mean()),
        f"top5_{name}": float(top_k_hits(similarities, target, 5).double().mean()),
    }
