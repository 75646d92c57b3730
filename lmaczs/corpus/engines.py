"""What comes of a block by any engine, and the attempts that it is given."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from lmaczs.utils.errors import LmaczsError

ALL = -1
"""Block of a `Lost` that is about all of them."""

ATTEMPTS = 3
"""That a block is given, and a worker that is ended at its first block."""


@dataclass(frozen=True)
class Counts:
    """What came of a block: numbers of its clips, and of what they have.

    `first_failure` is a sentence, empty if there is no failure.
    """

    block: int
    clips: int
    failures: int
    events: int
    kept: int
    first_failure: str = ""


Work = Callable[[int], Counts]
"""Makes and writes a block."""

MakeWork = Callable[[], Work]
"""Makes it in a process of its own: it loads the model."""


@dataclass(frozen=True)
class Lost:
    """A block that could not be done, and why."""

    block: int
    reason: str
    trace: str = ""


class AllLost(LmaczsError):
    """An error after which no block can be done."""


def attempted(work: Work, block: int) -> Counts | Lost:
    """Work on a block, again where it fails: a store may fail for a while."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work(block)
        except AllLost as error:
            return Lost(ALL, _reason(error), traceback.format_exc())
        except Exception as error:  # whatever it is, the other blocks are done
            if attempt == ATTEMPTS:
                return Lost(block, _reason(error), traceback.format_exc())
    raise AssertionError("a block has attempts")


def begun(make: MakeWork) -> Work | Lost:
    """Make what works on blocks; why that cannot be is a `Lost` of block `ALL`."""
    try:
        return make()
    except Exception as error:  # as any package may raise
        return Lost(ALL, _reason(error), traceback.format_exc())


def required(result: Counts | Lost) -> Counts | Lost:
    """What came of a block; `LmaczsError` if none can be done."""
    if result.block == ALL and isinstance(result, Lost):
        raise LmaczsError(result.reason)
    return result


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, LmaczsError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
