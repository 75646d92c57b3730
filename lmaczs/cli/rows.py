"""Results on stdout as rows: CSV, JSON, or a JSON object a line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lmaczs.utils.spreadsheets import csv_row, escaped

FORMATS = ("csv", "json", "jsonl")


def add_format(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add --format and --quiet; without a default, lines are printed for people."""
    text = "print rows for programs " + (
        "instead of lines" if default is None else "(default: %(default)s)"
    )
    parser.add_argument("--format", choices=FORMATS, default=default, help=text)
    add_quiet(parser, "print errors only, and the rows of --format")


def add_quiet(parser: argparse.ArgumentParser, text: str = "print errors only") -> None:
    """Add --quiet."""
    parser.add_argument("--quiet", action="store_true", help=text)


class RowWriter:
    """Writes rows to stdout as they come. A context manager.

    Parameters
    ----------
    kind : str
        One of `FORMATS`.
    columns : sequence of str
        Keys of a row that are in it; None: all, which CSV cannot have.
    """

    def __init__(self, kind: str, columns: Sequence[str] | None) -> None:
        self.kind, self.columns = kind, columns
        self._count = 0

    def __enter__(self) -> RowWriter:
        if self.kind == "csv":
            self._csv(self.columns or ())
        return self

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows; CSV has six decimals."""
        for row in rows:
            names = self.columns or list(row)
            if self.kind == "csv":
                self._csv([_cell(row[name]) for name in names])
            else:
                text = json.dumps({name: row[name] for name in names})
                lead = ("[\n", ",\n")[self._count > 0] if self.kind == "json" else ""
                sys.stdout.write(lead + text + ("\n" if self.kind == "jsonl" else ""))
            self._count += 1
        sys.stdout.flush()

    def __exit__(self, *raised: Any) -> None:
        if self.kind == "json":
            sys.stdout.write("\n]\n" if self._count else "[]\n")
            sys.stdout.flush()

    def _csv(self, cells: Sequence[str]) -> None:
        sys.stdout.write(csv_row(cells))


def _cell(value: Any) -> str:
    """A cell of CSV: an empty one for None, and text that is no formula."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6f}"
    return escaped(str(value))
