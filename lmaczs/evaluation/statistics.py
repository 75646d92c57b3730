"""Paired comparison of methods on the same clips: intervals, tests, verdicts.

A clip that is hard for one method is hard for the others: methods are compared by their
differences clip by clip, on the clips that both have. Each cell of a table is a test of
its own; Holm's correction keeps the probability of any wrong verdict in a table below
`LEVEL`. A tie says that these clips do not tell two methods apart, not that they are
equal: a method that was computed on fewer clips ties more easily.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lmaczs.metrics.metric import Better, Column

AHEAD, BEHIND, TIE = "ahead", "behind", "tie"
LEVEL = 0.05
RESAMPLES, SIGN_FLIPS = 2000, 9999
COMPARED = (
    "method",
    "metric",
    "n",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "verdict",
)

Array = NDArray[np.float64]


def paired_interval(
    differences: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Array, Array]:
    """95 % bootstrap interval of mean differences, by percentiles (Efron, 1979).

    Parameters
    ----------
    differences : array [n, m]
        Of n clips, in m figures; clips are drawn whole.
    resamples : int
        Number of bootstrap samples.
    seed : int
        Seed of the draw.

    Returns
    -------
    tuple of array [m]
        Lower and upper ends.
    """
    values = np.asarray(differences, dtype=float)
    means = _bootstrap_weights(len(values), resamples, seed) @ values
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return low, high


def sign_flip_test(
    differences: ArrayLike, flips: int = SIGN_FLIPS, seed: int = 0
) -> Array:
    """Paired two-sided permutation test of mean differences (Fisher, 1935).

    If two methods are alike, each clip's difference has either sign with the same
    probability. p is the fraction of random signs for which the mean difference is at
    least as far from 0; the observed signs count as one of them, so that p is never 0
    (Phipson & Smyth, 2010). No distribution is assumed: it holds for figures that are 0
    or 1 as well.

    Parameters
    ----------
    differences : array [n, m]
        Of n clips, in m figures.
    flips : int
        Number of random signs.
    seed : int
        Seed of the draw.

    Returns
    -------
    array [m]
        p from 1 / (flips + 1) to 1.
    """
    values = np.asarray(differences, dtype=float)
    observed = np.abs(values.sum(0))
    drawn = np.abs(_signs(len(values), flips, seed) @ values)
    rounding = 1e-10 * np.abs(values).sum(0)  # sums that are equal round apart
    return ((drawn >= observed - rounding).sum(0) + 1) / (flips + 1)


def holm(p: ArrayLike) -> Array:
    """Values of p, of any shape, corrected for their number (Holm, 1979). NaN stays."""
    values = np.asarray(p, dtype=float)
    flat = values.ravel()
    order = np.argsort(flat, kind="stable")[: np.count_nonzero(~np.isnan(flat))]
    factors = np.arange(len(order), 0, -1)
    corrected = np.full(flat.shape, np.nan)
    corrected[order] = np.maximum.accumulate(factors * flat[order]).clip(max=1)
    return corrected.reshape(values.shape)


def compare(
    rows: pd.DataFrame, columns: Sequence[Column], reference: str
) -> pd.DataFrame:
    """Compare every method of one table with a reference, on their common clips.

    Parameters
    ----------
    rows : DataFrame
        id, method and `columns`: a row for each clip and method.
    columns : sequence of Column
        Figures with a direction.
    reference : str
        A method.

    Returns
    -------
    DataFrame
        `COMPARED`, a row for each other method and column: n common clips, difference
        (the method less the reference, mean), low and high (its 95 % interval), p,
        p_holm (over the rows of the table) and verdict: whether the method is `AHEAD`
        of the reference, `BEHIND` it, or a `TIE`. Empty without the reference.
    """
    wide = {
        method: some.set_index("id")[[column.name for column in columns]]
        for method, some in rows.groupby("method", sort=False)
    }
    ours = wide.pop(reference, None)
    if ours is None:
        return pd.DataFrame(columns=list(COMPARED))
    common = {
        method: (theirs - ours.reindex(theirs.index)).dropna().sort_index()
        for method, theirs in wide.items()
    }
    parts = [_tested({m: common[m] for m in some}) for some in _on_same_clips(common)]
    if not parts:
        return pd.DataFrame(columns=list(COMPARED))
    table = pd.concat(parts).sort_values(
        "method", key=lambda names: names.map(list(wide).index), kind="stable"
    )
    table["p_holm"] = holm(table.p)
    better = {column.name: column.better for column in columns}
    table["verdict"] = [
        verdict(row.difference, row.p_holm, better[row.metric])
        for row in table.itertuples()
    ]
    return table[list(COMPARED)].reset_index(drop=True)


def _on_same_clips(common: Mapping[str, pd.DataFrame]) -> list[list[str]]:
    """Methods in groups with the same clips; those without any are left out."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for method, differences in common.items():
        if len(differences):
            groups.setdefault(tuple(differences.index), []).append(method)
    return list(groups.values())


def _tested(common: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows of `compare` for methods with the same clips, all tested at once."""
    wide = pd.concat(common, axis=1, names=["method", "metric"])
    low, high = paired_interval(wide)
    return pd.DataFrame(
        {
            "n": len(wide),
            "difference": wide.mean(),
            "low": low,
            "high": high,
            "p": sign_flip_test(wide),
        }
    ).reset_index()


def verdict(difference: float, p: float, better: Better | None) -> str:
    """`AHEAD`, `BEHIND` or `TIE`, by a difference, its p and the better direction."""
    if p >= LEVEL or better is None:
        return TIE
    return AHEAD if (difference > 0) == (better == "higher") else BEHIND


def best_and_tied(rows: pd.DataFrame, column: Column, never: str) -> set[str]:
    """The best method by its mean, and those that a test does not find worse.

    The best is one of those with the most clips: means over fewer ones are of other
    clips. The test is that of `compare`, with the best as the reference, corrected over
    the other methods. `rows` as there; the method `never` does not compete. Empty for a
    column without a direction.
    """
    rows = rows[rows.method != never].dropna(subset=[column.name])
    if column.better is None or rows.empty:
        return set()
    groups = rows.groupby("method")[column.name]
    sizes = groups.size()
    means = groups.mean()[sizes == sizes.max()]
    best = str(means.idxmax() if column.better == "higher" else means.idxmin())
    found = compare(rows, [column], best)
    return {best, *found[found.verdict != BEHIND].method}


@lru_cache(maxsize=8)
def _bootstrap_weights(n: int, resamples: int, seed: int) -> Array:
    """Weights [resamples, n] of each clip in means of bootstrap samples."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    return counts / n


@lru_cache(maxsize=8)
def _signs(n: int, flips: int, seed: int) -> Array:
    """Random signs [flips, n]."""
    rng = np.random.default_rng(seed)
    return rng.choice(np.array([-1.0, 1.0]), size=(flips, n))
