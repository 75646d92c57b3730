"""Recipes as their command lines run them, on little data sets of synthetic clips."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.objectives.objective import make_objective
from lmaczs.training.brain import InterpreterBrain, TrainingOptions

ROOT = Path(__file__).parents[2]
RATE = 44100  # Hz, as ESC-50 has it
TERMS = dict.fromkeys(
    [
        "similarity",
        "sparsity",
        "masked_out_similarity",
        "masked_out_contrast",
        "interference",
        "omission",
        "masked_in_contrast",
    ],
    1.0,
)
LABELS = ["dog", "siren"]

Write = Callable[..., Path]
Recipe = Callable[[str], ModuleType]
Kill = Callable[[Sequence[str], int], None]


@pytest.fixture(scope="session")
def write_esc50(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Function that writes clips laid out as ESC-50: one a label and fold.

    Arguments: ``labels``, ``folds``, and ``esc10``, whether all of them are ESC-10's
    but the last. Clips last 1 to 2 s, those of the last fold 5 s. Each label has its
    own band of noise.
    """

    def write(labels: Sequence[str], folds: int, esc10: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("esc50")
        (folder / "audio").mkdir()
        (folder / "meta").mkdir()
        rows = []
        for target, label in enumerate(labels):
            for fold in range(1, folds + 1):
                name = f"{fold}-{100 * target + fold}-A-{target}.wav"
                seconds = 5 if fold == folds else 1 + (target + fold) % 3 / 2
                wav = _band(target, len(labels), seconds, seed=100 * target + fold)
                soundfile.write(folder / "audio" / name, wav, RATE)
                in_esc10 = esc10 and label != labels[-1]
                category = label.replace(" ", "_")
                source = 100 * target + fold
                rows.append((name, fold, target, category, in_esc10, source, "A"))
        columns = [
            "filename",
            "fold",
            "target",
            "category",
            "esc10",
            "src_file",
            "take",
        ]
        table = pd.DataFrame(rows, columns=columns)
        table.to_csv(folder / "meta" / "esc50.csv", index=False)
        return folder

    return write


def _band(target: int, labels: int, seconds: float, seed: int) -> np.ndarray:
    """Noise around a pitch of the label's own, in bursts."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * RATE)
    spectrum = np.fft.rfft(rng.normal(size=samples))
    hertz = np.fft.rfftfreq(samples, 1 / RATE)
    middle = 200 * 2 ** (5.5 * target / labels)
    wav = np.fft.irfft(spectrum * np.exp(-((hertz / middle - 1) ** 2) * 50), samples)
    bursts = 1 + np.sin(2 * np.pi * (target + 1) * np.arange(samples) / RATE)
    return 0.5 * wav / np.abs(wav).max() * bursts / 2


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Function that imports a script of recipes/ by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, ROOT / f"recipes/{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        main = module.main

        def run(argv: list[str]) -> dict[str, float]:
            with process_restored():
                return main(argv)

        module.main = run  # type: ignore[attr-defined]
        return module

    return load


@contextmanager
def process_restored() -> Iterator[None]:
    """Undo what a recipe changes: hooks, handlers, environment, number of threads."""
    root = logging.getLogger()
    hook, handlers, level = sys.excepthook, root.handlers[:], root.level
    environment, threads = dict(os.environ), torch.get_num_threads()
    try:
        yield
    finally:
        sys.excepthook, root.handlers[:] = hook, handlers
        root.setLevel(level)
        os.environ.clear()
        os.environ.update(environment)
        torch.set_num_threads(threads)


KILLED = """
import os, runpy, signal, sys
from lmaczs.training.checkpoints import AtomicCheckpointer

save, wanted, saved = AtomicCheckpointer.save_checkpoint, int(sys.argv[1]), []

def save_or_end(*args, **kwargs):
    saved.append(save(*args, **kwargs))
    if len(saved) == wanted:
        os.kill(os.getpid(), signal.SIGKILL)
    return saved[-1]

AtomicCheckpointer.save_checkpoint = save_or_end
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="session")
def kill_after() -> Kill:
    """Function that runs a script, which SIGKILL ends at its checkpoint of a number.

    It sends it itself: another process might be too late.
    """

    def kill(argv: Sequence[str], checkpoints: int) -> None:
        command = [sys.executable, "-c", KILLED, str(checkpoints), *argv]
        done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]

    return kill


class Labelled(Dataset):
    """What a brain needs of a split."""

    classes = {label: f"This is a sound of {label}." for label in LABELS}
    epoch = None


def batch_of(wav: Tensor) -> dict[str, Any]:
    """Two clips with a present prompt and an absent one, as a loader gives them."""
    wav = torch.stack([wav, 0.5 * wav.roll(5000)])
    return {
        "id": ["a", "b"],
        "label": LABELS,
        "prompts": [["This is a sound of dog.", "siren"], ["siren", "dog"]],
        "wav": wav,
        "sources": torch.stack([wav, torch.zeros_like(wav)], 1),
        "samples": torch.full((2,), wav.shape[1]),
        "present": torch.tensor([[True, False], [True, False]]),
        "use_predicted": torch.zeros(2, dtype=torch.bool),
    }


def brain_on(clap: FrozenClap, run_opts: dict[str, str]) -> InterpreterBrain:
    """A brain with a new decoder, which has all terms of our objective."""
    torch.manual_seed(0)
    decoder = MaskDecoder(clap, initial_logit=0.0)
    options = TrainingOptions(
        output_folder="",
        model_name="",
        domain="stft",
        number_of_epochs=1,
        lr=0.01,
        lr_decay_epochs=1,
        ema_decay=0.9,
        checkpoint_metric="loss",
        checkpoint_mode="min",
        examples_every=2,
        example_clips=[],
    )
    brain = InterpreterBrain(
        clap,
        decoder,
        make_objective("lmaczs", TERMS, absent_presence=0.9, same_prompt_cosine=0.8),
        dict.fromkeys(("train", "valid", "test"), Labelled()),
        options,
        torch.optim.AdamW,
        run_opts=run_opts,
    )
    brain.on_fit_start()
    brain.modules.train()
    return brain


@pytest.fixture(scope="session")
def train() -> Callable[..., tuple[list[float], Tensor]]:
    """Function that trains a new decoder for two steps on one clip and its like.

    Of a CLAP, a clip as long as a window, and SpeechBrain's run options: its losses,
    and the weights of the decoder's last layer.
    """

    def steps(
        clap: FrozenClap, wav: Tensor, run_opts: dict[str, str]
    ) -> tuple[list[float], Tensor]:
        brain = brain_on(clap, run_opts)
        losses = [float(brain.fit_batch(batch_of(wav))) for _ in range(2)]
        return losses, brain.decoder.draw.weight.detach()

    return steps
