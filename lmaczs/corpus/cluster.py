"""The engine `ray`: Ray Data, whose actors hold a model each, on one machine or many.

An actor that is lost, or the machine that it was on, is replaced by Ray, which gives
its blocks to another; blocks that are done twice are the same twice. Ray would do so
for ever with a block that ends each actor, and therefore attempts are counted.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
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
from lmaczs.utils.errors import InputError
from lmaczs.utils.extras import require_packages

logger = logging.getLogger(__name__)

TASKS = 2000
"""At most, unless there are many actors: Ray takes ten milliseconds for each."""

TASKS_OF_ACTOR = 20
"""So many, that at the end none waits long for another."""

SECONDS = 10
"""Until a cluster has to answer."""

NO_GPU = (
    "Ray has no GPU: the actors wait until a machine with one joins; give --device cpu "
    "if none will"
)

KILLED = "the actor at work on it was ended, each time; is there memory enough?"


def require_ray(address: str | None = None) -> None:
    """Import Ray Data, or raise `MissingExtraError`; and find a cluster at an address.

    `InputError` if none answers; Ray itself would try for minutes.
    """
    require_packages(["ray.data"], "ray")
    host, _, port = (address or "").rpartition(":")
    if not port.isdecimal() or "//" in host:  # auto, or of another protocol
        return
    try:
        socket.create_connection((host, int(port)), SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--address {address}: no cluster answers there; give what `ray start "
            "--head` printed"
        ) from error


class Attempts:
    """Counts the attempts at each block that is begun. It is an actor, one for all."""

    def __init__(self) -> None:
        self._begun = Counter[int]()

    def begin(self, block: int) -> int:
        """Number of an attempt at a block, from 1 on."""
        self._begun[block] += 1
        return self._begun[block]

    def end(self, block: int) -> None:
        """The actor that had a block outlived it."""
        del self._begun[block]


class BlockActor:
    """Works on blocks that Ray Data hands it. It is made once in each actor.

    Parameters
    ----------
    make : callable
        Loads the model.
    attempts : handle of `Attempts`, optional
        Without one, an attempt that ends the actor counts for nothing.
    """

    def __init__(self, make: MakeWork, attempts: Any = None) -> None:
        import torch

        torch.set_num_threads(1)  # see lmaczs.corpus.local
        self.work, self.attempts = begun(make), attempts

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """What came of the blocks of a batch, as JSON."""
        results = [self._result(int(block)) for block in batch["block"]]
        named = [[type(one).__name__, asdict(one)] for one in results]
        return {"result": list(map(json.dumps, named))}

    def _result(self, block: int) -> Counts | Lost:
        if isinstance(self.work, Lost):
            return self.work
        if self.attempts is None:
            return attempted(self.work, block)
        import ray

        if ray.get(self.attempts.begin.remote(block)) > ATTEMPTS:
            return Lost(block, KILLED)
        result = attempted(self.work, block)
        self.attempts.end.remote(block)
        return result


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
        if waits_for_gpus(ray.cluster_resources(), gpus):
            logger.warning(NO_GPU)
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        data = ray.data.from_items(
            [{"block": block} for block in blocks],
            override_num_blocks=min(len(blocks), max(TASKS, TASKS_OF_ACTOR * jobs)),
        )
        found = data.map_batches(
            BlockActor,
            fn_constructor_args=(make, _attempts(ray)),
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


def waits_for_gpus(resources: Mapping[str, float], gpus: float) -> bool:
    """Whether a cluster of some resources has no actor begin yet: it may still grow."""
    return resources.get("GPU", 0) < gpus


def _attempts(ray: Any) -> Any:
    """Start the count of attempts, on this machine: it must not be lost with others."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # not soft: a machine without free processors, as heads of clusters may be, would
    # be passed over, however few the count needs
    node = ray.get_runtime_context().get_node_id()
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    options = {"num_cpus": 0, "scheduling_strategy": here}
    return ray.remote(Attempts).options(**options).remote()


def _begin(ray: Any, address: str | None, jobs: int) -> None:
    """Connect to a cluster, or start one on this machine that has room for the jobs."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    options: dict[str, Any] = {"address": address}
    if address is None:  # without "local" Ray takes any cluster that it finds here
        options = {
            "address": "local",
            "num_cpus": jobs + 1,
            "include_dashboard": False,
        }
    ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
