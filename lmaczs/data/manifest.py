"""Manifests: your own data set as a CSV, checked as a whole before anything runs.

A header, then a row a clip (or a row a caption of a clip)::

    path      relative to the CSV, or absolute
    text      a caption, taken as it is; or
    label     a name, put into the templates
    id        optional: the file's stem, numbered where rows share it
    split     optional: train (the default), valid or test; one for all rows of a clip
    start     optional: seconds
    stop      optional: seconds

Rows that share path, start and stop are one clip. Other columns are carried through.
What spreadsheets and people make of it (`read_csv_table`) is read, with a warning.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from lmaczs.data.clip_texts import ClipText
from lmaczs.data.csv_table import SURPLUS, LineError, Rows, read_csv_table
from lmaczs.data.lists import MissingDataError
from lmaczs.data.recordings import ends_of
from lmaczs.data.splits import SPLITS, Splits, fill_splits
from lmaczs.utils.errors import InputError

logger = logging.getLogger(__name__)

OWN = ("id", "path", "text", "label", "split", "start", "stop")
CLIP = ["path", "start", "stop"]
NEEDED = ("path", "text", "label")
SHOWN = 20  # mistakes that a message lists


class ManifestError(InputError):
    """All mistakes of a manifest, each with its line."""

    def __init__(self, manifest: Path, mistakes: list[str]) -> None:
        shown = mistakes[:SHOWN]
        if len(mistakes) > SHOWN:
            shown = [*shown, f"and {len(mistakes) - SHOWN} more"]
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__("\n  ".join([f"{manifest} has {count}:", *shown]))


def read_manifest(
    manifest: str | Path, open_recordings: bool = False, for_test: bool = False
) -> pd.DataFrame:
    """Read a manifest and check every row of it.

    Parameters
    ----------
    manifest : str or Path
        CSV file. Separators, columns and splits are read as `read_csv_table` and people
        write them, with a warning where something was assumed.
    open_recordings : bool
        Whether to read the header of every recording, too: it must be audio, and no
        clip may begin after its end.
    for_test : bool
        Whether clips are only tested on, by their labels: a label stays beside a text,
        and split is empty, not train, where the manifest has none.

    Returns
    -------
    DataFrame
        id, path (absolute), text, label, split, start, stop (seconds; NaN where the
        clip is not cut), then further columns. One of text and label is empty in each
        row, unless `for_test`.

    Raises
    ------
    ManifestError
        With every mistake and its line.
    MissingDataError
        If there is no such file.
    """
    path = _existing(manifest)
    rows = _read_rows(path)
    mistakes = [(line, text) for line, row in rows for text in _mistakes_of(row)]
    mistakes += [*_repeated_ids(rows), *_divided_clips(rows)]
    if open_recordings:
        mistakes += _unreadable(rows)
    _refuse(path, mistakes)
    return _as_table([row for _, row in rows], for_test)


def read_clips(manifest: str | Path) -> pd.DataFrame:
    """Read which clips a manifest names, each once; no recording is looked at.

    Parameters
    ----------
    manifest : str or Path
        CSV file, as `read_manifest` reads it; it need not have a text or a label.

    Returns
    -------
    DataFrame
        path (absolute, or a URL), start, stop (seconds; NaN where the clip is not cut),
        then further columns, as text. Of rows that share these three the first counts.

    Raises
    ------
    ManifestError
        With every mistake and its line.
    MissingDataError
        If there is no such file.
    """
    path = _existing(manifest)
    rows = _read_rows(path, needed=("path",))
    mistakes = [(line, text) for line, row in rows for text in _mistakes_of_place(row)]
    _refuse(path, mistakes)
    table = pd.DataFrame([row for _, row in rows]).fillna("")
    for name in ("start", "stop"):
        table[name] = list(map(_seconds, table.get(name, [""] * len(table))))
    further = [name for name in table.columns if name not in CLIP]
    return table[[*CLIP, *further]].drop_duplicates(CLIP, ignore_index=True)


def _existing(manifest: str | Path) -> Path:
    path = Path(manifest)
    if not path.is_file():
        raise MissingDataError(f"--manifest={manifest} does not exist")
    return path


def _refuse(path: Path, mistakes: list[tuple[int, str]]) -> None:
    """Raise a ManifestError if there are any mistakes, by their lines."""
    if mistakes:
        ordered = [f"line {line}: {text}" for line, text in sorted(mistakes)]
        raise ManifestError(path, ordered)


def _read_rows(path: Path, needed: Sequence[str] = NEEDED) -> Rows:
    """Line number and fields of each row; fields that a row lacks are empty.

    Of what is `needed` beside path, one has to be there.
    """
    try:
        table = read_csv_table(path, OWN, needed)
    except LineError as error:
        raise ManifestError(path, [str(error)]) from error
    others = needed[1:]
    known = set(table.columns)
    if "path" not in known or (others and known.isdisjoint(others)):
        found = ", ".join(table.columns) or "nothing"
        wanted = f"path and one of {', '.join(others)}" if others else "path"
        text = f"line 1: the header needs {wanted}; it has {found}"
        raise ManifestError(path, [text + _converted(table.columns)])
    if not table.rows:
        raise ManifestError(path, ["line 2: there is no row"])
    assumed = dict.fromkeys(table.assumed)
    for _, row in table.rows:
        row["path"] = _absolute(path.parent, row["path"])
        assumed |= dict.fromkeys(_as_people_write(row, table.separator))
    if assumed:
        logger.warning("%s is read: %s", path, "; ".join(assumed))
    return table.rows


def _as_people_write(row: dict[str, str], separator: str) -> Iterator[str]:
    """Read split in any case, and times with decimal commas; what was assumed."""
    split = row.get("split", "")
    if split != split.lower():
        row["split"] = split.lower()
        yield f"split {split!r} is taken as {row['split']}"
    for name in ("start", "stop"):
        # as spreadsheets write it in languages whose separator is another one
        if separator != "," and "," in row.get(name, ""):
            row[name] = row[name].replace(",", ".")
            yield f"commas in {name} are taken as decimal points"


def _converted(columns: Sequence[str]) -> str:
    """How a sentence goes on where annotations are given for a manifest."""
    line = " ".join(columns)
    kinds = {"raven": r".*Begin Time \(s\)", "audacity": r"[\d.]+\t[\d.]+(\t|$)"}
    for kind, pattern in kinds.items():
        if re.match(pattern, line):
            return f"; make one of it by recipes/make_manifest.py {kind} FOLDER OUT.csv"
    return ""


def _absolute(folder: Path, path: str) -> str:
    """A recording's path; backslashes of Windows divide it where that finds a file."""
    if "://" in path:  # a URL stays as it is
        return path
    found = folder / path
    if "\\" in path and not found.is_file():
        divided = folder / path.replace("\\", "/")
        found = divided if divided.is_file() else found
    return str(found.resolve()) if path else ""


def _mistakes_of(row: dict[str, str]) -> Iterator[str]:
    """What is wrong with one row by itself."""
    yield from _mistakes_of_place(row)
    if row["path"] and not Path(row["path"]).is_file():
        yield f"{row['path']} does not exist"
    if not row.get("text") and not row.get("label"):
        yield "text and label are empty"
    split = row.get("split") or "train"
    if split not in SPLITS:
        yield f"split is {split!r}, not one of {', '.join(SPLITS)}"


def _mistakes_of_place(row: dict[str, str]) -> Iterator[str]:
    """What is wrong with path, start and stop, without a look at the recording."""
    if SURPLUS in row:
        yield "more fields than the header; a text with a comma needs quotes"
    if not row["path"]:
        yield "path is empty"
    times = {"start": 0.0, "stop": math.inf}
    for name in times:
        if not row.get(name):
            continue
        times[name] = _seconds(row[name])
        if not math.isfinite(times[name]):
            yield f"{name} is {row[name]!r}, not a number of seconds"
            return
        if times[name] < 0:
            yield f"{name} is {row[name]}, before the recording begins"
            return
    if times["stop"] <= times["start"]:
        yield f"stop {row['stop']} does not come after start {row.get('start') or 0}"


def _repeated_ids(rows: Rows) -> Iterator[tuple[int, str]]:
    first: dict[str, int] = {}
    for line, row in rows:
        name = row.get("id")
        if name and first.setdefault(name, line) != line:
            yield line, f"id {name!r} is that of line {first[name]} too"


def _divided_clips(rows: Rows) -> Iterator[tuple[int, str]]:
    """Clips in two splits, which would be trained on and tested on."""
    first: dict[tuple, tuple[int, str]] = {}
    for line, row in rows:
        split = row.get("split") or "train"
        times = (str(_seconds(row.get(name))) for name in ("start", "stop"))
        clip = (row["path"], *times)
        begun, other = first.setdefault(clip, (line, split))
        if split != other:
            yield line, f"split is {split!r}, but line {begun} has {other!r}"


def _unreadable(rows: Rows) -> Iterator[tuple[int, str]]:
    """Recordings that cannot be read, and clips that begin after their end."""
    ends = ends_of(row["path"] for _, row in rows)
    missing = math.inf, ""  # which is already a mistake of the row
    for line, row in rows:
        length, problem = ends.get(row["path"], missing)
        if problem:
            yield line, f"{row['path']}: {problem}"
        elif _seconds(row.get("start")) >= length:
            text = f"start {row['start']} comes after the recording's end"
            yield line, f"{text} ({length:g} s)"


def _seconds(text: str | None) -> float:
    """A time in seconds, NaN where there is none or it is no number."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _as_table(rows: list[dict[str, str]], for_test: bool) -> pd.DataFrame:
    """Rows without a mistake, typed."""
    table = pd.DataFrame(rows).fillna("")
    further = [name for name in table if name not in OWN]
    table = table.reindex(columns=[*OWN, *further], fill_value="")
    table["id"] = _filled_ids(table)
    if not for_test:
        table["split"] = table.split.replace("", "train")
        table["label"] = table.label.where(table.text == "", "")
    for name in ("start", "stop"):
        table[name] = list(map(_seconds, table[name]))
    return table


def _filled_ids(table: pd.DataFrame) -> list[str]:
    """The ids given; else the stem, numbered from its second row on."""
    taken, count = set(table.id), Counter[str]()
    ids: list[str] = []
    for given, path in zip(table.id, table.path, strict=True):
        stem = name = Path(path).stem
        while not given and name in taken:
            count[stem] += 1
            name = f"{stem}#{count[stem] + 1}"
        ids.append(given or name)
        taken.add(ids[-1])
    return ids


# --- clips ---------------------------------------------------------------------------


def manifest_splits(
    manifest: str | Path, valid_share: float = 0.2, test_share: float = 0.2
) -> Splits:
    """Read a manifest as three tables of clips, see `clip_splits`."""
    rows = read_manifest(manifest, open_recordings=True)
    try:
        splits = clip_splits(rows, valid_share, test_share)
    except InputError as error:
        raise ManifestError(Path(manifest), [str(error)]) from error
    sizes = ", ".join(f"{len(getattr(splits, name))} {name}" for name in SPLITS)
    logger.info("%s: %s", manifest, sizes)
    return splits


def clip_splits(
    rows: pd.DataFrame, valid_share: float = 0.2, test_share: float = 0.2
) -> Splits:
    """Clips of a manifest's rows, each in one split: `join_rows`, `fill_splits`."""
    return Splits.of(fill_splits(join_rows(rows), valid_share, test_share))


def join_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Join the rows of each clip: those that share path, start and stop.

    A clip's row is its first one with two columns: texts, a tuple of `ClipText`, each
    text and label once; and label, the first label or "".
    """
    columns = rows.reindex(columns=[*CLIP, "text", "label"])
    text = columns.text.fillna("")
    words = map(ClipText, text.where(text != "", columns.label), text == "")
    places = columns[CLIP].astype(str)
    joined: dict[tuple, list[ClipText]] = {}
    for clip, one in zip(places.itertuples(False, None), words, strict=True):
        joined.setdefault(clip, []).append(one)
    clips = rows[~places.duplicated()].reset_index(drop=True)
    kept = [tuple(dict.fromkeys(one)) for one in joined.values()]
    labels = [[p.words for p in one if p.is_label] for one in kept]
    return clips.assign(texts=kept, label=[(x or [""])[0] for x in labels])
