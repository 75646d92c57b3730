"""Every table of an evaluation tested against LMAC-ZS+: the rows of tests.csv.

Tables are those of the methods' own masks, under each condition, and those of equal
area: of maps alone, of maps times power, and of each method's better map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from lmaczs.evaluation.equal_area import ALONE, SCORED, TIMES_POWER, WHOLE
from lmaczs.evaluation.explainers import KEEP_ALL, MAIN
from lmaczs.evaluation.statistics import COMPARED, compare
from lmaczs.metrics.faithfulness import METRICS
from lmaczs.metrics.metric import Column

OWN, EQUAL = "own masks", "equal area"
BETTER = "better"
TABLE = ("condition", "scoring", "area", "map")
"""What a row of tests.csv belongs to; own masks have no area and no map."""


def compared_metrics() -> list[Column]:
    """Columns that are tested."""
    return [METRICS[name] for name in SCORED]


def first_condition(conditions: Sequence[str]) -> str:
    """Condition of main tables: clean, where it is there."""
    return "clean" if "clean" in conditions else conditions[0]


def better_maps(equal: pd.DataFrame) -> dict[str, str]:
    """Map of each method that is compared as its better one: `ALONE` or `TIMES_POWER`.

    One rule for all: under the `first_condition` every map of
    every method is ranked by its mean in each metric at each area; the map of the lower
    mean rank is a method's better one, alone in case of doubt. `equal` has the rows of
    equal_area_per_clip.csv.
    """
    first = first_condition(list(equal.condition.unique()))
    rows = equal[(equal.condition == first) & (equal.method != KEEP_ALL)]
    means = rows.groupby(["area", "method", "map"], sort=False)[list(SCORED)].mean()
    signs = [1 if METRICS[name].better == "lower" else -1 for name in SCORED]
    ranks = (means * signs).groupby(level="area").rank().mean(axis=1)
    mean_rank = ranks.groupby(["method", "map"], sort=False).mean().unstack()
    mean_rank = mean_rank.reindex(columns=[ALONE, TIMES_POWER])
    return {**mean_rank.idxmin(axis=1).to_dict(), KEEP_ALL: ALONE}


def areas_of(equal: pd.DataFrame) -> list[str]:
    """Areas to which maps were cut, as they come."""
    return [str(area) for area in equal.area.unique() if area != WHOLE]


def equal_area_rows(
    equal: pd.DataFrame, area: str, kind: str, better: Mapping[str, str]
) -> pd.DataFrame:
    """Rows of one table of equal area, with those of keep-all.

    `kind` is a map, or `BETTER` for the maps in `better`.
    """
    rows = equal[(equal.area == area) | (equal.method == KEEP_ALL)]
    if kind == BETTER:
        return rows[rows["map"] == rows.method.map(better)]
    return rows[(rows["map"] == kind) | (rows.method == KEEP_ALL)]


def every_test(
    per_clip: pd.DataFrame, equal: pd.DataFrame | None = None, main: str = MAIN
) -> pd.DataFrame:
    """Compare every method with one in every table; Holm's correction in each.

    Parameters
    ----------
    per_clip : DataFrame
        Rows of per_clip.csv.
    equal : DataFrame, optional
        Rows of equal_area_per_clip.csv.
    main : str
        The method with which the others are compared.

    Returns
    -------
    DataFrame
        `TABLE`, then the columns of `compare`.
    """
    parts = [
        _tested(rows, main, condition, OWN, "", "")
        for condition, rows in per_clip.groupby("condition", sort=False)
    ]
    if equal is not None and not equal.empty:
        better = better_maps(equal)
        for condition, rows in equal.groupby("condition", sort=False):
            for area in areas_of(rows):
                for kind in (ALONE, TIMES_POWER, BETTER):
                    cut = equal_area_rows(rows, area, kind, better)
                    parts.append(_tested(cut, main, condition, EQUAL, area, kind))
    parts = [part for part in parts if not part.empty]
    if not parts:
        return pd.DataFrame(columns=[*TABLE, *COMPARED])
    return pd.concat(parts, ignore_index=True)


def _tested(rows: pd.DataFrame, main: str, *place: object) -> pd.DataFrame:
    found = compare(rows, compared_metrics(), main)
    for at, (name, value) in enumerate(zip(TABLE, place, strict=True)):
        found.insert(at, name, value)
    return found


def verdicts_of(
    tests: pd.DataFrame, condition: str, area: str = "", kind: str = ""
) -> pd.DataFrame:
    """Rows of one table: own masks, or those of an area and a map."""
    return tests[
        (tests.condition == condition) & (tests.area == area) & (tests["map"] == kind)
    ]
