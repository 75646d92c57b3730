"""Hit rates against loops over clips, and at their edges."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.metrics.classification import (
    accuracies,
    hit_rates,
    rank_of_target,
    top_k_hits,
)

LABELS = ["a", "b", "c", "d", "e", "f", "g"]


@given(st.integers(0, 9999), st.integers(1, 9), st.integers(1, 7))
def test_rank_is_a_count(seed: int, clips: int, levels: int) -> None:
    """Of the other classes that are at least as likely; ties are frequent here."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (clips, 7), generator=rng).float()
    target = torch.randint(7, (clips,), generator=rng)
    expected = [
        sum(value >= row[right] for k, value in enumerate(row) if k != right)
        for row, right in zip(scores.tolist(), target.tolist(), strict=True)
    ]
    assert rank_of_target(scores, target).tolist() == expected
    for k in (1, 3, 7):
        hits = [float(rank < k) for rank in expected]
        assert top_k_hits(scores, target, k).tolist() == hits


@pytest.mark.parametrize("value", [0.3, math.nan])
def test_a_blind_model_is_never_right(value: float) -> None:
    """The same score for everything, or none, is no hit."""
    scores = torch.full((4, 6), value)
    assert not top_k_hits(scores, torch.arange(4)).any()
    assert not top_k_hits(scores, torch.arange(4), 5).any()


def test_accuracies_are_of_two_groups() -> None:
    """Some labels among themselves, the clips of all others among all labels."""
    scores = torch.randn(70, 7, generator=torch.Generator().manual_seed(0))
    target = torch.arange(70) % 7
    found = accuracies(scores, target, LABELS, ["c", "a", "f"], "few")
    few, first, fifth, others = [], 0, 0, 0
    for row, right in zip(scores.tolist(), target.tolist(), strict=True):
        if right in (0, 2, 5):
            few.append(max((0, 2, 5), key=lambda k: row[k]) == right)
            continue
        better = sum(value > row[right] for value in row)
        first, fifth, others = first + (better < 1), fifth + (better < 5), others + 1
    assert found == pytest.approx(
        {
            "accuracy_few": sum(few) / len(few),
            "accuracy_other": first / others,
            "top5_other": fifth / others,
        }
    )


def test_accuracies_without_the_subset() -> None:
    """Where one of its labels is unknown all clips are one group."""
    scores, target = torch.eye(7), torch.arange(7)
    found = accuracies(scores, target, LABELS, ["a", "owl"])
    assert found == {"accuracy_all": 1, "top5_all": 1}
    few = accuracies(scores[:1], target[:1], LABELS, ["a", "b"])
    assert few == {"accuracy_esc10": 1}


def test_no_clip_has_no_rate() -> None:
    """No clips, no metrics."""
    assert hit_rates(torch.zeros(0, 3), torch.zeros(0).long(), "x") == {}
