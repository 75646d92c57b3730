"""Accuracy of the zero-shot classification of labelled clips."""

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
        Index of the right class.

    Returns
    -------
    Tensor [N]
        In [0, K - 1], 0 where the right class is first. Ties and NaN count against the
        model: equal scores for all classes are never right.
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
    """Accuracy of a subset's clips among its labels, of the others among all labels.

    Parameters
    ----------
    similarities : Tensor [N, K]
        Cosines of clips and labels.
    target : Tensor [N]
        Index of the right label.
    labels : sequence of str
        K labels.
    subset : sequence of str
        Ignored unless all of them are among `labels`.
    name : str
        Name of the subset in the result.

    Returns
    -------
    dict
        Fractions in [0, 1]: accuracy_<name>, accuracy_other and top5_other;
        accuracy_all and top5_all where the subset is ignored. Left out without clips.
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
    """``accuracy_<name>`` and ``top5_<name>`` of a set of clips; empty without clips.

    Of cosines [N, K] and the indices [N] of the right labels; fractions in [0, 1].
    """
    if not len(target):
        return {}
    return {
        f"accuracy_{name}": float(top_k_hits(similarities, target).double().mean()),
        f"top5_{name}": float(top_k_hits(similarities, target, 5).double().mean()),
    }
