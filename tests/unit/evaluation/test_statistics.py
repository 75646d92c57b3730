"""statistics.py: intervals, tests and verdicts against slow oracles."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, permutation_test

from lmaczs.evaluation.statistics import (
    AHEAD,
    BEHIND,
    COMPARED,
    TIE,
    best_and_tied,
    compare,
    holm,
    paired_interval,
    sign_flip_test,
    verdict,
)
from lmaczs.metrics.metric import Column

UP, DOWN = Column("up", better="higher"), Column("down", better="lower")


def table(clips: int = 40, seed: int = 0) -> pd.DataFrame:
    """Rows of four methods: far better than ours, far worse, alike, on few clips."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=clips)
    shifts = {"ours": 0.0, "better": 1.0, "worse": -1.0, "alike": 0.0, "few": 1.0}
    rows = []
    for method, shift in shifts.items():
        values = base + shift + 0.1 * rng.normal(size=clips)
        for clip, value in enumerate(values[:2] if method == "few" else values):
            rows.append((f"{clip:03}", method, value, -value))
    rows = pd.DataFrame(rows, columns=["id", "method", "up", "down"])
    return rows.sample(frac=1, random_state=seed)  # the order of clips says nothing


# --- the test -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "binary", "shifted", "constant", "skewed"])
def test_sign_flips_agree_with_every_sign(kind: str) -> None:
    """As scipy's exact permutation test of pairs, within the error of random signs."""
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(2, 11))
    if kind == "binary":
        one, other = (one > -0.5).astype(float), (other > 0.5).astype(float)
    if kind == "shifted":
        one = one + 0.8
    if kind == "constant":
        other = one
    if kind == "skewed":
        one = np.exp(2 * one)

    def mean_difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return np.mean(x - y, axis=axis)

    exact = permutation_test(
        (one, other),
        mean_difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue
    (found,) = sign_flip_test((one - other)[:, None])
    assert found == pytest.approx(exact, abs=4 * np.sqrt(0.25 / 9999))


def test_sign_flips_agree_with_a_loop() -> None:
    """Each figure by itself, over all signs of six clips."""
    values = np.random.default_rng(0).normal(0.5, 1, (6, 3))
    signs = list(product((-1, 1), repeat=6))
    for column, found in zip(values.T, sign_flip_test(values, 20000), strict=True):
        far = [abs(np.dot(s, column)) >= abs(column.sum()) - 1e-12 for s in signs]
        assert found == pytest.approx(np.mean(far), abs=0.015)


def test_p_is_never_zero() -> None:
    """The observed signs are one of the draws."""
    assert sign_flip_test(np.ones((60, 1)), flips=99).tolist() == [0.01]


def test_false_alarms_are_as_rare_as_stated() -> None:
    """Where methods are alike, p is below 0.05 in about one of twenty comparisons."""
    rng = np.random.default_rng(5)
    p = sign_flip_test(rng.normal(size=(30, 2000)), flips=999)
    assert 0.03 < np.mean(p < 0.05) < 0.07


# --- Holm ---------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    """The k-th lowest of m times m - k + 1, never below one before it, at most 1."""
    found = holm([0.01, 0.04, 0.03, 0.005])
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).size == 0


def test_holm_leaves_out_what_is_missing() -> None:
    """A cell without a value is no test."""
    found = holm([[0.02, np.nan], [0.5, 0.01]])
    assert found[1] == pytest.approx([0.5, 0.03])
    assert found[0, 0] == pytest.approx(0.04)
    assert np.isnan(found[0, 1])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_as_the_stepwise_rule_does(values: list[float]) -> None:
    """Corrected values are at most a level where Holm's procedure rejects."""
    level, rejected = 0.05, set()
    for step, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        if values[index] * (len(values) - step) > level:
            break
        rejected.add(index)
    assert {i for i, p in enumerate(holm(values)) if p <= level} == rejected


# --- the interval -------------------------------------------------------------------


def test_interval_is_that_of_scipy() -> None:
    """Percentiles of the means of bootstrap samples, each figure by itself."""
    values = np.random.default_rng(1).normal(size=(50, 2)) * [1, 3]
    low, high = paired_interval(values, resamples=20000)
    for column in range(2):
        found = bootstrap(
            (values[:, column],),
            np.mean,
            n_resamples=20000,
            method="percentile",
            rng=0,
        ).confidence_interval
        assert low[column] == pytest.approx(found.low, abs=0.03)
        assert high[column] == pytest.approx(found.high, abs=0.03)


def test_interval_covers_the_mean() -> None:
    """About 95 of 100 intervals of samples hold the mean of what was sampled."""
    values = np.random.default_rng(2).exponential(size=(60, 1000))
    low, high = paired_interval(values, resamples=999)
    assert 0.90 < np.mean((low <= 1) & (high >= 1)) < 0.97


# --- comparison ---------------------------------------------------------------------


def test_verdicts() -> None:
    """Ahead, behind and tie in the metric's direction; ours is not in the table."""
    found = compare(table(), [UP, DOWN], "ours")
    assert list(found) == list(COMPARED)
    verdicts = found.set_index(["method", "metric"]).verdict.unstack()
    assert verdicts.loc["better"].tolist() == [AHEAD, AHEAD]
    assert verdicts.loc["worse"].tolist() == [BEHIND, BEHIND]
    assert verdicts.loc["alike"].tolist() == [TIE, TIE]
    assert set(verdicts.index) == {"better", "worse", "alike", "few"}


def test_methods_are_compared_on_common_clips() -> None:
    """A method with two clips is compared on these, which cannot tell it from ours."""
    rows = table()
    few = compare(rows, [UP], "ours").set_index("method").loc["few"]
    wide = rows.pivot(index="id", columns="method", values="up")
    assert few.n == 2
    assert few.difference == pytest.approx((wide.few - wide.ours).mean())
    assert few.low <= few.difference <= few.high
    assert few.verdict == TIE


def test_holm_is_over_the_whole_table() -> None:
    """p_holm is that of all methods and columns together."""
    found = compare(table(), [UP, DOWN], "ours")
    assert found.p_holm.tolist() == pytest.approx(holm(found.p.to_numpy()).tolist())
    assert (found.p_holm > found.p).any()


def test_comparison_is_repeatable() -> None:
    """Neither the order of rows nor other methods change a method's p."""
    one, other = table(), table().sort_values("id")
    first = compare(one, [UP], "ours").set_index("method")
    alone = other[other.method.isin(["ours", "worse"])]
    again = compare(alone, [UP], "ours").set_index("method")
    assert again.p["worse"] == first.p["worse"]
    assert again.low["worse"] == pytest.approx(first.low["worse"])


def test_nothing_to_compare_with() -> None:
    """Without the reference, or without common clips, the table is empty."""
    rows = table()
    assert compare(rows, [UP], "nobody").empty
    other = pd.DataFrame({"id": ["x"], "method": ["far"], "up": [1.0]})
    ours = rows[rows.method == "ours"]
    found = compare(pd.concat([ours, other]), [UP], "ours")
    assert found.empty
    assert list(found) == list(COMPARED)


def test_verdict_needs_certainty_and_a_direction() -> None:
    """Any difference is a tie at p of 0.05 or more, or where neither end is better."""
    assert verdict(9.0, 0.05, "higher") == TIE
    assert verdict(9.0, 0.01, None) == TIE
    assert verdict(9.0, 0.01, "lower") == BEHIND


def test_best_and_tied() -> None:
    """The best of those with all clips, and those that a test does not find worse."""
    rows = table()
    assert best_and_tied(rows, UP, never="nobody") == {"better", "few"}
    rest = rows[~rows.method.isin(["better"])]
    assert best_and_tied(rest, UP, never="worse") == {"ours", "alike", "few"}
    assert best_and_tied(rest, DOWN, never="ours") == {"alike", "few"}
    assert best_and_tied(rest, Column("up"), never="ours") == set()


def test_few_clips_make_no_best() -> None:
    """A high mean over other clips does not make methods with all clips ties."""
    rows = table()
    rows.loc[rows.method == "few", "up"] += 50
    assert best_and_tied(rows, UP, never="nobody") == {"better", "few"}
