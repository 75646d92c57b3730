"""Recordings one after another, or by several processes; one that fails stops none."""

from __future__ import annotations

import argparse
import multiprocessing
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmaczs.cli.terminal import audio_warnings_to, one_line
from lmaczs.utils.errors import LmaczsError
from lmaczs.utils.imports import collector_paused
from lmaczs.utils.processes import Quietly

if TYPE_CHECKING:
    from lmaczs.interpreter import ZeroShotInterpreter
    from lmaczs.report.html import PageEntry, PageOverview

MOST_DIGITS = 9
"""Of the value of an option that counts."""

# Errors after which the next file is tried: it may be readable, or shorter.
FILE_ERRORS = (LmaczsError, OSError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class Outcome:
    """What came of a recording."""

    line: str = ""
    """For people, after the file's name."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """For programs."""
    entries: Sequence[PageEntry | PageOverview] = ()
    """For the page."""
    notes: list[str] = field(default_factory=list)
    """What is doubtful, or was done otherwise."""


@dataclass(frozen=True)
class Failure:
    """Why nothing came of a recording: a sentence, the traceback, and an errno."""

    sentence: str
    trace: str = ""
    number: int | None = None


Task = Callable[["ZeroShotInterpreter", Path], Outcome]
Loader = Callable[[], "ZeroShotInterpreter"]


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add --jobs."""
    text = "processes, each with its own model (default: %(default)s)"
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help=text)


def positive(value: str) -> int:
    """Whole number from 1 on, as the type of an option."""
    if not (value.isascii() and value.isdecimal() and value.strip("0")):
        raise argparse.ArgumentTypeError(f"{value!r} is not 1 or more")
    if len(value) > MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"it has more than {MOST_DIGITS} digits")
    return int(value)


def each(
    paths: Iterable[Path],
    task: Task,
    interpreter: ZeroShotInterpreter,
    load: Loader,
    jobs: int = 1,
) -> Iterator[tuple[Path, Outcome | Failure]]:
    """Yield what comes of every recording, in order.

    With more than one job, processes `load` a model each; they take tasks that can be
    pickled.
    """
    paths = list(paths)
    if min(jobs, len(paths)) > 1:
        yield from _in_processes(paths, task, load, min(jobs, len(paths)))
        return
    for path in paths:
        yield path, _attempt(task, interpreter, path)


def _attempt(task: Task, interpreter: ZeroShotInterpreter, path: Path) -> Any:
    notes: list[str] = []
    try:
        with audio_warnings_to(notes.append):
            outcome = task(interpreter, path)
        return replace(outcome, notes=[*dict.fromkeys([*outcome.notes, *notes])])
    except FILE_ERRORS as error:
        number = getattr(error, "errno", None)
        return Failure(one_line(error, path), traceback.format_exc(), number)


_of_process: dict[str, Any] = {}
"""Task and model of a process that works for `each`."""


def _begin(task: Task, load: Loader, threads: int) -> None:
    with collector_paused(keep=True):
        import torch

        torch.set_num_threads(threads)
        _of_process.update(task=task, interpreter=load())


def _attempt_in_process(path: Path) -> Any:
    return _attempt(path=path, **_of_process)


KILLED = "a process was ended while it was at work on it; is there memory enough?"


def _in_processes(
    paths: list[Path], task: Task, load: Loader, jobs: int
) -> Iterator[tuple[Path, Outcome | Failure]]:
    """As `each`; where a process is ended, files are tried one by one to find which."""
    left, together = deque(paths), jobs
    while left:
        waiting: deque[tuple[Path, Future[Any]]] = deque()
        pool = _pool(task, load, together)
        try:
            while left or waiting:
                while left and len(waiting) < (2 * together if together > 1 else 1):
                    future = pool.submit(_attempt_in_process, left[0])
                    waiting.append((left.popleft(), future))
                result = waiting[0][1].result()
                yield waiting.popleft()[0], result
        except BrokenProcessPool:
            left.extendleft(path for path, _ in reversed(waiting))
            if together == 1:
                path = left.popleft()
                yield path, Failure(f"{path}: {KILLED}")
            together = jobs if together == 1 else 1
        finally:
            pool.shutdown(cancel_futures=True)


def _pool(task: Task, load: Loader, jobs: int) -> ProcessPoolExecutor:
    import torch

    threads = max(1, torch.get_num_threads() // jobs)
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, context, Quietly(_begin, task, load, threads))
