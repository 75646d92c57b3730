"""A table that grows on disk, so that what has been computed is not computed again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lmaczs.utils.files import atomic_write


class KeptTable:
    """Rows of a CSV that were made under stated settings.

    Parameters
    ----------
    path : Path
        The CSV. Beside it stands ``<stem>.json`` with the settings.
    settings : mapping
        What the rows depend on, as JSON can hold it; None: nothing yet.

    Attributes
    ----------
    rows : DataFrame
        What there is; empty at first.

    Raises
    ------
    ValueError
        If there are rows that were made under other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.rows = pd.DataFrame()
        note = self.path.with_suffix(".json")
        wanted = json.loads(json.dumps(settings))
        if self.path.exists():
            found = json.loads(note.read_text()) if note.exists() else {}
            _require_same(found, wanted)
            # an id may be "007" or "NA"
            text = {"id": str, "other": str}
            options = {"keep_default_na": False, "na_values": [""]}
            self.rows = pd.read_csv(self.path, dtype=text, **options)
            wanted = {k: found[k] if v is None else v for k, v in wanted.items()}
            if wanted == found:
                return
        with atomic_write(note) as part:
            part.write_text(json.dumps(wanted, indent=1) + "\n")

    def has(self, **values: Any) -> bool:
        """Whether there are rows with these values.

        Parameters
        ----------
        **values : Any
            Of columns.

        Returns
        -------
        bool
        """
        if self.rows.empty:
            return False
        found = pd.Series(True, index=self.rows.index)
        for column, value in values.items():
            found &= self.rows[column] == value
        return bool(found.any())

    def add(self, rows: pd.DataFrame) -> None:
        """Add rows and write the file, whole.

        Parameters
        ----------
        rows : DataFrame
            With the columns of those that there are.
        """
        parts = [self.rows, rows] if len(self.rows) else [rows]
        self.rows = pd.concat(parts, ignore_index=True)
        with atomic_write(self.path) as part:
            self.rows.to_csv(part, index=False)


def _require_same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    names = sorted(set(found) | set(wanted))
    other = [n for n in names if not _agree(n, found, wanted)]
    if other:
        raise ValueError(
            f"output_folder holds figures for another setting of {other[0]} "
            f"({found.get(other[0])}, now {wanted.get(other[0])}): choose another "
            "output_folder, or remove that one"
        )


def _agree(name: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    if name not in found or name not in wanted:
        return False
    return found[name] == wanted[name] or None in (found[name], wanted[name])
