"""Files of a folder that a stranger may have made, before anything opens them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from lmaczs.utils.errors import InputError


def require_plain(folder: str | Path, name: str, most_bytes: int | None = None) -> Path:
    """Path of a regular file in a folder that may be opened.

    A pipe or a device would block or never end, and a link may lead to any file of this
    machine. Links within the folder are followed; in the Hub's cache, within the
    repository.

    Parameters
    ----------
    folder : str or Path
        The folder.
    name : str
        The file's name in it.
    most_bytes : int, optional
        Largest size.

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If it is no regular file, lies elsewhere or is larger.
    """
    path = Path(folder) / name
    root = _root(Path(folder).resolve())
    if not Path(os.path.realpath(path)).is_relative_to(root):
        raise InputError(
            f"{path} is a link out of {root}, and is not followed: copy the file there"
        )
    try:
        found = path.stat()
    except FileNotFoundError:
        raise
    except OSError as error:  # links in a circle
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is no regular file: put the model's own there")
    if most_bytes is not None and found.st_size > most_bytes:
        raise InputError(
            f"{path} has {found.st_size} bytes, and a model's has at most "
            f"{most_bytes}: put the model's own there"
        )
    return path


def read_plain(folder: str | Path, name: str, most_bytes: int) -> str:
    """Text of a file, see `require_plain`; InputError if it is not UTF-8."""
    path = require_plain(folder, name, most_bytes)
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: put the model's own there") from (
            error
        )


def read_plain_json(folder: str | Path, name: str, most_bytes: int) -> dict[str, Any]:
    """Mapping in a JSON file, see `require_plain`; InputError for anything else."""
    text = read_plain(folder, name, most_bytes)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{Path(folder) / name} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{Path(folder) / name} is damaged: it holds no mapping")
    return values


def _root(folder: Path) -> Path:
    """Where a folder's files may lie: in it, or in its repository of the Hub's cache.

    There, snapshots/COMMIT/ holds links to blobs/.
    """
    for parent in folder.parents:
        if parent.name == "snapshots" and (parent.parent / "blobs").is_dir():
            return parent.parent
    return folder
