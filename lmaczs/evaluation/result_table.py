"""Results CSV that is appended to, so that an interrupted evaluation resumes."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lmaczs.utils.errors import InputError
from lmaczs.utils.files import atomic_write, disk_errors
from lmaczs.utils.spreadsheets import csv_text, read_csv, write_csv

logger = logging.getLogger(__name__)

LATER = frozenset({"recordings", "speech_recordings"})
"""Settings that tables of older versions do not note: they agree with any value."""

CODE = "code"
"""Key beside the settings: the versions of this package that made rows."""


class ResumableTable:
    """Rows of a CSV that were made under given settings.

    Rows that are added are appended; an interrupted addition (no space left, the
    process was killed) is completed when the table is opened again. Of a table that was
    cut, the rows that are whole stay; one whose settings were cut is made anew. Both
    are a warning.

    Parameters
    ----------
    path : Path
        The CSV. The settings are in ``<stem>.json`` beside it.
    settings : mapping
        What the rows depend on, as JSON can hold it; None is compatible with any value.
        Of a mapping, entries may be added: those that are in both must be equal.
    text_columns : sequence of str
        Columns that are never read as numbers: an id may be "007" or "NA".
    needed : sequence of str
        Columns that the rows must have.
    code : str
        Version of this package, noted when rows are added; rows of another one are a
        warning.

    Raises
    ------
    InputError
        If existing rows have other settings, or lack a column.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        text_columns: Sequence[str] = ("id",),
        needed: Sequence[str] = (),
        code: str = "",
    ) -> None:
        self.path, self._text_columns = Path(path), tuple(text_columns)
        self._code = code
        self._parts: list[pd.DataFrame] = []
        self._journal = self.path.with_suffix(".part")
        self._complete()
        self._note = self.path.with_suffix(".json")
        wanted = json.loads(json.dumps(settings))
        found = self._found_settings(self._note)
        if found is not None:
            self._warn_of_versions(found.get(CODE, []))
            _require_same(found, wanted)
            self._parts.append(_read(self.path, text_columns))
            self._require(needed)
            wanted = {n: _joined(found.get(n), value) for n, value in wanted.items()}
            wanted |= {CODE: found[CODE]} if CODE in found else {}
            if wanted == found:
                return
        self._write_note(wanted)

    def _write_note(self, settings: Mapping[str, Any]) -> None:
        with atomic_write(self._note) as part:
            part.write_text(json.dumps(settings, indent=1) + "\n")

    def _warn_of_versions(self, versions: Sequence[str]) -> None:
        if versions and list(versions) != [self._code]:
            logger.warning(
                "%s has rows that lmaczs %s made, and this is %s: figures of several "
                "versions may not be comparable; another folder makes all anew",
                self.path,
                " and ".join(versions),
                self._code,
            )

    def _note_version(self) -> None:
        """Add the version to those that made rows."""
        noted = json.loads(self._note.read_text())
        versions = noted.get(CODE, [])
        if self._code and self._code not in versions:
            self._write_note({**noted, CODE: [*versions, self._code]})

    def _found_settings(self, note: Path) -> dict[str, Any] | None:
        """Settings of rows that are there; None, and no rows, if those are damaged."""
        if not self.path.exists():
            return None
        try:
            settings = dict(json.loads(note.read_text())) if note.exists() else {}
            _cut_to_whole_rows(self.path)
        except (ValueError, TypeError) as error:
            logger.warning("%s is damaged (%s): it is made anew", self.path, error)
            self.path.unlink()
            return None
        return settings

    @property
    def rows(self) -> pd.DataFrame:
        """All rows, in the order in which they were added."""
        if len(self._parts) > 1:  # joined when wanted: additions may be many
            self._parts = [pd.concat(self._parts, ignore_index=True)]
        return self._parts[0] if self._parts else pd.DataFrame()

    def keys(self, *columns: str) -> set[tuple[Any, ...]]:
        """Values of some columns, row by row."""
        if self.rows.empty:
            return set()
        return set(self.rows[list(columns)].itertuples(index=False, name=None))

    def rows_of(self, path: Path) -> pd.DataFrame:
        """Rows of another table of the same settings, which is not written to.

        Empty where there is no such file. InputError for other settings or columns.
        """
        if not path.exists():
            return pd.DataFrame()
        notes = (p.with_suffix(".json") for p in (path, self.path))
        found, wanted = (json.loads(note.read_text()) for note in notes)
        _require_same(found, wanted, f"{path.parent}, which is to be joined,")
        rows = _read(path, self._text_columns)
        if not self.rows.empty and set(rows) != set(self.rows):
            raise InputError(
                f"{path} has the columns {list(rows)}, not {list(self.rows)}: it is of "
                "another version; evaluate anew"
            )
        return rows

    def drop(self, column: str, values: Collection[str]) -> None:
        """Remove the rows that have one of these values in a column."""
        if self.rows.empty or not self.rows[column].isin(values).any():
            return
        kept = self.rows[~self.rows[column].isin(values)].reset_index(drop=True)
        self._parts = [kept]
        write_csv(self.path, kept)

    def add(self, rows: pd.DataFrame) -> None:
        """Append rows, with the columns of the existing ones."""
        first = all(part.empty for part in self._parts)
        if not first:
            names = list(self._parts[0])
            if set(rows) != set(names):
                raise InputError(f"rows have {list(rows)}, not {names}")
            rows = rows[names]
        entry = {
            "offset": 0 if first else self.path.stat().st_size,
            "text": csv_text(rows, header=first),
        }
        self._note_version()
        with atomic_write(self._journal) as part:
            part.write_text(json.dumps(entry), encoding="utf-8")
        self._complete()
        self._parts = [rows] if first else [*self._parts, rows]

    def _complete(self) -> None:
        """Move the journal's rows to their place in the CSV."""
        if not self._journal.exists():
            return
        try:
            entry = json.loads(self._journal.read_text(encoding="utf-8"))
        except ValueError as error:
            logger.warning("%s is damaged (%s): left out", self._journal, error)
            self._journal.unlink()
            return
        with disk_errors(self.path.parent), self.path.open("ab") as file:
            file.truncate(entry["offset"])
            file.write(entry["text"].encode())
        self._journal.unlink()

    def _require(self, needed: Sequence[str]) -> None:
        missing = [name for name in needed if name not in self.rows]
        if missing:
            raise InputError(
                f"{self.path.name} in output_folder has no column {missing[0]}, which "
                "was added since: choose another folder, or remove that one"
            )


def _cut_to_whole_rows(path: Path) -> None:
    """Remove an end that is no whole row, and say so; ValueError if none is whole."""
    content = path.read_bytes()
    if content.endswith(b"\n") and content.count(b'"') % 2 == 0:
        return
    end = content.rfind(b"\n") + 1
    while end and content[:end].count(b'"') % 2:  # the line is inside a quoted text
        end = content.rfind(b"\n", 0, end - 1) + 1
    if content.count(b"\n", 0, end) < 2:
        raise ValueError("no row of it is whole")
    logger.warning("%s was cut in a row: that row is made anew", path)
    with atomic_write(path) as part:
        part.write_bytes(content[:end])


def _read(path: Path, text_columns: Sequence[str]) -> pd.DataFrame:
    return read_csv(
        path,
        dtype=dict.fromkeys(text_columns, str),
        keep_default_na=False,
        na_values=[""],
    )


def _require_same(
    found: Mapping[str, Any], wanted: Mapping[str, Any], where: str = "output_folder"
) -> None:
    names = sorted({*found, *wanted} - {CODE})
    other = [n for n in names if not _agree(n, found, wanted)]
    if other:
        raise InputError(
            f"{where} holds figures for another setting of {other[0]} "
            f"({found.get(other[0])}, now {wanted.get(other[0])}): choose another "
            "folder, or remove that one"
        )


def _agree(name: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    if name in LATER and name not in found:
        return True
    if name not in found or name not in wanted:
        return False
    one, other = found[name], wanted[name]
    if isinstance(one, dict) and isinstance(other, dict):
        return all(one[key] == other[key] for key in set(one) & set(other))
    return one == other or None in (one, other)


def _joined(found: Any, wanted: Any) -> Any:
    """Setting of a table that has rows of both."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return {**found, **wanted}
    return found if wanted is None else wanted
