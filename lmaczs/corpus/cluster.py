"""The engine `ray`: Ray Data, whose actors hold a model each, on one machine or many.

An actor that is lost, or the machine that it was on, is replaced by Ray, which gives
its blocks to another; blocks that are done twice are the same twice.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from lmaczs.corpus.engines import (
    Counts,
    Lost,
    MakeWork,
    attempted,
    begun,
    required,
)
from lmaczs.utils.extras import require_packages

TASKS = 2000
"""At most, unless there are many actors: Ray takes ten milliseconds for each."""

TASKS_OF_ACTOR = 20
"""So many, that at the end none waits long for another."""


def require_ray() -> None:
    """Import Ray Data, or raise `MissingExtraError`."""
    require_packages(["ray.data"], "ray")


class BlockActor:
    """Works on blocks that Ray Data hands it. It is made once in each actor.

    Parameters
    ----------
    make : callable
        Loads the model.
    """

    def __init__(self, make: MakeWork) -> None:
        import torch

        torch.set_num_threads(1)  # see lmaczs.corpus.local
        self.work = begun(make)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """What came of the blocks of a batch, as JSON."""
        results = [self._result(int(block)) for block in batch["block"]]
        named = [[type(one).__name__, asdict(one)] for one in results]
        return {"result": list(map(json.dumps, named))}

    def _result(self, block: int) -> Counts | Lost:
        if isinstance(self.work, Lost):
            return self.work
        return attempted(self.work, block)


def result_of(text: str) -> Counts | Lost:
    """What an actor said of a block."""
    kind, values = json.loads(text)
    return {"Counts": Counts, "Lost": Lost}[kind](**values)


def run_ray(
    blocks: Sequence[int],
    make: MakeWork,
    jobs: int,
    address: str | None = None,
    gpus: float = 0,
) -> Iterator[Counts | Lost]:
    """Work on blocks by Ray Data.

    Parameters
    ----------
    blocks : sequence of int
        Numbers in the plan.
    make : callable
        Can be pickled; each actor calls it once.
    jobs : int
        Number of actors.
    address : str, optional
        Of a cluster, whose machines reach corpus and recordings by the same places;
        default: this machine.
    gpus : float
        That each actor takes, besides a processor.

    Yields
    ------
    Counts or Lost
        Of each block, as they are done.

    Raises
    ------
    LmaczsError
        If an actor cannot load its model.
    """
    import ray

    ours = not ray.is_initialized()
    if ours:
        _begin(ray, address, jobs)
    try:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        data = ray.data.from_items(
            [{"block": block} for block in blocks],
            override_num_blocks=min(len(blocks), max(TASKS, TASKS_OF_ACTOR * jobs)),
        )
        found = data.map_batches(
            BlockActor,
            fn_constructor_args=(make,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(jobs, len(blocks))),
            num_cpus=1,
            num_gpus=gpus,
        )
        for row in found.iter_rows():
            yield required(result_of(row["result"]))
    finally:
        if ours:
            ray.shutdown()


def _begin(ray: Any, address: str | None, jobs: int) -> None:
    """Connect to a cluster, or start one on this machine that has room for the jobs."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    options: dict[str, Any] = {"address": address}
    if address is None:
        options = {"num_cpus": jobs + 1, "include_dashboard": False}
    ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
