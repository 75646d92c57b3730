"""recipes/write_shards.py as its command line runs it, and training on its shards."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from speechbrain.utils.checkpoints import Checkpointer
from torch import Tensor

from lmaczs import ZeroShotInterpreter
from lmaczs.training.export import export_run

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "recipes/write_shards.py")
LABELS = ["hum", "buzz", "hiss"]
STEPS = 5  # of an epoch: ten clips to train on, in batches of two

Train = Callable[..., dict[str, float]]


@pytest.fixture(scope="module")
def manifest(write_esc50: Callable[..., Path]) -> Path:
    """Fifteen clips: labels, and one clip in three with a caption instead."""
    audio = write_esc50(LABELS, folds=5) / "audio"
    rows = ["path,text,label,split"]
    for number, path in enumerate(sorted(audio.glob("*.wav"))):
        label = LABELS[int(path.stem.split("-")[-1])]
        said = f"A {label} number {number}.," if number % 3 == 2 else f",{label}"
        split = {0: "valid", 1: "valid", 5: "test", 6: "test", 7: "test"}.get(number)
        rows.append(f"{path.name},{said},{split or 'train'}")
    (audio / "clips.csv").write_text("\n".join(rows))
    return audio / "clips.csv"


@pytest.fixture(scope="module")
def shards(
    recipe: Callable[[str], ModuleType],
    manifest: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The clips in shards of three: four of them to train on."""
    folder = tmp_path_factory.mktemp("shards")
    argv = [str(manifest), str(folder), "--clips_per_shard", "3"]
    assert recipe("write_shards").main(argv) == folder / "index.json"
    return folder


@pytest.fixture(scope="module")
def argv(tiny_clap_folder: Path, shards: Path) -> Callable[..., list[str]]:
    """Function that makes a command line of recipes/train.py for the shards."""

    def make(output_folder: Path, **changes: Any) -> list[str]:
        values = {
            "manifest": f"{shards}/train-{{000000..000003}}.tar",
            "output_folder": output_folder,
            "clap_source": tiny_clap_folder,
            "device": "cpu",
            "num_threads": 1,
            "width": 8,
            "batch_size": 2,
            "number_of_epochs": 3,
            "examples_every": 100,
            "ckpt_interval_minutes": 0,
            "ckpt_interval_steps": 2,
            **changes,
        }
        written = [f"--{name}={value}" for name, value in values.items()]
        return [str(ROOT / "hparams/captions.yaml"), "--noprogressbar", *written]

    return make


def weights(folder: Path) -> dict[str, Tensor]:
    """The decoder's weights in the newest checkpoint of a run."""
    found = Checkpointer(folder / "save").find_checkpoint()
    assert found.meta["epoch"] == 3
    return torch.load(found.paramfiles["decoder"], weights_only=True)


def test_the_command_says_what_it_wrote(
    recipe: Callable[[str], ModuleType],
    manifest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A line with the number of clips and of shards, whether new or there already."""
    folder = tmp_path / "new/shards"
    for _ in range(2):
        recipe("write_shards").main([str(manifest), str(folder)])
        assert capsys.readouterr().out == f"{folder}: 15 clips in 3 shards\n"


def test_mistakes_are_said_in_a_sentence(manifest: Path, tmp_path: Path) -> None:
    """A recording that is cut short is named; there is neither index nor shard."""
    whole = next(manifest.parent.glob("*.wav")).read_bytes()
    (tmp_path / "short.wav").write_bytes(whole[:-1000])
    (tmp_path / "clips.csv").write_text(
        "path,label,split,stop\nshort.wav,dog,train,\nshort.wav,dog,valid,.1\n"
        "short.wav,dog,test,.2\n"
    )
    folder = tmp_path / "shards"
    command = [sys.executable, SCRIPT, str(tmp_path / "clips.csv"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"write_shards.py: {tmp_path}/clips.csv has 3 mistakes: ")
    assert f"line 2: {tmp_path}/short.wav: it is truncated: " in last
    assert not folder.exists()


def test_clips_per_shard_must_be_positive(
    recipe: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    """None is no number of clips."""
    with pytest.raises(SystemExit, match="2"):
        recipe("write_shards").main(["a.csv", "b", "--clips_per_shard", "0"])
    assert "--clips_per_shard must be 1 or more" in capsys.readouterr().err


@pytest.mark.slow
def test_training_on_shards(
    recipe: Callable[[str], ModuleType],
    argv: Callable[..., list[str]],
    kill_after: Callable[[list[str], int], None],
    tmp_path: Path,
) -> None:
    """A run that is killed in mid-epoch ends with the weights of one that was not."""
    train = recipe("train").main
    whole = train(argv(tmp_path / "whole"))
    assert all(math.isfinite(value) for value in whole.values())

    out = tmp_path / "killed"
    # of the first epoch after two and four steps, and at its end
    kill_after([str(ROOT / "recipes/train.py"), *argv(out)], 4)
    newest = max(
        Checkpointer(out / "save").list_checkpoints(),
        key=lambda one: one.meta["unixtime"],
    ).paramfiles
    brain = yaml.safe_load(newest["brain"].read_text())
    assert newest["counter"].read_text() == "2"
    assert 0 < brain["step"] < STEPS
    assert newest["dataloader-TRAIN"].read_text() == str(brain["step"])
    after = train(argv(out))
    expected, found = weights(tmp_path / "whole"), weights(out)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0)
    assert after == pytest.approx(whole, abs=1e-4)

    interpreter = ZeroShotInterpreter.from_hparams(export_run(out, tmp_path / "done"))
    (one,) = interpreter(torch.rand(1, 40000) - 0.5, "hum")
    assert one.mask.shape[0] == 1025


@pytest.mark.slow
def test_two_processes_with_workers(
    argv: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Two processes of two workers each share every batch and end together."""
    out = tmp_path / "out"
    line = argv(out, num_workers=2, number_of_epochs=2, distributed_backend="gloo")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *torchrun, str(ROOT / "recipes/train.py"), *line]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (out / "train_log.txt").read_text().splitlines()
    assert [line.split(" - ")[0] for line in lines[:2]] == ["epoch: 1", "epoch: 2"]
    assert len(lines) == 3


@pytest.mark.slow
def test_a_missing_shard_is_a_sentence(
    argv: Callable[..., list[str]], shards: Path, tmp_path: Path
) -> None:
    """The error names the file and the fix, before training."""
    pattern = f"{shards}/train-{{000000..000007}}.tar"
    command = [sys.executable, str(ROOT / "recipes/train.py")]
    command += argv(tmp_path / "out", manifest=pattern)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"train.py: --manifest names {shards}/train-000004.tar")
    assert not (tmp_path / "out/save").exists()
