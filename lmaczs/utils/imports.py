"""Importing large packages without the garbage collector in between."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused(keep: bool = False) -> Iterator[None]:
    """Pause the garbage collector while modules are imported, or a model is loaded.

    torch, transformers and SpeechBrain make half a million objects, and all of them
    stay: looking through them again and again takes a fifth of the time.

    Parameters
    ----------
    keep : bool
        Whether what is there at the end is never looked through, not even when the
        process ends (`gc.freeze`): for processes of our own.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if keep:
            gc.freeze()
        if enabled:
            gc.enable()
