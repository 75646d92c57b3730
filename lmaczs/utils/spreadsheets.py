"""CSV files that a spreadsheet may open: no text in them is taken for a formula.

A prompt, a label or an id such as ``=1+1`` is written with a quote before it, which
spreadsheets do not show; `read_csv` takes it away again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmaczs.utils.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd

FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a text begins that a spreadsheet takes for a formula, and how those begin that
are escaped."""

ROW_END = re.compile(r'("[^"]*")|\r\n')
"""What is in quotes, and else where a row ends."""


def escaped(text: str) -> str:
    """A text that is no formula."""
    return f"'{text}" if FORMULA.match(text) else text


def unescaped(text: str) -> str:
    """The text that was escaped, also if nothing had to be."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def csv_text(table: pd.DataFrame, **options: Any) -> str:
    """A table as CSV, its texts escaped; `options` are those of pandas' to_csv."""
    return unescaped_csv_text(_mapped(table, escaped), **options)


def unescaped_csv_text(table: pd.DataFrame, **options: Any) -> str:
    """A table as CSV, its texts as they are, for what is no spreadsheet to read."""
    # before Python 3.13 a carriage return is in quotes only if it ends rows, too
    ends: dict[str, Any] = {"index": False, "lineterminator": "\r\n"}
    text: str = table.to_csv(**ends, **options)
    return ROW_END.sub(lambda found: found[1] or "\n", text)


def csv_row(cells: Sequence[str]) -> str:
    """A row of CSV with its end, of texts as they are."""
    row = io.StringIO()
    csv.writer(row, lineterminator="\r\n").writerow(cells)
    return row.getvalue().removesuffix("\r\n") + "\n"


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table whole or not at all, its texts escaped."""
    with atomic_write(path) as part:
        part.write_text(csv_text(table), encoding="utf-8")


def read_csv(path: str | Path, **options: Any) -> pd.DataFrame:
    """Read what `write_csv` wrote; `options` are those of pandas' read_csv."""
    import pandas as pd

    return _mapped(pd.read_csv(path, **options), unescaped)


def _mapped(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """Change the texts of a table, and leave its other values as they are."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    def changed(value: Any) -> Any:
        return change(value) if isinstance(value, str) else value

    of_text = [
        place
        for place, kind in enumerate(table.dtypes)
        if not is_numeric_dtype(kind) and not is_bool_dtype(kind)
    ]
    found = table.copy(deep=False)
    for place in of_text:
        found.isetitem(place, table.iloc[:, place].map(changed))
    return found
