"""Tables of results: means over clips and their uncertainty, as CSV and for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lmaczs.evaluation.explainers import KEEP_ALL, MAIN
from lmaczs.evaluation.scoring import METRICS

HEADER = ("method", "condition", "n", *METRICS, "seconds_per_clip")
BETTER = {
    **dict.fromkeys(("AI", "AG", "FF", "Fid-In", "SPS"), "higher"),
    **dict.fromkeys(("AD", "AD_sb", "COMP"), "lower"),
    **dict.fromkeys(("mass_on_source", "pointing_game", "temporal_iou"), "higher"),
    **dict.fromkeys(("si_sdr_improvement", "insertion"), "higher"),
    "deletion": "lower",
    "seconds": "lower",
}
ARROW = {"higher": " ↑", "lower": " ↓"}
DRAWS = 2000


def summarise(per_clip: pd.DataFrame) -> pd.DataFrame:
    """Means over clips, in the columns of results.csv.

    Parameters
    ----------
    per_clip : DataFrame
        A row a clip, method and condition.

    Returns
    -------
    DataFrame
        A row a condition and method, in the order of first appearance.
    """
    groups = per_clip.groupby(["condition", "method"], sort=False)
    means = groups[list(METRICS)].mean()
    means["n"] = groups.size()
    means["seconds_per_clip"] = groups["seconds"].mean()
    return means.reset_index()[list(HEADER)]


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of a mean over clips.

    Parameters
    ----------
    values : sequence of float
        A value a clip.
    seed : int
        Of what is drawn.

    Returns
    -------
    tuple of float
        Percentile interval (Efron, 1979); the mean twice where all values are alike.
    """
    from scipy.stats import bootstrap  # of the extra eval

    values = np.asarray(values, dtype=float)
    if len(values) < 2 or np.ptp(values) == 0:
        return float(values.mean()), float(values.mean())
    found = bootstrap(
        (values,), np.mean, n_resamples=DRAWS, method="percentile", rng=seed
    ).confidence_interval
    return float(found.low), float(found.high)


def markdown_table(
    rows: pd.DataFrame, columns: Sequence[str], digits: Mapping[str, int] | None = None
) -> str:
    """Methods against metrics: mean with its interval, the best in bold.

    Parameters
    ----------
    rows : DataFrame
        A row a clip and method: method and `columns`. What a method has no value of
        is left blank.
    columns : sequence of str
        Metrics.
    digits : mapping of str to int, optional
        After the point, of a metric; 2 without it.

    Returns
    -------
    str
        Markdown. Keeping everything is no competitor, so it is never in bold.
    """
    digits = digits or {}
    means = rows.groupby("method", sort=False)[list(columns)].mean()
    lines = [
        "| method | " + " | ".join(c + ARROW.get(BETTER.get(c), "") for c in columns),
        "|---" + " | ---" * len(columns),
    ]
    for method in means.index:
        cells = [
            _cell(rows, means, method, column, digits.get(column, 2))
            for column in columns
        ]
        lines.append(f"| {method} | " + " | ".join(cells))
    return "\n".join(line + " |" for line in lines) + "\n"


def _cell(
    rows: pd.DataFrame, means: pd.DataFrame, method: str, column: str, digits: int
) -> str:
    mean = means.loc[method, column]
    if np.isnan(mean):
        return ""
    low, high = interval(rows[rows.method == method][column].dropna())
    text = _printed(mean, digits)
    best = _best(means[column], BETTER.get(column))
    if method != KEEP_ALL and best is not None and text == _printed(best, digits):
        text = f"**{text}**"  # all that print alike are the best
    return f"{text} [{_printed(low, digits)}, {_printed(high, digits)}]"


def _printed(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # never -0.0


def _best(means: pd.Series, better: str | None) -> float | None:
    competitors = means.drop(KEEP_ALL, errors="ignore").dropna()
    if better is None or competitors.empty:
        return None
    return competitors.max() if better == "higher" else competitors.min()


FIGURES = ("AI", "AD", "AG", "FF", "Fid-In", "SPS", "COMP", "MM", "seconds")
DIGITS = {
    **dict.fromkeys(("AI", "AD", "AG", "si_sdr_improvement"), 1),
    **dict.fromkeys(("FF", "Fid-In", "SPS", "MM"), 3),
    "seconds": 4,
}


def results_page(
    per_clip: pd.DataFrame, title: str, more: Mapping[str, str] | None = None
) -> str:
    """results.md: a table a condition, ready for a paper.

    Parameters
    ----------
    per_clip : DataFrame
        A row a clip, method and condition.
    title : str
        Heading.
    more : mapping of str to str, optional
        Further sections: heading and Markdown.

    Returns
    -------
    str
        Markdown.
    """
    parts = [f"# {title}\n"]
    for condition, rows in per_clip.groupby("condition", sort=False):
        clips = rows.id.nunique()
        accuracy = rows.drop_duplicates("id").accuracy.mean()
        parts.append(f"## {condition}\n\n{clips} clips, accuracy {accuracy:.3f}\n")
        parts.append(markdown_table(rows, FIGURES, DIGITS))
    for heading, text in (more or {}).items():
        parts.append(f"## {heading}\n\n{text}")
    parts.append(
        "Means over clips with their 95 % bootstrap interval; the best method in bold, "
        f"{KEEP_ALL} aside. {MAIN} is LMAC-ZS with an objective and a decoder of ours. "
        "Probabilities are a softmax over cosines times the checkpoint's logit scale, "
        "which eq. 9 of the paper does not write; AD, AG and FF depend on it.\n"
    )
    return "\n".join(parts)
