"""To be imported before all else by a program: Ctrl-C in its imports ends it in a line.

Imports of torch and SpeechBrain take seconds, in which Python would print a traceback
of a module that it was reading. Nothing else changes: an interrupt is raised as ever.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path


def _interrupt(*_: object) -> None:
    # whatever comes of it: a module that is half imported may raise another error
    sys.excepthook = _show
    raise KeyboardInterrupt


def _show(*error: object) -> None:
    if "--verbose" in sys.argv:
        sys.__excepthook__(*error)  # type: ignore[arg-type]
        return
    sys.stderr.write(f"{Path(sys.argv[0]).name}: stopped by SIGINT\n")


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupt)
