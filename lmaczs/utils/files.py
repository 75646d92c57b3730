"""Files that exist whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Write a file under a temporary name beside it, and move it there when it is done.

    Parameters
    ----------
    path : str | Path
        The file that is to exist; missing parent folders are made.

    Yields
    ------
    Path
        The temporary name to write to. If the block raises, it is removed and whatever
        stood at ``path`` stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
