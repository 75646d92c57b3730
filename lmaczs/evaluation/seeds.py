"""Decoders of several seeds: their mean, and the spread of training.

Rows ``NAME #1``, ``NAME #2``, ... are one method, trained several times. The interval
of a row says how far its mean is certain for other clips; the standard deviation over
seeds says how far another training would be from it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from lmaczs.metrics.metric import Column
from lmaczs.report import markdown

SEEDED = re.compile(r"(?P<method>.*\S) #(?P<seed>\S+)")


def seed_name(method: str, seed: int | str) -> str:
    """Name of the row of a method's training with one seed: ``LMAC-ZS #1``."""
    return f"{method} #{seed}"


def over_seeds(results: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation over the seeds of each method.

    Parameters
    ----------
    results : DataFrame
        method, condition and `columns`: a row for each condition and method, means over
        clips. Rows without a seed in their name are left out.
    columns : sequence of str
        Figures.

    Returns
    -------
    DataFrame
        method, condition, seeds (their number, at least 2), each figure's mean, and its
        sample standard deviation as ``<figure>_sd``. Empty without such methods.
    """
    found = results.method.str.fullmatch(SEEDED)
    rows = results[found]
    methods = rows.method.str.extract(SEEDED, expand=True)["method"]
    groups = rows.assign(method=methods).groupby(["condition", "method"], sort=False)
    sizes = groups.size().rename("seeds")
    means, spread = groups[list(columns)].mean(), groups[list(columns)].std()
    table = pd.concat([sizes, means, spread.add_suffix("_sd")], axis=1)
    return table[table.seeds > 1].reset_index()


def seeds_page(table: pd.DataFrame, columns: Sequence[Column]) -> str:
    """Markdown of `over_seeds`: a table for each condition."""
    parts = []
    names = [column.name for column in columns]
    for condition, rows in table.groupby("condition", sort=False):
        lines = []
        for row in rows.to_dict("records"):
            cells = [
                f"{row[c.name]:.{c.digits}f} ± {row[f'{c.name}_sd']:.{c.digits}f}"
                for c in columns
            ]
            lines.append([row["method"], str(row["seeds"]), *cells])
        parts.append(markdown.table([str(condition), "seeds", *names], lines))
    parts.append("Mean over seeds ± sample standard deviation over seeds.\n")
    return "\n".join(parts)
