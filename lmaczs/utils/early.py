"""To be imported before all else by a program: what has to be settled before imports.

Those of torch and SpeechBrain take seconds, in which Python would print a traceback of
a module that it was reading: Ctrl-C ends them in one line. An interrupt is raised as
ever. Where nobody looks, transformers shows no progress of a model that it loads.
"""

from __future__ import annotations

import os
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


if not sys.stderr.isatty():  # transformers reads it when it is imported
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupt)
