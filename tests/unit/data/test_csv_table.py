"""CSV tables: whatever program wrote them, the same fields are read."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.data.csv_table import (
    SEPARATORS,
    SURPLUS,
    CsvTable,
    LineError,
    read_csv_table,
)


def read(folder: Path, content: bytes) -> CsvTable:
    """Read a table of columns path and text."""
    path = folder / "table.csv"
    path.write_bytes(content)
    return read_csv_table(path, ("path", "text"), ("path", "text"))


# what no field can be told from: spaces around it, and lines of another convention
words = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")),
    min_size=1,
).map(str.strip)


@given(
    rows=st.lists(st.tuples(words, words), min_size=1),
    separator=st.sampled_from(list(SEPARATORS)),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    named=st.booleans(),
)
def test_fields_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    separator: str,
    encoding: str,
    end: str,
    named: bool,
) -> None:
    """Any words, written with any separator, in any encoding that states itself."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        if named:
            file.write(f"sep={separator}{end}")
        writer = csv.writer(file, delimiter=separator, lineterminator=end)
        writer.writerows([("path", "text"), *rows])
    table = read_csv_table(path, (), ("path", "text"))
    expected = [{"path": a, "text": b} for a, b in rows if a or b]
    assert [row for _, row in table.rows] == expected
    assert table.separator == separator


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    """The line on which a row ends, with sep= and empty rows counted."""
    table = read(tmp_path, b'sep=;\npath;text\n;\na;"b\nc"\nd;e\n')
    assert [line for line, _ in table.rows] == [5, 6]


def test_fields_beyond_the_header(tmp_path: Path) -> None:
    """They are kept apart, unless they are empty."""
    (_, first), (_, second) = read(tmp_path, b"path,text\na,b,,c\nd,e,,\n").rows
    assert first == {"path": "a", "text": "b", SURPLUS: "c"}
    assert second == {"path": "d", "text": "e"}


def test_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    """Spreadsheets write them where a cell was once filled."""
    table = read(tmp_path, b"path,text,,\na,b,,\n")
    assert table.columns == ["path", "text"]
    assert table.rows == [(2, {"path": "a", "text": "b"})]


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    """Which one is meant cannot be known."""
    with pytest.raises(LineError, match="^line 1: the header has text twice$"):
        read(tmp_path, b"path,text,text\na,b,c\n")


def test_a_name_in_two_cases_is_no_match(tmp_path: Path) -> None:
    """Of Path and PATH none is taken for path."""
    table = read(tmp_path, b"Path,PATH,text\na,b,c\n")
    assert table.columns == ["Path", "PATH", "text"]
    assert table.assumed == []


def test_nothing_in_the_file(tmp_path: Path) -> None:
    """No column and no row."""
    table = read(tmp_path, b"")
    assert (table.columns, table.rows) == ([], [])


def test_what_is_no_table(tmp_path: Path) -> None:
    """A line longer than any field may be is a mistake, not an error of Python's."""
    with pytest.raises(LineError, match="line 1: "):
        read(tmp_path, b"[" * 200_000)
