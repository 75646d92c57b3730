"""recipes/train.py in several processes: the same run as in one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from lmaczs import ZeroShotInterpreter
from lmaczs.training.export import export_run

ROOT = Path(__file__).parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
# Nothing that rounding decides: neither absent prompts nor what a mask leaves out.
# A new decoder keeps everything, so that relu(C^ - C) is then that of rounding, and so
# is the spectrum that is left.
OPTIONS = {
    "train_folds": "[1, 2]",
    "device": "cpu",
    "num_threads": 1,
    "width": 8,
    "batch_size": 4,
    "lr": 0.02,
    "augment": "{speed_prob: 0, noise_prob: 0, band_prob: 0}",
    "negatives_per_clip": 0,
    "loss_weights": "{lmaczs: {similarity: 1, sparsity: 3}}",
    "number_of_epochs": 2,
    "examples_every": 2,
    "example_clips": "[0]",
    "ckpt_interval_minutes": 0,
    "ckpt_interval_steps": 1,
}
# The second process is killed in the second step of the second epoch.
KILLED = """
import os, runpy, signal, sys
from lmaczs.training.brain import InterpreterBrain

def kill(brain, batch, step=InterpreterBrain.fit_batch):
    if os.environ["RANK"] == "1" and brain.epoch_counter.current == 2:
        if brain.step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return step(brain, batch)

InterpreterBrain.fit_batch = kill
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# Not its similarity: under a mask of ones the sign of the change is that of rounding.
PAPER = {
    "objective": "lmaczs_paper",
    "loss_weights": "{all_pairs_similarity: 0, sparsity: 3, diversity: 1}",
}

Options = Callable[..., list[str]]


@dataclass
class Run:
    """What a run has left."""

    folder: Path

    @property
    def test(self) -> dict[str, float]:
        """Metrics on the test split."""
        return json.loads((self.folder / "test.json").read_text())

    @property
    def weights(self) -> dict[str, Tensor]:
        """Those of the last step, and their average."""
        found = Checkpointer(self.folder / "save").list_checkpoints()
        (last,) = [one for one in found if one.meta.get("epoch") == 2]
        return {
            f"{part}.{name}": weight
            for part in ("learner", "decoder")
            for name, weight in torch.load(last.paramfiles[part]).items()
        }


@pytest.fixture(scope="module")
def options(
    write_esc50: Callable[..., Path],
    tiny_clap_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Options:
    """Function that makes a command line: 10 clips to train on, 5 and 5 to judge by.

    Neither 10 by the batch nor 5 by the number of processes comes out even. The
    optimizer is not AdamW: where a weight has no effect its gradient is rounding alone,
    of which AdamW makes a step of full size.
    """
    recipe = (ROOT / "hparams/esc50.yaml").read_text()
    assert "torch.optim.AdamW" in recipe
    hparams = tmp_path_factory.mktemp("hparams") / "esc50.yaml"
    hparams.write_text(recipe.replace("torch.optim.AdamW", "torch.optim.SGD"))
    labels = ["dog", "rain", "sea waves", "siren", "cat"]
    data = write_esc50(labels, folds=5)

    def make(output_folder: Path, **changes: Any) -> list[str]:
        values: dict[str, Any] = {
            "data_folder": data,
            "clap_source": tiny_clap_folder,
            "output_folder": output_folder,
            **OPTIONS,
            **changes,
        }
        written = [f"--{name}={value}" for name, value in values.items()]
        return [str(hparams), "--noprogressbar", *written]

    return make


@pytest.fixture(scope="module")
def alone(
    recipe: Callable[[str], ModuleType],
    options: Options,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """The run in this one process."""
    folder = tmp_path_factory.mktemp("alone")
    recipe("train").main(options(folder))
    return Run(folder)


def torchrun(script: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a script in two processes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LMACZS_GROUP_TIMEOUT": "120"}
    return subprocess.run(
        [sys.executable, *TORCHRUN, str(script), *argv],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def assert_same(one: Run, other: Run) -> None:
    """Check that two runs learnt the same and measured the same."""
    weights = other.weights
    apart = {k: float((weights[k] - v).abs().max()) for k, v in one.weights.items()}
    assert max(apart.values()) < 1e-5, apart
    assert other.test == pytest.approx(one.test, abs=1e-4)


@pytest.mark.slow
def test_two_processes(alone: Run, options: Options, tmp_path: Path) -> None:
    """They train as one does, by the same clips; what is written is written once."""
    argv = options(tmp_path / "out")
    done = torchrun(ROOT / "recipes/train.py", *argv)
    assert done.returncode == 0, done.stderr[-3000:]
    pair = Run(tmp_path / "out")
    assert_same(alone, pair)
    lines = (pair.folder / "train_log.txt").read_text().splitlines()
    starts = [line.split(" - ")[0] for line in lines[:2]]
    assert starts == ["epoch: 1", "epoch: 2"]
    assert len(lines) == 3
    events = EventAccumulator(str(pair.folder / "tensorboard")).Reload()
    for tag in events.Tags()["scalars"]:
        assert [one.step for one in events.Scalars(tag)] == [1, 2], tag
    assert len(list(pair.folder.glob("examples/*/*/epoch-002/explanation.png"))) == 2
    ZeroShotInterpreter.from_hparams(export_run(pair.folder, tmp_path / "exported"))


@pytest.mark.slow
def test_two_processes_pair_clips_with_the_prompts_of_both(
    recipe: Callable[[str], ModuleType], options: Options, tmp_path: Path
) -> None:
    """By the paper's objective, too, they learn what one process does."""
    recipe("train").main(options(tmp_path / "alone", **PAPER))
    done = torchrun(ROOT / "recipes/train.py", *options(tmp_path / "pair", **PAPER))
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same(Run(tmp_path / "alone"), Run(tmp_path / "pair"))


@pytest.mark.slow
def test_the_runs_learn(alone: Run) -> None:
    """What is compared to 1e-5 has moved by far more."""
    for part in ("learner", "decoder"):
        assert abs(float(alone.weights[f"{part}.draw.bias"][0]) - 3.0) > 1e-3


@pytest.mark.slow
def test_process_that_dies(
    alone: Run,
    recipe: Callable[[str], ModuleType],
    options: Options,
    tmp_path: Path,
) -> None:
    """It ends the run, which can be resumed, also in a single process."""
    out, script = tmp_path / "out", tmp_path / "killed.py"
    script.write_text(KILLED)
    argv = options(out)
    done = torchrun(script, str(ROOT / "recipes/train.py"), *argv)
    assert done.returncode != 0
    assert "rank      : 1 " in done.stderr
    assert "SIGKILL" in done.stderr
    assert not (out / "test.json").exists()
    newest = max(
        Checkpointer(out / "save").list_checkpoints(),
        key=lambda one: one.meta["unixtime"],
    )
    assert newest.meta["end-of-epoch"] is False
    recipe("train").main(argv)
    assert_same(alone, Run(out))


def test_slurm(tmp_path: Path) -> None:
    """The job starts a torchrun on each machine, which all meet on the first."""
    commands = {
        "scontrol": 'echo "$3-1"; echo "$3-2"',
        "srun": 'printf "%s\\n" "$@"',
    }
    for name, text in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    job = {
        "SLURM_JOB_NODELIST": "node",
        "SLURM_JOB_ID": "1234567",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    script = ["bash", str(ROOT / "recipes/slurm.sh"), "a.yaml", "--b=c d"]
    done = subprocess.run(script, env=job, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert {"--nnodes=2", "--nproc_per_node=4", "--rdzv_id=1234567"} <= set(said)
    (endpoint,) = [word for word in said if word.startswith("--rdzv_endpoint=")]
    host, port = endpoint.removeprefix("--rdzv_endpoint=").split(":")
    assert host == "node-1"
    assert 1024 < int(port) < 32768  # below those that connections are given
    assert said[-3:] == ["recipes/train.py", "a.yaml", "--b=c d"]
