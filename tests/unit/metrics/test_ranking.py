"""Average precision and AUC against scikit-learn and loops over clips."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from lmaczs.metrics.ranking import average_precision, roc_auc


@given(st.integers(0, 9999), st.integers(2, 12), st.integers(1, 5))
def test_values_are_scikit_learns(seed: int, clips: int, levels: int) -> None:
    """With ties, which are frequent here."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (clips, 3), generator=rng).float()
    present = torch.randint(2, (clips,), generator=rng).bool()
    present[:2] = torch.tensor([True, False])
    for oracle, found in (
        (average_precision_score, average_precision(scores, present)),
        (roc_auc_score, roc_auc(scores, present)),
    ):
        expected = [oracle(present.numpy(), column.numpy()) for column in scores.T]
        assert found.tolist() == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 9999))
def test_auc_is_a_count_of_pairs(seed: int) -> None:
    """Of one clip with the sound and one without; equal scores are half a pair."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.randint(4, (9, 1), generator=rng).float()
    present = torch.arange(9) % 3 == 0
    pairs = [
        (own > other) + (own == other) / 2
        for own in scores[present, 0].tolist()
        for other in scores[~present, 0].tolist()
    ]
    assert roc_auc(scores, present).item() == pytest.approx(sum(pairs) / len(pairs))


def test_ends_of_the_scales() -> None:
    """All ahead, all behind, and clips of one kind alone."""
    scores = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]])
    present = torch.tensor([True, False, False])
    assert average_precision(scores, present).tolist() == pytest.approx([1, 1 / 3])
    assert roc_auc(scores, present).tolist() == [1, 0]
    none = torch.zeros(3, dtype=torch.bool)
    assert average_precision(scores, none).isnan().all()
    assert roc_auc(scores, none).isnan().all() and roc_auc(scores, ~none).isnan().all()
