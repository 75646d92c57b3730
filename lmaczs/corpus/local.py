"""The engine `local`: processes of this machine, each with its own model.

A process has one block at a time, so that no work piles up. One that is ended loses its
block alone, which another one does again; its temporary files go when all are done.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from lmaczs.corpus.engines import (
    ATTEMPTS,
    Counts,
    Lost,
    MakeWork,
    attempted,
    begun,
    required,
)
from lmaczs.utils.errors import LmaczsError
from lmaczs.utils.processes import Quietly

GRACE = 10
"""Seconds for a process that has nothing to do to end."""

KILLED = "the process at work on it was ended, each time; is there memory enough?"


def run_local(
    blocks: Sequence[int], make: MakeWork, jobs: int
) -> Iterator[Counts | Lost]:
    """Work on blocks in processes of this machine.

    Parameters
    ----------
    blocks : sequence of int
        In the order in which they are begun.
    make : callable
        Can be pickled; each process calls it once.
    jobs : int
        Number of processes.

    Yields
    ------
    Counts or Lost
        Of each block, as they are done.

    Raises
    ------
    LmaczsError
        If a process cannot load its model, or processes are ended again and again
        before any block is done.
    """
    with tempfile.TemporaryDirectory() as temporary:
        yield from _run(deque(blocks), partial(_Worker, make, temporary), jobs)


def _run(
    waiting: deque[int], begin: Callable[[], _Worker], jobs: int
) -> Iterator[Counts | Lost]:
    deaths: Counter[int] = Counter()
    in_a_row = 0  # processes ended since a block was done
    workers = [begin() for _ in range(min(jobs, len(waiting)))]
    try:
        busy: dict[Any, _Worker] = {
            one.connection: one for one in workers if one.take(waiting)
        }
        while busy:
            for ready in wait(list(busy)):
                worker = busy.pop(ready)
                result = worker.result()
                if result is not None:
                    in_a_row = 0
                    yield required(result)
                else:
                    in_a_row += 1
                    _require_life(in_a_row, len(workers))
                    workers.remove(worker)
                    worker.end()
                    deaths[worker.block] += 1
                    if deaths[worker.block] < ATTEMPTS:
                        waiting.appendleft(worker.block)
                    else:
                        yield Lost(worker.block, KILLED)
                    if not waiting:
                        continue
                    worker = begin()
                    workers.append(worker)
                if worker.take(waiting):
                    busy[worker.connection] = worker
    finally:
        for worker in workers:
            worker.end()


def _require_life(in_a_row: int, workers: int) -> None:
    if in_a_row > ATTEMPTS * workers:
        raise LmaczsError(
            f"{in_a_row} processes in a row were ended before any block was done: is "
            "there memory enough? Fewer --jobs need less"
        )


class _Worker:
    """A process and the block that it has."""

    def __init__(self, make: MakeWork, temporary: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.block, self._busy = -1, False
        self._process = context.Process(
            target=Quietly(_serve, make, temporary), args=(theirs,), daemon=True
        )
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def take(self, waiting: deque[int]) -> bool:
        """Give it the next block, if there is one."""
        if not waiting:
            return False
        self.block, self._busy = waiting.popleft(), True
        with contextlib.suppress(OSError):  # it was ended, which `result` finds
            self.connection.send(self.block)
        return True

    def result(self) -> Counts | Lost | None:
        """What came of its block, or why it has no model; None if it was ended."""
        try:
            found: Counts | Lost = self.connection.recv()
            self._busy = False
            return found
        except (EOFError, OSError):
            return None

    def end(self) -> None:
        """End the process: of itself, where it has no block."""
        self.connection.close()
        self._process.join(0 if self._busy else GRACE)
        self._process.kill()
        self._process.join()


def _serve(make: MakeWork, temporary: str, connection: Connection) -> None:
    """Work on blocks as they come; for the process that has the other end."""
    import torch

    tempfile.tempdir = temporary
    # sums are rounded otherwise by several, and rows would depend on the machine
    torch.set_num_threads(1)
    work = begun(make)
    if isinstance(work, Lost):
        connection.send(work)
        return
    with contextlib.suppress(EOFError, OSError):  # the other process was ended
        while True:
            connection.send(attempted(work, connection.recv()))
