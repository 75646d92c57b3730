"""CSV tables as people have them: read whatever program wrote them, as text.

Spreadsheets write semicolons or tabs in place of commas, "sep=;" above the header, a
byte order mark, UTF-16, decimal commas and rows of nothing but separators; people write
spaces after commas, and "Path" for "path". All of it is read, and what was assumed is
stated.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmaczs.utils.errors import InputError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
SURPLUS = "(fields beyond the header)"
LINE_END = re.compile("\r\n|\r|\n")  # the second: of former Macs
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

Rows = list[tuple[int, dict[str, str]]]
"""Line number and fields of each row."""


class LineError(InputError):
    """What is wrong with a table, in a line of it: "line 3: ..."."""


@dataclass(frozen=True)
class CsvTable:
    """A table's fields, all text without spaces around it.

    Attributes
    ----------
    columns : list of str
        Of the header, in its order.
    rows : Rows
        Fields that a row lacks are "", those that it has too many are in `SURPLUS`.
    separator : str
        One of `SEPARATORS`.
    assumed : list of str
        What was not as the format has it, and how it was read.
    """

    columns: list[str]
    rows: Rows
    separator: str
    assumed: list[str]


def read_csv_table(path: Path, known: Sequence[str], needed: Sequence[str]) -> CsvTable:
    """Read a CSV table with a header, whatever separates its fields.

    Parameters
    ----------
    path : Path
        File in UTF-8, or in UTF-16 with a byte order mark.
    known : sequence of str
        Columns that are found by their names in any case.
    needed : sequence of str
        Those by which the separator is recognised: commas, unless with another one the
        header has more of them.

    Returns
    -------
    CsvTable
        Without the rows in which no field is filled.

    Raises
    ------
    LineError
        For other encodings, quotes that are not closed, and a column that the header
        names twice.
    """
    assumed: list[str] = []
    text = _decoded(path, assumed)
    text, first, separator = _named_separator(text, assumed)
    if separator is None:
        separator = _likely_separator(text, set(needed), assumed)
    lines = _split_fields(text, separator, first)
    columns = _names(*(lines[0] if lines else (first, [])), known, assumed)
    rows = [(line, _fields(columns, cells)) for line, cells in lines[1:]]
    filled = [(line, row) for line, row in rows if any(row.values())]
    if len(filled) < len(rows):
        assumed.append(f"{len(rows) - len(filled)} empty rows are left out")
    return CsvTable([name for name in columns if name], filled, separator, assumed)


def _decoded(path: Path, assumed: list[str]) -> str:
    raw = path.read_bytes()
    encoding = "utf-16" if raw.startswith(UTF_16) else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise LineError(f"line {line}: it is not {name}; save it as UTF-8") from error
    if encoding == "utf-16":
        assumed.append("it is UTF-16")
    return text


def _named_separator(text: str, assumed: list[str]) -> tuple[str, int, str | None]:
    """Text below a line "sep=;", the number of its first line, and the separator."""
    head, *rest = LINE_END.split(text, maxsplit=1)
    named = head.strip('" ')
    if named.lower().startswith("sep=") and named[4:] in SEPARATORS:
        assumed.append(f"its first line sets {SEPARATORS[named[4:]]} between fields")
        return "".join(rest), 2, named[4:]
    return text, 1, None


def _likely_separator(text: str, needed: set[str], assumed: list[str]) -> str:
    """The separator with which the header has most of the columns that are needed."""
    header = LINE_END.split(text.lstrip(), maxsplit=1)[0]

    def found(separator: str) -> int:
        cells = {cell.strip('" ').lower() for cell in header.split(separator)}
        return len(needed & cells)

    likely = max(SEPARATORS, key=found)  # the first of equals: commas
    if likely != ",":
        assumed.append(f"{SEPARATORS[likely]} are between its fields")
    return likely


def _split_fields(text: str, separator: str, first: int) -> list[tuple[int, list[str]]]:
    """Number of the last line of each row that is not empty, and its cells."""
    # strict: a quote that is never closed would take all other rows into its field
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        skipinitialspace=True,
        strict=True,
    )
    offset = first - 1
    try:
        rows = [(reader.line_num + offset, cells) for cells in reader]
    except csv.Error as error:
        line = reader.line_num + offset
        raise LineError(
            f"line {line}: {error}; a quote is not closed or not doubled"
        ) from error
    return [(line, [cell.strip() for cell in cells]) for line, cells in rows if cells]


def _names(
    line: int, names: list[str], known: Sequence[str], assumed: list[str]
) -> list[str]:
    """Columns of the header, known ones under their own names."""
    for name in known:
        others = [i for i, cell in enumerate(names) if cell.lower() == name.lower()]
        if name not in names and len(others) == 1:
            assumed.append(f"column {names[others[0]]!r} is taken as {name}")
            names[others[0]] = name
    twice = [name for name in dict.fromkeys(names) if name and names.count(name) > 1]
    if twice:
        raise LineError(f"line {line}: the header has {twice[0]} twice")
    return names


def _fields(columns: list[str], cells: list[str]) -> dict[str, str]:
    """Fields of a row by column, those beyond the header joined as `SURPLUS`."""
    padded = [*cells, *[""] * (len(columns) - len(cells))]
    row = dict(zip(columns, padded, strict=False))
    row.pop("", None)
    surplus = " ".join(filter(None, cells[len(columns) :]))
    return row | {SURPLUS: surplus} if surplus else row
