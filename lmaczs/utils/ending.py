"""How a program ends that a signal or a disk stops: in one sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterator

DISK = {
    errno.ENOSPC: "make room, then give the same line again",
    errno.EDQUOT: "make room, then give the same line again",
    errno.EROFS: "name a folder on a disk that can be written",
    errno.EIO: "look at the disk, then give the same line again",
    errno.EFBIG: "name a folder on a disk that takes larger files",
}
"""Errors of a disk, not of what is on it, and how to fix them."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which batch systems and containers end a process."""


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Raise `Terminated` where SIGTERM arrives: what is half-done is cleared away."""

    def end(*_: object) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # it is not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def status_of(error: BaseException) -> int:
    """Exit status of a program that an error ends: as a shell has it for signals."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + _signal_of(error)
    return 1


def sentence_of(error: BaseException) -> str:
    """What is printed of an error that ends a program: one line."""
    if isinstance(error, KeyboardInterrupt):
        name = _signal_of(error).name
        return f"stopped by {name}; the same line resumes from what is saved"
    if isinstance(error, OSError) and error.errno in DISK:
        place = error.filename or "output"
        return f"{place}: {os.strerror(error.errno)}; {DISK[error.errno]}"
    return " ".join(str(error).split()) or type(error).__name__


def _signal_of(error: KeyboardInterrupt) -> signal.Signals:
    return signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
