"""A folder that one process at a time writes into."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from lmaczs.utils.errors import InputError


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which exists, for this process; the system frees it at its end.

    The folder itself is locked: no file is written. Systems and network drives that
    cannot lock a folder (Windows) hold nothing. `InputError` if another process does.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise InputError(
                    f"{folder}: another lmaczs writes into it: wait until it is done, "
                    "or name another folder"
                ) from error
        yield
    finally:
        os.close(handle)
