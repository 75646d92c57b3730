"""Processes of a command that Ctrl-C ends at once and in silence."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable
from typing import Any


class Quietly:
    """A call in a new process, of which SIGINT, which all processes get, is the end.

    The function and its arguments are unpickled, for which packages are imported, when
    that is settled: else Python prints what it was importing.

    Parameters
    ----------
    function : callable
        Can be pickled, as all arguments can.
    *args : Any
        Those of a call come behind them.
    """

    def __init__(self, function: Callable[..., object], *args: Any) -> None:
        self._call = pickle.dumps((function, args))

    def __call__(self, *more: Any) -> None:
        """Call the function; what it leaves half-written is swept later on."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        function, args = pickle.loads(self._call)
        function(*args, *more)
