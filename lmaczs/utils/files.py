"""Files and folders that exist whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write a file under a temporary name beside it, and move it there when done.

    Yields the temporary path. If the block raises, it is removed and a file at `path`
    stays as it was. Missing parent folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(dest: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name, and put it in place of `dest` when done.

    Yields the temporary path. If the block raises, it is removed and a folder at `dest`
    stays as it was. Missing parent folders are made.
    """
    dest = dest.resolve()
    dest.parent.mkdir(parents=True, exist_ok=True)
    part = dest.with_name(f".{dest.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        yield part
        _take_place(part, dest)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _take_place(part: Path, dest: Path) -> None:
    """Move a folder to `dest`; a folder that stands there is restored if that fails."""
    old = part.with_suffix(".old")
    if dest.exists():
        os.replace(dest, old)
    try:
        os.replace(part, dest)
    except OSError:
        if old.exists():
            os.replace(old, dest)
        raise
    shutil.rmtree(old, ignore_errors=True)
