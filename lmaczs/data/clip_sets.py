"""Clips without labels or splits: of a folder, a manifest, or a part of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lmaczs.data.build import read_rows
from lmaczs.data.lists import recordings_in
from lmaczs.data.manifest import CLIP, read_manifest
from lmaczs.utils.errors import InputError


def clips_of(place: str | Path | Mapping[str, Any]) -> pd.DataFrame:
    """Clips that a place names, each once.

    Parameters
    ----------
    place : str, Path or mapping
        A folder: all recordings below it. A CSV: the clips of a manifest. A mapping:
        options of `read_rows`, and `part`, a split of its clips; e.g.
        ``{data_folder: ESC50, dataset: esc50, part: test}``.

    Returns
    -------
    DataFrame
        path; start and stop where clips are cut from recordings.

    Raises
    ------
    InputError
        If there is no clip.
    """
    if isinstance(place, Mapping):
        options = dict(place)
        part = options.pop("part", None)
        rows = read_rows(**options)
        if part is not None:
            rows = rows[rows.split == part]
        if rows.empty:
            raise InputError(f"{options} has no clip of part {part}")
    elif Path(place).suffix == ".csv":
        rows = read_manifest(place)
    else:
        rows = pd.DataFrame({"path": [str(path) for path in recordings_in(place)]})
    columns = [name for name in CLIP if name in rows]
    return rows[columns].drop_duplicates().reset_index(drop=True)
