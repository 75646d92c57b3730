"""Processes that train one decoder together, started by torchrun.

Without torchrun, nothing here has an effect. Random draws are made for each clip, and
the loss is a mean over clips: equal parts of a batch have the gradient of the whole,
so the number of processes does not change the result.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
from speechbrain.utils.run_opts import RunOptions
from torch import Tensor
from torch import distributed as dist
from torch.utils.data import Sampler

from lmaczs.utils.errors import InputError, LmaczsError

logger = logging.getLogger(__name__)

T = TypeVar("T")
TIMEOUT = "LMACZS_GROUP_TIMEOUT"  # environment variable: seconds
DEFAULT_TIMEOUT = 1800  # a data set may be downloaded while the others wait


class TrainingError(LmaczsError, RuntimeError):
    """A training that cannot continue: the reason, and the fix."""


def join_group(run_opts: RunOptions) -> RunOptions:
    """Join the process group of a run that torchrun started.

    SpeechBrain's ``ddp_init_group`` waits two hours for a process that has ended; this
    waits half an hour, or LMACZS_GROUP_TIMEOUT seconds (environment).

    Parameters
    ----------
    run_opts : RunOptions
        From the command line. The default backend is NCCL on GPUs, gloo on CPUs.

    Returns
    -------
    RunOptions
        For the Brain: with backend and device filled in.

    Raises
    ------
    InputError
        If this machine has fewer GPUs than processes.
    """
    if "RANK" not in os.environ or "LOCAL_RANK" not in os.environ:
        return run_opts
    run_opts = fill_device_and_backend(run_opts, int(os.environ["LOCAL_RANK"]))
    seconds = float(os.environ.get(TIMEOUT, DEFAULT_TIMEOUT))
    backend = run_opts.distributed_backend
    if dist.is_initialized():
        return run_opts
    if backend == "nccl":
        device = torch.device(run_opts.device)
        if device.index >= torch.cuda.device_count():
            raise InputError(
                f"no GPU is left for process {device.index} of this machine, which "
                f"has {torch.cuda.device_count()}: give torchrun a smaller "
                "--nproc_per_node, or --device=cpu"
            )
        torch.cuda.set_device(device)
    dist.init_process_group(backend, timeout=timedelta(seconds=seconds))
    return run_opts


def fill_device_and_backend(run_opts: RunOptions, local_rank: int) -> RunOptions:
    """Fill in backend and device of a process; ``cuda`` becomes its own GPU."""
    device, backend = run_opts.device, run_opts.distributed_backend
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{local_rank}"
    if "distributed_backend" not in run_opts.overridden_args:
        backend = "nccl" if device.startswith("cuda") else "gloo"
    given = {*run_opts.overridden_args, "device", "distributed_backend"}
    return replace(
        run_opts, device=device, distributed_backend=backend, overridden_args=given
    )


def leave_group() -> None:
    """End all processes together: one that still waits for another would be aborted."""
    if dist.is_initialized():
        gc.collect()  # a wrapped module keeps the connections open
        dist.barrier()
        dist.destroy_process_group()


def run_together(program: Callable[[Sequence[str]], T], argv: Sequence[str]) -> T:
    """Run a program on a command line; its process group begins and ends together.

    Errors of the program are raised after a log line that names the process.
    """
    try:
        result = program(argv)
        leave_group()
    except Exception as error:
        if dist.is_initialized():
            logger.error(
                "Process %d of %d ends: %s: %s. A run ends with the first of its "
                "processes; the same command resumes from the last checkpoint.",
                dist.get_rank(),
                dist.get_world_size(),
                type(error).__name__,
                error,
            )
        raise
    return result


def gather(value: T) -> list[T]:
    """Values of all processes by rank; a value must be picklable and on the CPU."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Rows of all processes by rank, and the place of this process's first one.

    Every process has as many. No gradient flows to the rows of other processes.
    """
    if not dist.is_initialized():
        return rows, 0
    parts = gather(rows.detach().cpu())
    rank = dist.get_rank()
    return torch.cat(parts).to(rows.device), rank * len(rows)


def rank_indices(size: int) -> range:
    """Indices of this process's part of `size` clips, disjoint from the other parts.

    torch's DistributedSampler would repeat some to make all parts equally long.
    """
    if not dist.is_initialized():
        return range(size)
    return range(dist.get_rank(), size, dist.get_world_size())


class DistributedBatchSampler(Sampler[list[int]]):
    """Equal parts of each batch: this process's indices.

    `order` has the indices in the order of a single process. An incomplete last batch
    is left out: unequal parts would have unequal weights. Raises InputError if the
    processes cannot share `batch_size`, that of the whole batch, equally.
    """

    def __init__(self, order: Iterable[int], batch_size: int) -> None:
        world = dist.get_world_size()
        if batch_size % world:
            raise InputError(
                f"batch_size is {batch_size}, which {world} processes cannot share "
                "equally: it is that of all of them together"
            )
        self.order, self.batch_size = order, batch_size

    def __len__(self) -> int:
        return len(self.order) // self.batch_size  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[int]]:
        indices, part = list(self.order), rank_indices(self.batch_size)
        for number in range(len(self)):
            start = number * self.batch_size
            yield [indices[start + index] for index in part]

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(epoch)


def means_over_clips(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Mean of every value [clips] over all processes, however the clips were divided.

    A process that had no clip may have an empty mapping.
    """
    names = dict.fromkeys(name for part in parts for name in part)
    found = {name: [p[name] for p in parts if name in p] for name in names}
    return {name: float(torch.cat(v).double().mean()) for name, v in found.items()}
