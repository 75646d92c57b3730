"""How processes meet, share the work and part."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from speechbrain.dataio.sampler import ReproducibleRandomSampler
from speechbrain.utils.run_opts import RunOptions
from torch import distributed as dist

from lmaczs.training import distributed
from lmaczs.training.distributed import (
    DistributedBatchSampler,
    fill_device_and_backend,
    gather,
    gather_rows,
    join_group,
    means_over_clips,
    rank_indices,
    run_together,
)

ROOT = Path(__file__).parents[3]
FAILING = """
import os, signal, sys, time
from pathlib import Path
import torch
from speechbrain.utils.run_opts import RunOptions
from lmaczs.training.distributed import (
    gather, gather_rows, join_group, run_together
)

def program(argv):
    how, here = argv
    rank = int(os.environ["RANK"])
    Path(here, str(rank)).touch()
    while not Path(here, str(1 - rank)).exists():  # one may start later than its limit
        time.sleep(0.01)
    join_group(RunOptions(device="cpu"))
    assert gather(os.environ["RANK"]) == ["0", "1"]
    rows, first = gather_rows(torch.full((2, 3), float(rank)))
    assert rows[:, 0].tolist() == [0, 0, 1, 1]
    assert first == 2 * rank
    if rank == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
    gather(None)

run_together(program, sys.argv[1:])
"""

AsRank = Callable[[int, int], None]


@pytest.fixture
def as_rank(monkeypatch: pytest.MonkeyPatch) -> AsRank:
    """Function that makes this process pass for one of several."""

    def pretend(rank: int, world: int) -> None:
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_rank", lambda: rank)
        monkeypatch.setattr(dist, "get_world_size", lambda: world)

    return pretend


# --- meeting ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "gpu", "device", "backend"),
    [
        ({}, False, "cpu", "gloo"),
        ({}, True, "cuda:1", "nccl"),
        ({"device": "cpu"}, True, "cpu", "gloo"),
        ({"device": "cuda"}, True, "cuda:1", "nccl"),
        ({"device": "cuda:3"}, True, "cuda:3", "nccl"),
        ({"distributed_backend": "gloo"}, True, "cuda:1", "gloo"),
    ],
)
def test_fill_device_and_backend(
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    gpu: bool,
    device: str,
    backend: str,
) -> None:
    """NCCL on GPUs, one for each process, gloo on CPUs; what is given stays."""
    monkeypatch.setattr(distributed.torch.cuda, "is_available", lambda: gpu)
    found = fill_device_and_backend(
        RunOptions.from_dictionary({"debug": True, **given}), 1
    )
    assert (found.device, found.distributed_backend) == (device, backend)
    assert found.debug is True
    assert found.overridden_args == {"debug", "device", "distributed_backend"}


def test_no_group_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was started alone stays so, under Slurm, too."""
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_PROCID", "0")
    options = RunOptions()
    assert join_group(options) is options
    assert not dist.is_initialized()


def test_too_few_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a GPU gets an error; it does not share one."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(distributed.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="no GPU is left for process 1 of this"):
        join_group(RunOptions.from_dictionary({"device": "cuda"}))


# --- parting ------------------------------------------------------------------------


def test_program_that_ends() -> None:
    """What it returned is handed on."""
    assert run_together(lambda argv: [*argv, "c"], ["a", "b"]) == ["a", "b", "c"]


def test_program_that_fails(as_rank: AsRank, caplog: pytest.LogCaptureFixture) -> None:
    """The process says which one it was, and how the run resumes."""

    def program(argv: list[str]) -> None:
        raise KeyError("lost")

    as_rank(2, 4)
    with pytest.raises(KeyError):
        run_together(program, [])
    assert "Process 2 of 4 ends: KeyError: 'lost'." in caplog.text
    assert "resumes from the last checkpoint" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"),
    [("killed", "Signal 9 (SIGKILL)"), ("hangs", "Process 0 of 2 ends: ")],
)
def test_process_that_is_lost(tmp_path: Path, how: str, said: str) -> None:
    """The others do not wait for it for ever; the exit status says that it failed."""
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [sys.executable, *torchrun, str(script), how, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LMACZS_GROUP_TIMEOUT": "20"},
        capture_output=True,
        text=True,
        timeout=500,  # before the sleeper wakes
    )
    assert done.returncode != 0
    assert said in done.stderr


# --- sharing ------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_parts_of_a_set(as_rank: AsRank, world: int) -> None:
    """Every index falls to one process, none to two, also if there are too few."""
    for size in (0, 1, 7):
        parts = []
        for rank in range(world):
            as_rank(rank, world)
            parts += rank_indices(size)
        assert sorted(parts) == list(range(size))


def test_alone_one_has_everything() -> None:
    """Without a group the part is the whole."""
    assert list(rank_indices(4)) == [0, 1, 2, 3]
    assert gather("one") == ["one"]
    rows = torch.arange(6.0).view(3, 2)
    assert gather_rows(rows) == (rows, 0)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_parts_of_batches(as_rank: AsRank, world: int) -> None:
    """Together they are a single process's batches, in its order, epoch by epoch."""
    alone = ReproducibleRandomSampler(range(11), seed=5)
    for epoch in (1, 2):
        alone.set_epoch(epoch)
        whole = list(alone)
        found: list[list[int]] = [[], []]
        for rank in range(world):
            as_rank(rank, world)
            parts = DistributedBatchSampler(
                ReproducibleRandomSampler(range(11), seed=5), 4
            )
            parts.set_epoch(epoch)
            batches = list(parts)
            assert len(parts) == len(batches) == 2
            for batch, part in zip(found, batches, strict=True):
                assert len(part) == 4 // world
                batch += part
        assert [sorted(batch) for batch in found] == [
            sorted(whole[:4]),
            sorted(whole[4:8]),
        ]


@given(clips=st.integers(0, 60), world=st.integers(1, 5), each=st.integers(1, 4))
def test_parts_make_the_batches_of_a_single_process(
    clips: int, world: int, each: int
) -> None:
    """Any number of processes deals every whole batch, each index once."""
    size = world * each
    whole = [list(range(i, i + size)) for i in range(0, clips - size + 1, size)]
    parts = []
    for rank in range(world):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dist, "is_initialized", lambda: True)
            patch.setattr(dist, "get_world_size", lambda: world)
            patch.setattr(dist, "get_rank", lambda rank=rank: rank)
            parts.append(list(DistributedBatchSampler(range(clips), size)))
    dealt = [sorted(sum(batch, [])) for batch in zip(*parts, strict=True)]
    assert dealt == whole


def test_batch_that_cannot_be_shared(as_rank: AsRank) -> None:
    """Parts of two sizes would not weigh as the clips of one batch do."""
    as_rank(0, 3)
    with pytest.raises(ValueError, match="batch_size is 4, which 3 processes cannot"):
        DistributedBatchSampler(range(8), 4)


def test_means_over_clips() -> None:
    """Every clip counts once, whatever process had it, and one that had none."""
    parts = [
        {"loss": torch.tensor([1.0, 2.0, 3.0]), "AI": torch.tensor([0.0, 0.0, 100.0])},
        {},
        {"loss": torch.tensor([6.0]), "AI": torch.tensor([100.0])},
    ]
    assert means_over_clips(parts) == {"loss": 3.0, "AI": 50.0}
    parts[2]["loss"] = torch.tensor([math.nan])
    assert math.isnan(means_over_clips(parts)["loss"])
