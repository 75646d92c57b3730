"""Tables of results: means over clips and their uncertainty, as CSV and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from lmaczs.evaluation.equal_area import SCORED
from lmaczs.evaluation.explainers import KEEP_ALL, MAIN
from lmaczs.evaluation.scoring import UNSCALED, unscaled
from lmaczs.metrics.faithfulness import METRICS
from lmaczs.metrics.metric import Better, Column

SECONDS = Column("seconds", better="lower", digits=4)
ARROW = {"higher": " ↑", "lower": " ↓", None: ""}
DRAWS = 2000


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


def markdown_table(rows: pd.DataFrame, columns: Sequence[Column]) -> str:
    """Methods against metrics: mean with its interval, the best in bold.

    `rows` has a row for each clip and method: method and `columns`. A method without
    values has a blank cell. Keeping everything does not compete, so it is never in
    bold.
    """
    names = [column.name for column in columns]
    means = rows.groupby("method", sort=False)[names].mean()
    header = [column.name + ARROW[column.better] for column in columns]
    lines = ["| method | " + " | ".join(header), "|---" + " | ---" * len(columns)]
    for method in means.index:
        cells = [_cell(rows, means, method, column) for column in columns]
        lines.append(f"| {method} | " + " | ".join(cells))
    return "\n".join(line + " |" for line in lines) + "\n"


def _cell(rows: pd.DataFrame, means: pd.DataFrame, method: str, column: Column) -> str:
    mean = means.loc[method, column.name]
    if np.isnan(mean):
        return ""
    low, high = interval(rows[rows.method == method][column.name].dropna())
    text = _printed(mean, column.digits)
    best = _best(means[column.name], column.better)
    if (
        method != KEEP_ALL
        and best is not None
        and text == _printed(best, column.digits)
    ):
        text = f"**{text}**"  # all that print alike are the best
    return f"{text} [{_printed(low, column.digits)}, {_printed(high, column.digits)}]"


def _printed(value: float, digits: int) -> str:
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
    per_clip: pd.DataFrame, title: str, more: Mapping[str, str] | None = None
) -> str:
    """results.md: a Markdown table for each condition, ready for a paper.

    `per_clip` has a row for each clip, method and condition; `more` has further
    sections by heading.
    """
    parts = [f"# {title}\n"]
    for condition, rows in per_clip.groupby("condition", sort=False):
        clips = rows.id.nunique()
        accuracy = rows.drop_duplicates("id").accuracy.mean()
        parts.append(f"## {condition}\n\n{clips} clips, accuracy {accuracy:.3f}\n")
        parts.append(markdown_table(rows, printed_metrics()))
    for heading, text in (more or {}).items():
        parts.append(f"## {heading}\n\n{text}")
    parts.append(
        "Means over clips with their 95 % bootstrap interval; the best method in bold, "
        f"{KEEP_ALL} aside. {MAIN} is LMAC-ZS with an objective and a decoder of ours. "
        "Probabilities are a softmax over cosines times the checkpoint's logit scale, "
        "which eq. 9 of the paper does not write; AD, AG and FF depend on it.\n"
    )
    return "\n".join(parts)
