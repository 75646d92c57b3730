"""Annotations of recordings as other tools have them: Raven and Audacity.

What one tool annotates another trains on: tables of events are written as Raven's
selection tables and as Audacity's labels, and both are read as rows of a manifest.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lmaczs.data.lists import SUFFIXES, MissingDataError, recordings_in
from lmaczs.prompts import is_label
from lmaczs.utils.errors import InputError

logger = logging.getLogger(__name__)

RAVEN_SUFFIX, AUDACITY_SUFFIX = ".selections.txt", ".labels.txt"

ANNOTATION_COLUMNS = ("Annotation", "Species", "Common Name", "Label", "Tag")
"""Of a selection table, the first that there is has the annotations."""

EVENT = ["start", "stop", "low_hz", "high_hz", "annotation"]


# --- Raven --------------------------------------------------------------------------


def to_raven(
    events: pd.DataFrame, recording: str | Path, channel: int | None = None
) -> str:
    """Raven selection table of events, as `lmaczs.events.event_table` has them.

    `recording` is the path that "Begin Path" has, from which Raven opens the sound;
    `channel` the one that was searched, from 1 on. Events of the mean over all channels
    are shown in the first.
    """
    path = Path(recording)
    table = pd.DataFrame(
        {
            "Selection": range(1, len(events) + 1),
            "View": "Spectrogram 1",
            "Channel": channel or 1,
            "Begin Time (s)": events.start.round(6),
            "End Time (s)": events.stop.round(6),
            "Low Freq (Hz)": events.low_hz.round(3),
            "High Freq (Hz)": events.high_hz.round(3),
            "Begin File": re.sub(r"[\t\r\n]", " ", path.name),
            "Begin Path": re.sub(r"[\t\r\n]", " ", str(path)),
            "Annotation": events.prompt.map(_one_cell),
            "Similarity": events.similarity.round(6),
            "Presence": events.presence.round(6),
            "Mass": events.mass.round(6),
        }
    )
    form: dict[str, Any] = {"sep": "\t", "lineterminator": "\n"}
    # to Raven, and to Audacity, a quotation mark is a character of the annotation
    text: str = table.to_csv(index=False, quoting=csv.QUOTE_NONE, **form)
    return text


def from_raven(path: str | Path, column: str | None = None) -> pd.DataFrame:
    """Read a Raven selection table.

    Parameters
    ----------
    path : str or Path
        Tab-separated text.
    column : str, optional
        The column with the annotations; default: the first of `ANNOTATION_COLUMNS`.

    Returns
    -------
    DataFrame
        start, stop (seconds), low_hz, high_hz (NaN where there are none), annotation,
        begin_path ("" where there is none); a selection that is in several views once.

    Raises
    ------
    InputError
        If it is no selection table, or has no such column.
    """
    table = _raven_table(Path(path))
    named = [name for name in ANNOTATION_COLUMNS if name in table]
    name = column or (named or [""])[0]
    if name not in table:
        raise InputError(
            f"{path} has no column {name or 'of annotations'}: name one of "
            f"{', '.join(table)} by --column"
        )
    begin = table["Begin Path"] if "Begin Path" in table else ""
    columns = {
        "start": _numbers(table, "Begin Time (s)", path),
        "stop": _numbers(table, "End Time (s)", path),
        "low_hz": _numbers(table, "Low Freq (Hz)", path),
        "high_hz": _numbers(table, "High Freq (Hz)", path),
        "annotation": table[name].str.strip(),
        "begin_path": begin,
    }
    return pd.DataFrame(columns).drop_duplicates(ignore_index=True)


def _raven_table(path: Path) -> pd.DataFrame:
    try:
        text = _text(path)
        # a table that went through R, say, has its names in quotation marks, too
        quoting = csv.QUOTE_MINIMAL if text.startswith('"') else csv.QUOTE_NONE
        form: dict[str, Any] = {"sep": "\t", "dtype": str, "keep_default_na": False}
        table = pd.read_csv(io.StringIO(text), quoting=quoting, **form)
    except ValueError as error:  # no columns, or rows of different lengths
        raise InputError(f"{path} is no selection table: {error}") from error
    lacking = [n for n in ("Begin Time (s)", "End Time (s)") if n not in table]
    if lacking:
        raise InputError(
            f"{path} has no column {lacking[0]!r}: it is no selection table of Raven"
        )
    return table


def _numbers(table: pd.DataFrame, name: str, path: str | Path) -> pd.Series:
    """A column as numbers; NaN where it is empty, or where there is none."""
    if name not in table:
        return pd.Series(math.nan, table.index)
    try:
        return pd.to_numeric(table[name].replace("", "nan"))
    except ValueError as error:
        raise InputError(f"{path}: in column {name!r}, {error}") from error


# --- Audacity -----------------------------------------------------------------------


def to_audacity(events: pd.DataFrame) -> str:
    """Audacity's labels of events, with their band."""
    lines = []
    for event in events.itertuples(index=False):
        lines.append(f"{event.start:.6f}\t{event.stop:.6f}\t{_one_cell(event.prompt)}")
        lines.append(f"\\\t{event.low_hz:.3f}\t{event.high_hz:.3f}")
    return "".join(f"{line}\n" for line in lines)


def from_audacity(path: str | Path) -> pd.DataFrame:
    """Read Audacity's labels.

    Parameters
    ----------
    path : str or Path
        Tab-separated text: start, stop, label; below it, or not, a backslash and the
        limits of the band.

    Returns
    -------
    DataFrame
        start, stop (seconds), low_hz, high_hz (NaN where there are none), annotation.

    Raises
    ------
    InputError
        If it is no such file.
    """
    rows: list[list[float | str]] = []
    text = io.StringIO(_text(Path(path)), newline=None)
    lines = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
    for number, cells in enumerate(lines, 1):
        try:
            if cells and cells[0] == "\\":
                rows[-1][2:4] = [_hertz(cells[1]), _hertz(cells[2])]
            elif cells:
                times = float(cells[0]), float(cells[1])
                rows.append([*times, math.nan, math.nan, "\t".join(cells[2:]).strip()])
        except (ValueError, IndexError) as error:
            raise InputError(
                f"{path}: line {number} is no label of Audacity: start, stop and text, "
                "with tabs between them"
            ) from error
    return pd.DataFrame(rows, columns=EVENT)


def _hertz(text: str) -> float:
    """A frequency; Audacity has -1 for one that is not limited."""
    value = float(text)
    return value if value >= 0 else math.nan


def _one_cell(text: str) -> str:
    """Text without tabs and line breaks, which end a cell."""
    return " ".join(str(text).split())


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: save it as UTF-8 text") from error


# --- manifests ----------------------------------------------------------------------


def raven_rows(
    data_folder: str | Path,
    recordings: str | Path | None = None,
    column: str | None = None,
) -> pd.DataFrame:
    """Rows of a manifest from the selection tables below a folder.

    A table's recording is what "Begin Path" names, if that exists; else the one below
    `recordings` (default: the folder) with which its name begins: "a.wav" for
    "a.Table.1.selections.txt". Columns: path (absolute), label or text (`is_label`),
    split (empty), start, stop, low_hz, high_hz.
    """
    tables = _tables(Path(data_folder), "*selections.txt", "selection table of Raven")
    found = _Recordings(recordings or data_folder)
    parts = []
    for path in tables:
        table = from_raven(path, column)
        table["path"] = [
            str(Path(begin).resolve())
            if begin and Path(begin).is_file()
            else found.of(path)
            for begin in table.begin_path
        ]
        parts.append(table)
    return _as_rows(pd.concat(parts), data_folder)


def audacity_rows(
    data_folder: str | Path, recordings: str | Path | None = None
) -> pd.DataFrame:
    """Rows of a manifest from Audacity's labels, the text files below a folder.

    A recording is the one below `recordings` (default: the folder) with which the
    name of the labels begins: "a.wav" for "a.txt" and "a.labels.txt". Columns as
    `raven_rows` has them.
    """
    every = _tables(Path(data_folder), "*.txt", "file of Audacity's labels (.txt)")
    tables = [one for one in every if not one.name.endswith("selections.txt")]
    found = _Recordings(recordings or data_folder)
    parts = [from_audacity(path).assign(path=found.of(path)) for path in tables]
    return _as_rows(pd.concat([pd.DataFrame(columns=EVENT), *parts]), data_folder)


def _tables(folder: Path, pattern: str, what: str) -> list[Path]:
    found = sorted(folder.rglob(pattern)) if folder.is_dir() else []
    if not found:
        raise MissingDataError(f"{folder} holds no {what}")
    return found


class _Recordings:
    """Recordings below a folder, found by the names of their annotations."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = folder
        self.paths = recordings_in(folder, at_least=0)

    def of(self, table: Path) -> str:
        """The recording whose name is the longest that the table's begins with."""

        def fits(path: Path) -> Iterator[str]:
            for name in (path.name, path.stem):
                if table.name.startswith(f"{name}."):
                    yield name

        named = [(len(name), path) for path in self.paths for name in fits(path)]
        if not named:
            stem = table.name.split(".")[0]
            raise MissingDataError(
                f"{table} belongs to no recording below {self.folder}: name the folder "
                f"of {stem}{SUFFIXES[0]} (or {', '.join(SUFFIXES[1:])}) by --recordings"
            )
        longest = max(length for length, _ in named)
        fitting = [path for length, path in named if length == longest]
        beside = [path for path in fitting if path.parent == table.parent]
        if len(fitting) > 1 and len(beside) != 1:
            raise InputError(
                f"{table} may belong to {fitting[0]} or to {fitting[1]}: rename one, "
                "or name the folder of the recording by --recordings"
            )
        return str((beside or fitting)[0].resolve())


def _as_rows(table: pd.DataFrame, folder: str | Path) -> pd.DataFrame:
    """Rows of a manifest, without events of no length and without annotations."""
    usable = (table.stop > table.start) & (table.annotation != "")
    if not usable.any():
        raise InputError(f"{folder}: no event there has a length and an annotation")
    if left := int((~usable).sum()):
        logger.warning("%d events without length or annotation are left out", left)
    table = table[usable].reset_index(drop=True)
    labels = table.annotation.map(is_label)
    return pd.DataFrame(
        {
            "path": table.path,
            "label": table.annotation.where(labels, ""),
            "text": table.annotation.where(~labels, ""),
            "split": "",
            "start": table.start,
            "stop": table.stop,
            "low_hz": table.low_hz,
            "high_hz": table.high_hz,
        }
    )
