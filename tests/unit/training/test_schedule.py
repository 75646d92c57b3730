"""The schedule of learning rates."""

from __future__ import annotations

import math

import pytest

from lmaczs.training.schedule import cosine_decay


def test_half_a_cosine_falls_to_zero() -> None:
    """The first epoch has the whole rate; beyond the last it stays 0."""
    found = [cosine_decay(done, 4) for done in range(6)]
    expected = [0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(5)] + [0]
    assert found == pytest.approx(expected)
    assert found[0] == 1


def test_warm_up_is_linear() -> None:
    """It ends at the whole rate, where the cosine begins."""
    found = [cosine_decay(done, total=12, warmup=4) for done in range(5)]
    assert found == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert cosine_decay(8, total=12, warmup=4) == pytest.approx(0.5)
    assert cosine_decay(12, total=12, warmup=4) == 0


def test_a_warm_up_as_long_as_the_training_has_no_cosine() -> None:
    """It never divides by zero."""
    assert cosine_decay(4, total=4, warmup=4) == 1
    assert cosine_decay(5, total=4, warmup=4) == 0
