"""Little data sets and command lines, for trying what faults do to a run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from lmaczs.demo.scenes import write_scenes

ROOT = Path(__file__).parents[2]
RATE = 16000
SAMPLES = 2 * RATE
SCENES = {"dog_by_the_fire": "dog", "clock_in_the_rain": "clock tick"}
LITTLE = {
    "device": "cpu",
    "batch_size": 2,
    "num_threads": 1,
    "number_of_epochs": 2,
    "ckpt_interval_minutes": 0,
    "ckpt_interval_steps": 2,
    "examples_every": 100,
}


def write_clips(folder: Path, clips: int = 12) -> Path:
    """Write a manifest of clips of 2 s of two labels, a quarter to test on each.

    Parameters
    ----------
    folder : Path
        Made; gets list.csv and clips/.
    clips : int
        How many; at least 8.

    Returns
    -------
    Path
        The manifest.
    """
    (folder / "clips").mkdir(parents=True)
    scenes = {scene.name: path for scene, path in write_scenes(folder / "scenes", RATE)}
    sounds = {
        label: soundfile.read(scenes[name], dtype="float32")[0]
        for name, label in SCENES.items()
    }
    rows = ["path,label,split"]
    for number in range(clips):
        label = list(sounds)[number % 2]
        wav = np.roll(sounds[label], -number * RATE // 4)[:SAMPLES]
        # else some would be equal, and what is learnt is not tested on
        wav = wav + np.random.default_rng(number).normal(0, 1e-3, SAMPLES)
        path = folder / "clips" / f"{number:03d}.wav"
        soundfile.write(path, wav, RATE, subtype="FLOAT")
        place = number // 2 * 8 // clips  # four parts of the clips of each label
        rows.append(f"{path},{label},{('train', 'train', 'valid', 'test')[place]}")
    manifest = folder / "list.csv"
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return manifest


def options(**values: object) -> list[str]:
    """Words of a command line that give values to keys of a YAML."""
    return [f"--{name}={value}" for name, value in values.items()]


def training_line(manifest: Path, out: Path) -> list[str]:
    """Command line of a fine-tuning that takes seconds."""
    yaml = str(ROOT / "hparams" / "finetune.yaml")
    given = options(manifest=manifest, output_folder=out, **LITTLE)
    return [str(ROOT / "recipes" / "train.py"), yaml, "--noprogressbar", *given]


def evaluation_line(manifest: Path, out: Path) -> list[str]:
    """Command line of an evaluation that takes seconds."""
    yaml = str(ROOT / "hparams" / "evaluate.yaml")
    given = options(
        manifest=manifest,
        output_folder=out,
        methods="[energy, keep-all]",
        conditions="[clean, white noise]",
        localisation="False",
        insertion_fractions="[]",
        batch_size=1,
    )
    return [str(ROOT / "recipes" / "evaluate.py"), yaml, "--device=cpu", *given]


def interpret_line(recordings: Path, out: Path) -> list[str]:
    """Command line that explains all recordings of a folder."""
    prompts = ["--prompt", "dog", "--prompt", "clock tick"]
    line = ["-m", "lmaczs", "interpret", str(recordings), *prompts]
    return [*line, "--out", str(out), "--refine", "4"]


def run(line: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command line of this Python to its end."""
    command = [sys.executable, *line]
    done: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]
        command, cwd=ROOT, capture_output=True, text=True, **options
    )
    return done
