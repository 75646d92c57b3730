"""Tables of results: means over clips and their uncertainty, as CSV and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from lmaczs.evaluation.equal_area import SCORED
from lmaczs.evaluation.explainers import KEEP_ALL, MAIN
from lmaczs.evaluation.scoring import UNSCALED, unscaled
from lmaczs.evaluation.statistics import AHEAD, BEHIND, TIE, best_and_tied
from lmaczs.metrics.faithfulness import METRICS
from lmaczs.metrics.metric import Better, Column
from lmaczs.report import markdown

SECONDS = Column("seconds", better="lower", digits=4)
ARROW = {"higher": " ↑", "lower": " ↓", None: ""}
DRAWS = 2000
MARKS = {AHEAD: "▲", BEHIND: "▼", TIE: "="}
"""Of a method, compared with LMAC-ZS+: better, worse, not told apart."""
MARKS_LEGEND = (
    f"▲ better than {MAIN}, ▼ worse, = a tie: paired two-sided sign-flip test on "
    "common clips, p < .05 after Holm's correction over the cells of one table; a tie "
    "is no proof of equality, least of all on few clips"
)


def results_columns() -> list[str]:
    """Columns of results.csv."""
    return ["method", "condition", "n", *METRICS, "seconds_per_clip"]


def summarise(per_clip: pd.DataFrame) -> pd.DataFrame:
    """Means over the rows of per_clip.csv, in `results_columns`.

    A row for each condition and method, in the order of first appearance.
    """
    groups = per_clip.groupby(["condition", "method"], sort=False)
    means = groups[list(METRICS)].mean()
    means["n"] = groups.size()
    means["seconds_per_clip"] = groups["seconds"].mean()
    return means.reset_index()[results_columns()]


def summarise_unscaled(per_clip: pd.DataFrame) -> pd.DataFrame:
    """Means of `UNSCALED` metrics at scale 1: method, condition, n, the metrics."""
    groups = per_clip.groupby(["condition", "method"], sort=False)
    means = groups[[unscaled(name) for name in UNSCALED]].mean()
    means.columns = pd.Index(UNSCALED)
    means.insert(0, "n", groups.size())
    return means.reset_index()[["method", "condition", "n", *UNSCALED]]


def summarise_equal_area(per_clip: pd.DataFrame) -> pd.DataFrame:
    """Means over the rows of equal_area_per_clip.csv.

    A row for each condition, map, area and method: condition, method, map, area, n,
    `SCORED`, and those at scale 1.
    """
    keys = ["condition", "map", "area", "method"]
    groups = per_clip.groupby(keys, sort=False)
    columns = [*SCORED, *map(unscaled, UNSCALED)]
    means = groups[columns].mean()
    means.insert(0, "n", groups.size())
    first = ["condition", "method", "map", "area", "n"]
    return means.reset_index()[[*first, *columns]]


def means_of(per_clip: pd.DataFrame, columns: Iterable[Column]) -> pd.DataFrame:
    """Means over the clips of each condition and method."""
    groups = per_clip.groupby(["condition", "method"], sort=False)
    return groups[[column.name for column in columns]].mean().reset_index()


def interval(values: Iterable[float], seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of a mean over clips, by percentiles (Efron, 1979).

    The mean twice if there are no two different values.
    """
    from scipy.stats import bootstrap  # of the extra eval

    sample = np.asarray(list(values), dtype=float)
    if len(sample) < 2 or np.ptp(sample) == 0:
        return float(sample.mean()), float(sample.mean())
    found = bootstrap(
        (sample,), np.mean, n_resamples=DRAWS, method="percentile", rng=seed
    ).confidence_interval
    return float(found.low), float(found.high)


def markdown_table(
    rows: pd.DataFrame,
    columns: Sequence[Column],
    tests: pd.DataFrame | None = None,
    intervals: bool = True,
    more: Mapping[str, Mapping[str, object]] | None = None,
) -> str:
    """Methods against metrics: mean with its interval, the best in bold.

    Keeping everything does not compete, so it is never in bold.

    Parameters
    ----------
    rows : DataFrame
        A row for each clip and method: method and `columns`, with `tests` also id. A
        method without values has a blank cell.
    columns : sequence of Column
        Metrics.
    tests : DataFrame, optional
        From `lmaczs.evaluation.statistics.compare`: cells have its `MARKS`, and
        `best_and_tied` are in bold.
    intervals : bool
        Whether to print the intervals of means.
    more : mapping of str to mapping, optional
        Cells of further columns by heading and method, before the metrics.

    Returns
    -------
    str
        Markdown.
    """
    names = [column.name for column in columns]
    more, marks = more or {}, marks_of(tests)
    means = rows.groupby("method", sort=False)[names].mean()
    header = [*more, *map(heading, columns)]
    strong = {column.name: _bold(rows, means, column, marks) for column in columns}
    lines = []
    for method in means.index:
        own = rows[rows.method == method] if intervals else None
        cells = [str(some.get(method, "")) for some in more.values()]
        for column in columns:
            mark = marks.get((method, column.name), "")
            bold = method in strong[column.name]
            cells.append(_cell(means.loc[method, column.name], own, column, mark, bold))
        lines.append([str(method), *cells])
    return markdown.table(["method", *header], lines)


def heading(column: Column) -> str:
    """Name of a column and its better direction."""
    return column.name + ARROW[column.better]


def marks_of(tests: pd.DataFrame | None) -> dict[tuple[str, str], str]:
    """`MARKS` of a table of tests, by method and metric."""
    if tests is None:
        return {}
    return {(row.method, row.metric): MARKS[row.verdict] for row in tests.itertuples()}


def _cell(
    mean: float, own: pd.DataFrame | None, column: Column, mark: str, bold: bool
) -> str:
    if np.isnan(mean):
        return ""
    text = printed(mean, column.digits)
    text = f"**{text}**" if bold else text
    if own is not None:
        ends = interval(own[column.name].dropna())
        low, high = (printed(end, column.digits) for end in ends)
        text += f" [{low}, {high}]"
    return f"{text} {mark}".rstrip()


def _bold(
    rows: pd.DataFrame,
    means: pd.DataFrame,
    column: Column,
    marks: Mapping[tuple[str, str], str],
) -> set[str]:
    """Methods in bold: the best and all that print alike; of tests, `best_and_tied`."""
    if any(metric == column.name for _, metric in marks):
        return best_and_tied(rows, column, KEEP_ALL)
    best = _best(means[column.name], column.better)
    if best is None:
        return set()
    return {
        str(method)
        for method, mean in means[column.name].drop(KEEP_ALL, errors="ignore").items()
        if printed(mean, column.digits) == printed(best, column.digits)
    }


def joined_table(
    parts: Sequence[tuple[pd.DataFrame, pd.DataFrame]], columns: Sequence[Column]
) -> str:
    """Several tables in one: each cell has the means of all, with their `MARKS`.

    `parts` has rows and tests of each, as `markdown_table`.
    """
    names = [column.name for column in columns]
    every = [rows.groupby("method", sort=False)[names].mean() for rows, _ in parts]
    marks = [marks_of(tests) for _, tests in parts]
    lines = []
    for method in dict.fromkeys(name for means in every for name in means.index):
        cells = []
        for column in columns:
            texts = [
                printed(means.loc[method, column.name], column.digits)
                + own.get((method, column.name), " ").strip()
                if method in means.index
                else "-"
                for means, own in zip(every, marks, strict=True)
            ]
            cells.append(" · ".join(texts))
        lines.append([str(method), *cells])
    return markdown.table(["method", *map(heading, columns)], lines)


def printed(value: float, digits: int) -> str:
    """Round a figure to its digits."""
    return f"{round(value, digits) + 0.0:.{digits}f}"  # never -0.0


def _best(means: pd.Series, better: Better | None) -> float | None:
    competitors = means.drop(KEEP_ALL, errors="ignore").dropna()
    if better is None or competitors.empty:
        return None
    return competitors.max() if better == "higher" else competitors.min()


def printed_metrics() -> list[Column]:
    """Columns of results.md."""
    return [*(metric for metric in METRICS.values() if metric.printed), SECONDS]


def results_page(
    per_clip: pd.DataFrame,
    title: str,
    more: Mapping[str, str] | None = None,
    tests: pd.DataFrame | None = None,
) -> str:
    """results.md: a Markdown table for each condition, ready for a paper.

    `per_clip` has a row for each clip, method and condition; `more` has further
    sections by heading; `tests` are the rows of tests.csv about own masks.
    """
    parts = [f"# {title}\n"]
    for condition, rows in per_clip.groupby("condition", sort=False):
        clips = rows.id.nunique()
        accuracy = rows.drop_duplicates("id").accuracy.mean()
        parts.append(f"## {condition}\n\n{clips} clips, accuracy {accuracy:.3f}\n")
        own = None if tests is None else tests[tests.condition == condition]
        parts.append(markdown_table(rows, printed_metrics(), own))
    for heading, text in (more or {}).items():
        parts.append(f"## {heading}\n\n{text}")
    parts.append(
        "Means over clips with their 95 % bootstrap interval; the best method in bold, "
        f"{KEEP_ALL} aside{_marks_note(tests)}. "
        f"{MAIN} is LMAC-ZS with an objective and a decoder of ours. "
        "Probabilities are a softmax over cosines times the checkpoint's logit scale, "
        "which eq. 9 of the paper does not write; AD, AG and FF depend on it.\n"
    )
    return "\n".join(parts)


def _marks_note(tests: pd.DataFrame | None) -> str:
    if tests is None or tests.empty:
        return ""
    return f" (with what the same test does not find worse); {MARKS_LEGEND}"
