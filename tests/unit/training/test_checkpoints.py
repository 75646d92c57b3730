"""A checkpoint exists when all of it is written."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer
from torch import nn

from lmaczs.training.checkpoints import (
    AtomicCheckpointer,
    WholeCheckpoints,
    damaged_file,
)

KILLED_WHILE_SAVING = """
import os, signal, sys
from torch import nn
from lmaczs.training.checkpoints import AtomicCheckpointer

class Killer:
    pass

def save(obj, path):
    path.write_text("hal")
    os.kill(os.getpid(), signal.SIGKILL)

saver = AtomicCheckpointer(sys.argv[1], {"model": nn.Linear(2, 2)})
saver.add_recoverable("killer", Killer(), custom_save_hook=save)
saver.save_checkpoint()
"""


def linear(value: float) -> nn.Linear:
    """Make a layer of one weight."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_round_trip(tmp_path: Path) -> None:
    """What is saved is loaded again, the newest unless a key says otherwise."""
    model = linear(0)
    checkpointer = AtomicCheckpointer(tmp_path, {"model": model})
    for value, loss in ((1.0, 0.1), (2.0, 0.3)):
        nn.init.constant_(model.weight, value)
        checkpointer.save_and_keep_only({"loss": loss}, min_keys=["loss"])
    for keys, expected in (({}, 2.0), ({"min_key": "loss"}, 1.0)):
        found = checkpointer.recover_if_possible(**keys)
        assert model.weight.item() == expected
        assert sorted(p.name for p in found.path.iterdir()) == [
            "CKPT.yaml",
            "digests.json",
            "model.ckpt",
        ]


def test_speechbrain_reads_it(tmp_path: Path) -> None:
    """The files are SpeechBrain's."""
    AtomicCheckpointer(tmp_path, {"model": linear(3)}).save_checkpoint({"epoch": 1})
    other = linear(0)
    found = Checkpointer(tmp_path, {"model": other}).recover_if_possible()
    assert found.meta["epoch"] == 1
    assert other.weight.item() == 3


def test_failing_while_saving_leaves_no_checkpoint(tmp_path: Path) -> None:
    """An earlier checkpoint stays the newest where a later one was not finished."""
    model = linear(1)
    checkpointer = AtomicCheckpointer(tmp_path, {"model": model})
    checkpointer.save_checkpoint()

    def fail(obj: nn.Module, path: Path) -> None:
        raise OSError("no space left")

    nn.init.constant_(model.weight, 2)
    checkpointer.add_recoverable("other", linear(0), custom_save_hook=fail)
    with pytest.raises(OSError, match="no space left"):
        checkpointer.save_checkpoint()
    again = AtomicCheckpointer(tmp_path, {"model": model})
    again.recover_if_possible()
    assert model.weight.item() == 1


def test_killed_while_saving(tmp_path: Path) -> None:
    """After SIGKILL the checkpoint before is loaded, and the rest is cleared away."""
    AtomicCheckpointer(tmp_path, {"model": linear(1)}).save_checkpoint()
    whole = list(tmp_path.iterdir())
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_SAVING, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        stderr=subprocess.DEVNULL,
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    model = linear(0)
    checkpointer = AtomicCheckpointer(tmp_path, {"model": model})
    assert [found.path for found in checkpointer.list_checkpoints()] == whole
    checkpointer.recover_if_possible()
    assert torch.equal(model.weight, torch.ones(1, 1))
    assert list(tmp_path.iterdir()) == whole


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """Only unfinished checkpoints are cleared away."""
    (tmp_path / "interpreter.yaml").write_text("a: 1")
    (tmp_path / "clap").mkdir()
    (tmp_path / "CKPT+unfinished").mkdir()
    AtomicCheckpointer(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["clap", "interpreter.yaml"]


def test_processes_that_see_different_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes would resume from different weights: an error with the reason."""
    model = linear(1)
    checkpointer = AtomicCheckpointer(tmp_path, {"model": model})
    checkpointer.save_checkpoint(name="one")
    nn.init.constant_(model.weight, 5)
    monkeypatch.setattr(
        "lmaczs.training.checkpoints.gather", lambda name: [name, "none"]
    )
    with pytest.raises(RuntimeError, match=r"CKPT\+one, none.*a disk that they share"):
        checkpointer.recover_if_possible()
    assert model.weight.item() == 5


def save_two(folder: Path) -> list[Path]:
    """Save a checkpoint of weight 1 and a newer one of weight 2."""
    model = linear(1)
    checkpointer = AtomicCheckpointer(folder, {"model": model})
    saved = [checkpointer.save_checkpoint({"loss": 2}, name="1")]
    nn.init.constant_(model.weight, 2)
    saved.append(checkpointer.save_checkpoint({"loss": 1}, name="2"))
    return [one.path for one in saved]


@pytest.mark.parametrize("keys", [{}, {"min_key": "loss"}])
@pytest.mark.parametrize("name", ["CKPT.yaml", "model.ckpt", "digests.json"])
@pytest.mark.parametrize("fault", ["cut", "empty", "flipped"])
def test_of_a_damaged_checkpoint_the_one_before_is_loaded(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    fault: str,
    keys: dict[str, str],
) -> None:
    """Whichever file of it is damaged; it is named and set aside, not deleted."""
    _, newest = save_two(tmp_path)
    content = (newest / name).read_bytes()
    half = len(content) // 2
    damaged = {
        "cut": content[:half],
        "empty": b"",
        "flipped": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
    }
    (newest / name).write_bytes(damaged[fault])
    model = linear(0)
    checkpointer = AtomicCheckpointer(tmp_path, {"model": model})
    checkpointer.recover_if_possible(**keys)
    assert model.weight.item() == 1
    aside = newest.with_name(f"damaged-{newest.name}")
    assert (aside / name).read_bytes() == damaged[fault]
    assert f"Checkpoint {newest} is damaged" in caplog.text
    assert caplog.text.count("another one is loaded") == 1
    checkpointer.recover_if_possible(**keys)
    assert caplog.text.count("is damaged") == 1


def test_no_checkpoint_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Training begins anew, which is stated."""
    for folder in save_two(tmp_path):
        (folder / "model.ckpt").unlink()
    model = linear(0)
    checkpointer = AtomicCheckpointer(tmp_path, {"model": model})
    assert checkpointer.recover_if_possible() is None
    assert model.weight.item() == 0
    assert "training begins anew" in caplog.text


def test_which_file_of_a_checkpoint_is_damaged(tmp_path: Path) -> None:
    """None of one as it was saved, and of one that was saved without digests."""
    one, two = save_two(tmp_path)
    assert damaged_file(one) is None
    (one / "model.ckpt").write_bytes(b"")
    assert damaged_file(one) == "model.ckpt"
    (two / "model.ckpt").write_bytes(b"")
    (two / "digests.json").unlink()
    assert damaged_file(two) is None


def test_a_disk_that_is_full_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's error names neither the disk nor the reason."""

    def fail(obj: nn.Module, path: Path) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0")

    usage = type(shutil.disk_usage(tmp_path))(1 << 30, 1 << 30, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    checkpointer = AtomicCheckpointer(tmp_path, {"model": linear(0)})
    checkpointer.add_recoverable("other", linear(0), custom_save_hook=fail)
    with pytest.raises(OSError, match="No space left") as caught:
        checkpointer.save_checkpoint()
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path)


def test_reading_leaves_damaged_ones_out_and_where_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As an export does, which may run beside the training."""
    one, two = save_two(tmp_path)
    (two / "CKPT.yaml").write_bytes(b"{")
    (found,) = WholeCheckpoints(tmp_path).list_checkpoints()
    assert found.path == one
    assert two.is_dir()
    assert f"Checkpoint {two} is damaged (CKPT.yaml): left out" in caplog.text
