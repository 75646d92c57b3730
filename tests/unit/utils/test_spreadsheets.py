"""No text of a table is a formula to a spreadsheet, and reading gives it back."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.utils.spreadsheets import (
    csv_row,
    csv_text,
    escaped,
    read_csv,
    unescaped,
    unescaped_csv_text,
    write_csv,
)

BREAKS = st.text(alphabet='\r\n\v\f\x1c\x85\u2028\u2029",; a', min_size=1, max_size=8)
"""What ends a line somewhere, and what is special in CSV."""


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "'=1", "''-"]
)
def test_what_would_be_a_formula(text: str) -> None:
    """It begins with a quote, once more than it did."""
    assert escaped(text) == f"'{text}"
    assert unescaped(escaped(text)) == text


@pytest.mark.parametrize("text", ["", "dog", "a=1", "'tis", "''", "5-6", " =1"])
def test_what_is_none(text: str) -> None:
    """It stays as it is, read or written."""
    assert escaped(text) == unescaped(text) == text


@given(st.text(alphabet="'=+-@\t\r a", max_size=6))
def test_every_text_comes_back(text: str) -> None:
    """Whatever it begins with; no two texts are written alike."""
    assert unescaped(escaped(text)) == text
    assert not escaped(text).startswith(("=", "+", "-", "@", "\t", "\r"))


def test_a_table_comes_back(tmp_path: Path) -> None:
    """Numbers, gaps and names of columns are not touched, nor is the table itself."""
    table = pd.DataFrame(
        {
            "id": ["=HYPERLINK(0)", "-3", "b"],
            "value": [-1.5, 2.0, float("nan")],
            "count": [-1, 0, 1],
            "note": ["@x", None, "'=y"],
            "there": [True, False, True],
        }
    )
    before = table.copy()
    path = tmp_path / "new" / "table.csv"
    write_csv(path, table)
    pd.testing.assert_frame_equal(table, before)
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == list(table)
    assert rows[0] == ["'=HYPERLINK(0)", "-1.5", "-1", "'@x", "True"]
    assert [row[3] for row in rows] == ["'@x", "", "''=y"]
    found = read_csv(path, dtype={"id": str})
    pd.testing.assert_frame_equal(found, table, check_dtype=False)


def test_text_without_a_header() -> None:
    """As it is appended to a file."""
    table = pd.DataFrame({"a": ["+1"], "b": [0.25]})
    assert csv_text(table, header=False) == "'+1,0.25\n"
    assert csv_text(table[:0]) == "a,b\n"


@given(st.lists(st.tuples(BREAKS, BREAKS), min_size=1, max_size=4))
def test_what_ends_a_line_ends_no_row(cells: list[tuple[str, str]]) -> None:
    """As names of files may have it: programs find the same cells in as many rows."""
    table = pd.DataFrame(cells, columns=["a", "b\r"])
    expected = [["a", "b\r"], *map(list, cells)]
    rows = "".join(map(csv_row, expected))
    for text in (csv_text(table), unescaped_csv_text(table), rows):
        found = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        assert [[unescaped(cell) for cell in row] for row in found] == expected
    texts = {"dtype": str, "keep_default_na": False}
    pd.testing.assert_frame_equal(read_csv(io.StringIO(text), **texts), table)
