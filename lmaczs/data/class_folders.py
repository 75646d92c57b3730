"""A folder of recordings with a subfolder for each label."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lmaczs.data.lists import SUFFIXES, MissingDataError, recordings_in


def read_class_folders(data_folder: str | Path) -> pd.DataFrame:
    """Rows of the recordings below a folder's subfolders, without splits.

    A subfolder's name is the label, "_" for a space. Columns: id (the path within the
    folder), path (absolute), label, split (empty). Hidden subfolders and recordings
    beside the subfolders are left out; no recording raises `MissingDataError`.
    """
    folder = Path(data_folder).resolve()
    if not folder.is_dir():
        raise MissingDataError(f"--data_folder={data_folder} is no folder")
    inside = [one for one in sorted(folder.iterdir()) if one.is_dir()]
    rows = [
        (str(path.relative_to(folder)), str(path), one.name.replace("_", " "), "")
        for one in inside
        if not one.name.startswith(".")
        for path in recordings_in(one, at_least=0)
    ]
    if not rows:
        raise MissingDataError(
            f"--data_folder={data_folder} has no subfolder with recordings "
            f"({', '.join(SUFFIXES)}): make one for each label, e.g. dog/1.wav"
        )
    return pd.DataFrame(rows, columns=["id", "path", "label", "split"])
