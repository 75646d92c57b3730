"""Metrics as entries of a registry, and what their functions share."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lmaczs.metrics.metric import (
    Metric,
    by_name,
    legend,
    ratio_or_zero,
    require_equal_shapes,
    values_of,
)

amounts = st.lists(
    st.tuples(st.floats(0, 1e6), st.just(0.0) | st.floats(1e-6, 1e6)), min_size=1
)


def test_a_registry_computes_its_metrics_in_order() -> None:
    """Under their names, each from the same batch."""
    mean: Metric[Tensor] = Metric("mean", lambda x: x.mean(1), better="higher")
    largest: Metric[Tensor] = Metric("largest", lambda x: x.amax(1), digits=3)
    registry = by_name(largest, mean)
    assert registry == {"largest": largest, "mean": mean}
    found = values_of(registry, torch.tensor([[1.0, 3.0], [0.0, 0.5]]))
    assert list(found) == ["largest", "mean"]
    assert found["largest"].tolist() == [3, 0.5]
    assert found["mean"].tolist() == [2, 0.25]


def test_a_legend_has_what_is_known_of_its_columns() -> None:
    """In the order of the table; a column without a meaning is left out."""
    meanings = {"a": "first", "b": "second", "c": ""}
    assert legend(meanings, ["b", "c", "d", "a"]) == "b: second; a: first"


@given(amounts)
def test_ratio_is_a_division_where_there_is_something(pairs: list) -> None:
    """A slow loop gives the same; nothing to divide by gives 0, never NaN."""
    part, whole = torch.tensor(pairs, dtype=torch.float64).T
    expected = [p / w if w > 0 else 0.0 for p, w in pairs]
    found = ratio_or_zero(part, whole)
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_ratio_to_nothing_has_a_finite_gradient() -> None:
    """Where both are 0 a loss may still be differentiated."""
    leaf = torch.zeros(2, 3, requires_grad=True)
    ratio_or_zero(leaf[0], leaf[1]).sum().backward()
    assert leaf.grad is not None and leaf.grad.isfinite().all()


def test_shapes_that_differ_are_refused() -> None:
    """Even those that could be broadcast; what is not given does not count."""
    require_equal_shapes(torch.zeros(2, 3), None, torch.ones(2, 3))
    require_equal_shapes(None)
    with pytest.raises(ValueError, match=r"\(1, 3\), \(2, 3\)"):
        require_equal_shapes(torch.zeros(2, 3), torch.zeros(1, 3))
