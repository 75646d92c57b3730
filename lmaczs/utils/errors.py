"""The base class of every error that a user can cause, and how a recipe reports it."""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from lmaczs.utils.ending import ended_by_sigterm, sentence_of, status_of

Result = TypeVar("Result")


class LmaczsError(Exception):
    """A user's error: one sentence that names the file or option and how to fix it."""


class InputError(LmaczsError, ValueError):
    """A file, an option or an argument that cannot be used as it is."""


class OptionError(LmaczsError, ValueError):
    """An option that a recipe does not have or cannot use: which, and how to fix it."""


class AudioError(LmaczsError, ValueError):
    """A recording that cannot be used: which one, why, and how to fix it."""


class AudioWarning(UserWarning):
    """A recording that was read, and what is doubtful about it."""


def nearest(name: object, names: Iterable[str]) -> str:
    """How a sentence about a mistyped name continues; empty if no name is near.

    Case counts for nothing.
    """
    known = {one.lower(): one for one in names}
    near = difflib.get_close_matches(str(name).lower(), known, n=1)
    return f": did you mean {known[near[0]]!r}?" if near else ""


def run_recipe(
    main: Callable[[list[str]], Result],
    show: Callable[[Result], object] = lambda result: None,
) -> None:
    """Run a recipe on the process's command line, and show what it returns.

    An error that the user can cause (`LmaczsError`, an `OSError` such as a full disk,
    too little memory) ends the process with status 1 and one sentence, and so do the
    keyboard's interrupt and SIGTERM, with status 130 and 143; ``--verbose`` shows the
    traceback instead, and debug messages. Any other error keeps its traceback.

    Parameters
    ----------
    main : callable
        Takes the command line without the program's name and without ``--verbose``.
    show : callable
        Takes what `main` returned.

    Raises
    ------
    LmaczsError
        With ``--verbose``, as any other error.
    """
    argv = [word for word in sys.argv[1:] if word != "--verbose"]
    verbose = len(argv) < len(sys.argv) - 1
    if verbose:
        show_debug_messages()
    # "torchvision is not available - cannot save figures": no figure here needs it
    speechbrain = logging.getLogger("speechbrain.utils.train_logger")
    speechbrain.addFilter(lambda line: "torchvision" not in line.getMessage())
    logging.raiseExceptions = verbose  # else a log on a full disk prints tracebacks
    try:
        with ended_by_sigterm():
            show(main(argv))
    except (Exception, KeyboardInterrupt) as error:
        sentence = _sentence_of(error)
        if verbose or sentence is None:
            raise
        # in one write: another process may print the same sentence at the same time
        sys.stderr.write(f"{Path(sys.argv[0]).name}: {' '.join(sentence.split())}\n")
        sys.exit(status_of(error))


def _sentence_of(error: BaseException) -> str | None:
    """What a user is told of an error that he can cause; None for others."""
    if isinstance(error, (LmaczsError, OSError, KeyboardInterrupt)):
        return sentence_of(error)
    # torch has a class of it for GPUs alone, and is not imported here
    on_gpu = type(error).__name__ == "OutOfMemoryError"
    if on_gpu or isinstance(error, MemoryError) or "can't allocate" in str(error):
        reason = (str(error).strip() or "MemoryError").splitlines()[0]
        return (
            f"memory ran out ({reason}): lower --batch_size or --num_workers, or use "
            "another --device"
        )
    return None


def show_debug_messages() -> None:
    """Print this package's log from level debug on, and others' from level info on."""
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("lmaczs").setLevel(logging.DEBUG)
