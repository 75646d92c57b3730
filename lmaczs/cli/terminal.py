"""What a command prints: results on stdout, notes and errors on stderr."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lmaczs.utils.ending import sentence_of
from lmaczs.utils.errors import AudioWarning, LmaczsError

logger = logging.getLogger(__name__)

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal obeys, but for tabs and new lines."""


class CommandError(LmaczsError):
    """A command line that cannot be run: the option, the reason and the fix."""


def shown(text: str) -> str:
    """Text as a terminal shows it: a file's name may hold what moves its cursor."""
    return CONTROLS.sub(lambda one: one[0].encode("unicode_escape").decode(), text)


def say(text: str) -> None:
    """Print a line of the result."""
    print(shown(text), flush=True)


def note(message: str) -> None:
    """Print what is no error."""
    print(f"lmaczs: note: {shown(message)}", file=sys.stderr, flush=True)


def complain(message: str, trace: str | None = None) -> None:
    """Print an error; its traceback is a message for debugging."""
    print(f"lmaczs: {shown(message)}", file=sys.stderr, flush=True)
    if trace is not None:
        logger.debug("%s", trace)


@contextlib.contextmanager
def audio_warnings_to(take: Callable[[str], object]) -> Iterator[None]:
    """Hand what is doubtful about recordings to a function; show other warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", AudioWarning)
        show = warnings.showwarning

        def handed(
            message: Warning | str, category: type[Warning], *where: Any, **how: Any
        ) -> None:
            if issubclass(category, AudioWarning):
                take(str(message))
            else:
                show(message, category, *where, **how)

        warnings.showwarning = handed
        yield


def one_line(error: Exception, path: Path | None = None) -> str:
    """Error message on one line, preceded by the file unless it names it."""
    text = sentence_of(error)
    if path is None or text.startswith(f"{path}:"):
        return text
    kind = "" if isinstance(error, LmaczsError) else f"{type(error).__name__}: "
    return f"{path}: {kind}{text}"
