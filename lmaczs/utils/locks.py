"""A folder that one process at a time writes into."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lmaczs.utils.errors import InputError
from lmaczs.utils.files import atomic_folder, sweep

_held: set[int] = set()
"""Handles of the folders that this process holds or waits for."""


@contextlib.contextmanager
def locked(folder: Path, patience: float = 1.0) -> Iterator[None]:
    """Hold a folder, which exists, for this process; the system frees it at its end.

    The folder itself is locked: no file is written. Processes that this one forks, such
    as those that read clips, do not hold it. Systems and network drives that cannot
    lock a folder (Windows) hold nothing. `InputError` if another process still does
    after `patience` seconds: one that was killed, or that was forked just before, may
    take a moment to be gone.
    """
    if os.name == "nt":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    _held.add(handle)
    try:
        until = time.monotonic() + patience
        while not _taken(handle):
            if time.monotonic() >= until:
                raise InputError(
                    f"{folder}: another lmaczs writes into it: wait until it is done, "
                    "or name another folder"
                )
            time.sleep(0.05)
        yield
    finally:
        _held.discard(handle)
        os.close(handle)


@contextlib.contextmanager
def made_and_locked(folder: Path) -> Iterator[None]:
    """Hold a folder as `locked` does; it is made, and removed again if it stays empty.

    One that was there, empty, before stays.
    """
    was_there = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder):
            yield
    finally:
        if not was_there:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def written_alone(dest: Path, check: Callable[[], None]) -> Iterator[Path]:
    """Fill a folder as `atomic_folder` does, while no other process writes it.

    `check` raises if `dest` must not be replaced. It is called at once and again when
    nobody else can have written it any more. What killed processes left is removed.
    """
    dest = Path(os.path.realpath(dest))
    sweep(dest.parent, dest.name)
    check()
    with made_and_locked(dest):
        check()
        with atomic_folder(dest) as part:
            yield part


def _taken(handle: int) -> bool:
    """Whether this process has the folder now, or nobody can lock it."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _let_go() -> None:
    """In a forked process: else it would hold what its parent held before a kill."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
