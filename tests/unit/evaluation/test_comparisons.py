"""comparisons.py: the tables that are tested, and each method's better map."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lmaczs.evaluation.comparisons import (
    BETTER,
    EQUAL,
    OWN,
    TABLE,
    areas_of,
    better_maps,
    compared_metrics,
    equal_area_rows,
    every_test,
    verdicts_of,
)
from lmaczs.evaluation.equal_area import ALONE, SCORED, TIMES_POWER, WHOLE
from lmaczs.evaluation.explainers import KEEP_ALL, MAIN
from lmaczs.evaluation.statistics import AHEAD, COMPARED, TIE, compare
from lmaczs.metrics.faithfulness import METRICS

CONDITIONS = ["mixture", "clean"]
SHIFT = {
    (MAIN, ALONE): 0.0,
    (MAIN, TIMES_POWER): 1.0,
    ("fine", ALONE): 3.0,
    ("fine", TIMES_POWER): -3.0,
    ("same", ALONE): 0.0,
    ("same", TIMES_POWER): 0.0,
}


def equal_area(clips: int = 20) -> pd.DataFrame:
    """Rows of two conditions and areas, and keep-all's; better by a method's shift."""
    rng, rows = np.random.default_rng(0), []
    for condition in CONDITIONS:
        for (method, kind), shift in SHIFT.items():
            for area in ("0.1", "ours"):
                rows += [
                    (condition, f"{clip}", method, kind, area, shift)
                    for clip in range(clips)
                ]
        rows += [
            (condition, f"{clip}", KEEP_ALL, ALONE, WHOLE, 0.0) for clip in range(clips)
        ]
    columns = ["condition", "id", "method", "map", "area", "shift"]
    table = pd.DataFrame(rows, columns=columns)
    for name in SCORED:
        sign = 1 if METRICS[name].better == "higher" else -1
        noise = 0.1 * rng.normal(size=len(table))
        table[name] = sign * table["shift"] + noise
    return table


def test_the_better_map_has_the_better_mean_rank() -> None:
    """By all metrics in their directions; keep-all has one map."""
    rows = equal_area()
    same = rows.method == "same"
    rows.loc[same, list(SCORED)] = 0.5
    assert better_maps(rows) == {
        MAIN: TIMES_POWER,
        "fine": ALONE,
        "same": ALONE,
        KEEP_ALL: ALONE,
    }


def test_the_better_map_is_that_of_clean_clips() -> None:
    """One choice for all conditions, made where nothing is added."""
    rows = equal_area()
    other = rows.condition == "mixture"
    rows.loc[other, list(SCORED)] *= -1
    assert better_maps(rows)["fine"] == ALONE
    assert better_maps(rows[other])["fine"] == TIMES_POWER


def test_rows_of_a_table_of_equal_area() -> None:
    """One map a method at one area, and keep-all beside them."""
    rows = equal_area()
    better = better_maps(rows)
    assert areas_of(rows) == ["0.1", "ours"]
    for kind in (ALONE, TIMES_POWER, BETTER):
        found = equal_area_rows(rows[rows.condition == "clean"], "ours", kind, better)
        assert not found.duplicated(["id", "method"]).any()
        assert set(found.method) == {MAIN, "fine", "same", KEEP_ALL}
        own = found[found.method == "fine"]["map"].unique().tolist()
        assert own == [ALONE if kind == BETTER else kind]


def test_every_table_is_tested_by_itself() -> None:
    """Own masks, and each area and map, with Holm's correction inside a table."""
    equal = equal_area()
    own = equal[(equal.area == "0.1") & (equal["map"] == ALONE)]
    tests = every_test(own, equal)
    assert list(tests) == [*TABLE, *COMPARED]
    tables = tests.groupby(list(TABLE), sort=False).size()
    assert len(tables) == 2 * (1 + 2 * 3)
    assert set(tests.scoring) == {OWN, EQUAL}
    found = verdicts_of(tests, "clean", "ours", BETTER)
    better = better_maps(equal)
    clean = equal[equal.condition == "clean"]
    rows = equal_area_rows(clean, "ours", BETTER, better)
    again = compare(rows, compared_metrics(), MAIN)
    pd.testing.assert_frame_equal(
        found[list(COMPARED)].reset_index(drop=True), again, check_dtype=False
    )
    verdicts = verdicts_of(tests, "clean", "0.1", ALONE).groupby("method").verdict
    assert verdicts.unique()["fine"].tolist() == [AHEAD]
    assert TIE in verdicts.unique()["same"]


def test_own_masks_alone_are_tested() -> None:
    """A run without equal area has the tests of its own masks, and none without us."""
    own = equal_area()
    own = own[(own.area == "0.1") & (own["map"] == ALONE)]
    tests = every_test(own)
    assert tests.scoring.unique().tolist() == [OWN]
    assert verdicts_of(tests, "mixture").n.unique().tolist() == [20]
    assert every_test(own[own.method != MAIN]).empty


@pytest.mark.parametrize("column", compared_metrics(), ids=lambda column: column.name)
def test_what_is_tested_has_a_direction(column: object) -> None:
    """A verdict needs a better end."""
    assert getattr(column, "better", None) in ("higher", "lower")
