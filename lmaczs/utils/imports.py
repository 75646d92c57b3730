"""Importing large packages without the garbage collector, and without some of them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


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


@contextmanager
def deferred(module: str, name: str) -> Iterator[None]:
    """Let packages that are imported meanwhile take a name of a module without it.

    The module is imported when an attribute of what it names is used, or when anything
    else of it is asked for; a function or a class to be called does not do. Nothing is
    done where the module has been imported.

    Parameters
    ----------
    module : str
        Its full name.
    name : str
        What is taken of it.
    """
    if module in sys.modules:
        yield
        return
    stand_in = _StandIn(module)
    setattr(stand_in, name, _Named(module, name))
    sys.modules[module] = stand_in
    try:
        yield
    finally:
        _clear(module)


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of the import itself
            raise AttributeError(name)
        _clear(self.__name__)
        return getattr(import_module(self.__name__), name)


class _Named:
    def __init__(self, module: str, name: str) -> None:
        self._place = module, name

    def __getattr__(self, attribute: str) -> Any:
        module, name = self._place
        _clear(module)
        return getattr(getattr(import_module(module), name), attribute)


def _clear(module: str) -> None:
    """Let the next import of a module find it."""
    if isinstance(sys.modules.get(module), _StandIn):
        del sys.modules[module]
