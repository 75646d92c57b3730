"""Files and folders that exist whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from lmaczs.utils.ending import DISK

UNFINISHED = re.compile(r"\.(.+)\.(\d+)\.lmaczs-(part|old)(\.[^.]*)?")
"""What a process that was killed leaves: name, its number, and what it is."""

FULL = 1 << 20
"""Bytes of a disk, below which it is full."""

UNWRITTEN = (
    *("PytorchStreamWriter", "inline_container.cc", "iostream error"),
    "System error",
)
"""What torch and libsndfile say where a file could not be written."""


@contextlib.contextmanager
def atomic_write(path: str | Path, suffix: str | None = None) -> Iterator[Path]:
    """Write a file under a temporary name beside it, and move it there when done.

    The name ends as `path` does, by which libraries know a format, or in `suffix`.

    Yields the temporary path. If the block raises, it is removed and a file at `path`
    stays as it was. Missing parent folders are made. The content is on the disk before
    the file has its name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix if suffix is None else suffix
    part = path.with_name(f".{path.stem}.{os.getpid()}.lmaczs-part{suffix}")
    try:
        with disk_errors(path.parent):
            yield part
            _to_disk(part)
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(dest: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name, and put it in place of `dest` when done.

    Yields the temporary path. If the block raises, it is removed and a folder at `dest`
    stays as it was. Missing parent folders are made.
    """
    dest = Path(os.path.realpath(dest))
    dest.parent.mkdir(parents=True, exist_ok=True)
    part = dest.with_name(f".{dest.name}.{os.getpid()}.lmaczs-part")
    part.mkdir()
    try:
        yield part
        for path in part.rglob("*"):
            if path.is_file():
                _to_disk(path)
        _take_place(part, dest)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Have errors of a disk name a place on it: raise an `OSError` with a file name.

    torch and libsndfile raise a RuntimeError that names neither.
    """
    try:
        yield
    except OSError as error:
        if error.errno in DISK and error.filename is None:
            error.filename = str(place)
        raise
    except RuntimeError as error:
        if not any(words in str(error) for words in UNWRITTEN):
            raise
        full = shutil.disk_usage(place).free < FULL
        number = errno.ENOSPC if full else errno.EIO
        raise OSError(number, os.strerror(number), str(place)) from error


def _to_disk(path: Path) -> None:
    """Have the system write a file's content out."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _take_place(part: Path, dest: Path) -> None:
    """Move a folder to `dest`; a folder that stands there is restored if that fails."""
    old = dest.with_name(f".{dest.name}.{os.getpid()}.lmaczs-old")
    if dest.exists():
        os.replace(dest, old)
    try:
        os.replace(part, dest)
    except OSError:
        if old.exists():
            os.replace(old, dest)
        raise
    shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left unfinished in a folder, or of one name in it.

    A folder that was about to be replaced gets its name back. What a process that runs
    may still write is left alone.
    """
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        found = UNFINISHED.fullmatch(path.name)
        if found is None or path.is_symlink() or _runs(int(found[2])):
            continue
        if name not in (None, found[1]):
            continue
        if found[3] == "old" and not (folder / found[1]).exists():
            os.replace(path, folder / found[1])
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether there is a process of that number, other than this one."""
    if process == os.getpid():
        return False
    if os.name == "nt":  # where signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # it is another user's
    return not _has_ended(process)


def _has_ended(process: int) -> bool:
    """Whether a process has ended, and has a number only because nobody waited for it.

    In a container without an init process these are all whose parent was killed.
    """
    try:
        state = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:  # not Linux, or it is gone by now
        return False
    return state.rpartition(b")")[2].split()[0] == b"Z"
