"""A Brain's part of the data, and the metrics of all parts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import speechbrain as sb
import torch
from torch import distributed as dist
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from lmaczs.training.distributed import BatchParts
from lmaczs.training.group_brain import GroupBrain, means_over_clips


class Numbers(Dataset):
    """Numbers from 0; it remembers those that it has made."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.epoch = torch.zeros((), dtype=torch.long).share_memory_()
        self.memory: set[int] = set()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[int, bool, int]:
        known = index in self.memory
        self.memory.add(index)
        return index, known, int(self.epoch)


class Stream(IterableDataset):
    """A set that deals itself out."""

    def __iter__(self) -> Any:
        return iter(range(3))


@pytest.fixture
def brain(monkeypatch: pytest.MonkeyPatch) -> GroupBrain:
    """The second of two processes."""
    made = GroupBrain({"layer": nn.Linear(1, 1)}, run_opts={"device": "cpu"})
    monkeypatch.setenv("SB_GLOBAL_SEED", "3")
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    made.distributed_launch = True
    return made


def test_training_data(brain: GroupBrain) -> None:
    """A process gets its part of each batch; the order changes with the epoch."""
    loader = brain.make_dataloader(
        Numbers(9), sb.Stage.TRAIN, batch_size=4, shuffle=True, drop_last=True
    )
    assert isinstance(brain.train_sampler, BatchParts)
    epochs = []
    for epoch in (1, 2):
        brain.train_sampler.set_epoch(epoch)
        epochs.append([batch[0].tolist() for batch in loader])
    assert [len(batch) for batch in epochs[0]] == [2, 2]
    assert epochs[0] != epochs[1]


def test_training_data_of_one_process(brain: GroupBrain) -> None:
    """Alone it gets what SpeechBrain makes of them."""
    brain.distributed_launch = False
    loader = brain.make_dataloader(
        Numbers(9), sb.Stage.TRAIN, batch_size=4, shuffle=True, drop_last=True
    )
    assert [len(batch[0]) for batch in loader] == [4, 4]


@pytest.mark.parametrize("stage", [sb.Stage.VALID, sb.Stage.TEST])
def test_other_data(brain: GroupBrain, stage: sb.Stage) -> None:
    """No clip is judged twice: that a part is shorter is no matter."""
    loader = brain.make_dataloader(Numbers(5), stage, batch_size=2)
    assert [batch[0].tolist() for batch in loader] == [[1, 3]]


def test_data_that_deal_themselves_out(brain: GroupBrain) -> None:
    """They are left to do so."""
    for stage in sb.Stage:
        loader = brain.make_dataloader(Stream(), stage, batch_size=2)
        assert [batch.tolist() for batch in loader] == [[0, 1], [2]]


def test_workers_stay(brain: GroupBrain) -> None:
    """A worker keeps what it has read, and learns which epoch it is."""
    data = Numbers(6)
    loader = brain.make_dataloader(data, sb.Stage.VALID, batch_size=1, num_workers=1)
    for epoch in (1, 2):
        data.epoch.fill_(epoch)
        items = [[int(value[0]) for value in batch] for batch in loader]
        assert items == [[index, epoch - 1, epoch] for index in (1, 3, 5)]


def test_one_folder_of_checkpoints(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With --debug, where each process has made its own, it is the first one's."""
    checkpointer = sb.utils.checkpoints.Checkpointer(tmp_path / "own")
    brain = GroupBrain(
        {"layer": nn.Linear(1, 1)},
        run_opts={"device": "cpu"},
        checkpointer=checkpointer,
    )
    monkeypatch.setattr(
        "lmaczs.training.group_brain.gather", lambda own: [tmp_path / "first", own]
    )
    (tmp_path / "first").mkdir()
    brain.on_fit_start()
    assert checkpointer.checkpoints_dir == tmp_path / "first"


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


def test_full_precision(brain: GroupBrain) -> None:
    """Within it --precision=bf16 is of no effect."""
    square = torch.full((2, 2), 1.001)
    with torch.autocast("cpu", torch.bfloat16):
        assert (square @ square).dtype == torch.bfloat16
        with brain.full_precision():
            assert (square @ square).dtype == torch.float32
