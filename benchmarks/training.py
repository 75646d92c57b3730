"""Time of a training step by part, its operations, and clips per second.

    python benchmarks/training.py [--clap small full] [--device cpu] [--workers 2]
    torchrun --nproc_per_node=2 benchmarks/training.py --device cpu

``small`` is the embedded CLAP, ``full`` one of LAION's size (`ClapConfig()`, random
weights: time does not depend on them). Without --device it is the CPU, and the GPU
where there is one. The clips are 5 s at 44.1 kHz, three in four are mixed with another
one, and all are decoded and resampled anew each time, as in the first epoch of a run.
Under torchrun the processes share each batch, and the first one's shares are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import speechbrain as sb
import torch
from common.models import WORDS, full_size_clap
from speechbrain.utils.run_opts import RunOptions
from torch.utils.flop_counter import FlopCounterMode

from lmaczs.clap import FrozenClap
from lmaczs.data.clip_reader import FileReader
from lmaczs.data.clip_texts import PromptSampler, texts_of
from lmaczs.data.prompted_dataset import Mixing, PromptedDataset, collate
from lmaczs.decoder import MaskDecoder
from lmaczs.objectives.objective import make_objective
from lmaczs.training.brain import InterpreterBrain, TrainingOptions
from lmaczs.training.distributed import gather, join_group, run_together

SMALL = Path(__file__).parents[1] / "pretrained/clap_small"
TERMS = [
    "similarity",
    "sparsity",
    "masked_out_similarity",
    "masked_out_contrast",
    "interference",
    "omission",
    "masked_in_contrast",
]
WEIGHTS = dict.fromkeys(TERMS, 1.0)
TEMPLATES = ["This is a sound of {}.", "{}"]
FILES, RATE, SECONDS = 20, 44100, 5
WARM_UP = 5  # more than two workers have ready before the first step
BATCHES = {"small": 8, "full": 2}
PARTS = ("data loader", "front end", "encoder", "decoder", "loss", "backward", "other")


class Stopwatch:
    """Seconds spent in each part of a step.

    Parameters
    ----------
    device : str
        On a GPU each part is waited for.
    """

    def __init__(self, device: str) -> None:
        self.on_gpu = device.startswith("cuda")
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def now(self) -> float:
        """Seconds since some moment, after all queued work is done.

        Returns
        -------
        float
        """
        if self.on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Count what the block takes.

        Parameters
        ----------
        part : str
            One of PARTS.
        """
        start = self.now()
        yield
        self.seconds[part] += self.now() - start

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Count the time of every call of a method.

        Parameters
        ----------
        owner : Any
            Object that has the method.
        name : str
            The method's.
        part : str
            One of PARTS.
        """
        method: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.timing(part):
                return method(*args, **kwargs)

        setattr(owner, name, timed)


def write_clips(folder: Path, clips: int) -> pd.DataFrame:
    """Write a few recordings and name them as many clips.

    Parameters
    ----------
    folder : Path
        Where to.
    clips : int
        Rows of the table.

    Returns
    -------
    DataFrame
        id, path, label.
    """
    rng = np.random.default_rng(0)
    for number in range(FILES):
        wav = 0.1 * rng.normal(size=SECONDS * RATE)
        soundfile.write(folder / f"{number}.wav", wav, RATE)
    rows = range(clips)
    return pd.DataFrame(
        {
            "id": [f"clip{row}" for row in rows],
            "path": [str(folder / f"{row % FILES}.wav") for row in rows],
            "label": [WORDS[row % len(WORDS)] for row in rows],
        }
    )


def make_brain(
    clap: FrozenClap, data: PromptedDataset, run_opts: RunOptions
) -> InterpreterBrain:
    """Brain with everything that a step needs.

    Parameters
    ----------
    clap : FrozenClap
        The model to be explained.
    data : PromptedDataset
        Training clips; they give the classes, too.
    run_opts : RunOptions
        Device, precision and the group's backend.

    Returns
    -------
    InterpreterBrain
    """
    objective = make_objective(
        "lmaczs", WEIGHTS, absent_presence=0.9, same_prompt_cosine=0.8
    )
    options = TrainingOptions(
        output_folder="",
        model_name="benchmark",
        domain="stft",
        number_of_epochs=1,
        lr=0.001,
        lr_decay_epochs=1,
        ema_decay=0.9,
        checkpoint_metric="loss",
        checkpoint_mode="min",
        examples_every=2,
        example_clips=[],
    )
    splits = dict.fromkeys(("train", "valid", "test"), data)
    brain = InterpreterBrain(
        clap,
        MaskDecoder(clap),
        objective,
        splits,
        options,
        torch.optim.AdamW,
        run_opts=run_opts,
    )
    brain.on_fit_start()
    brain.modules.train()
    return brain


def watched(brain: InterpreterBrain) -> Stopwatch:
    """Put a stopwatch on the parts of a step.

    Parameters
    ----------
    brain : InterpreterBrain
        From `make_brain`.

    Returns
    -------
    Stopwatch
    """
    watch = Stopwatch(str(brain.device))
    for name in ("stft", "stft_to_log_mel", "input_tf", "tile_mask"):
        watch.watch(brain.clap.front_end, name, "front end")
    for name in ("audio_features", "audio_embedding"):
        watch.watch(brain.clap, name, "encoder")
    watch.watch(brain.decoder, "forward", "decoder")
    watch.watch(brain, "compute_objectives", "loss")
    return watch


def operations(brain: InterpreterBrain, batch: dict[str, Any]) -> int:
    """Count the floating-point operations of the products of a step.

    Parameters
    ----------
    brain : InterpreterBrain
        From `make_brain`.
    batch : dict
        Of the loader.

    Returns
    -------
    int
    """
    with FlopCounterMode(display=False) as counter:
        brain.fit_batch(batch)
    return counter.get_total_flops()


def time_steps(
    brain: InterpreterBrain, batches: Iterator[Any], steps: int
) -> dict[str, float]:
    """Seconds of each part of some steps, after a few that do not count.

    Parameters
    ----------
    brain : InterpreterBrain
        From `make_brain`.
    batches : iterator of dict
        At least ``steps + WARM_UP``.
    steps : int
        How many.

    Returns
    -------
    dict of str to float
        By the names of PARTS.
    """
    watch = watched(brain)
    forward = Stopwatch(str(brain.device))
    forward.watch(brain, "compute_forward", "other")
    whole = 0.0
    for step in range(steps + WARM_UP):
        if step == WARM_UP:
            whole = 0.0
            for one in (watch, forward):
                one.seconds = dict.fromkeys(PARTS, 0.0)
        with watch.timing("data loader"):
            batch = next(batches)
        start = watch.now()
        brain.fit_batch(batch)
        whole += watch.now() - start
    found = watch.seconds
    inside = sum(found[part] for part in ("front end", "encoder", "decoder"))
    found["backward"] = whole - forward.seconds["other"] - found["loss"]
    found["other"] = forward.seconds["other"] - inside
    return found


def measure(name: str, device: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train for some steps and say what they cost.

    Parameters
    ----------
    name : str
        ``small`` or ``full``.
    device : str
        cpu or cuda.
    options : Namespace
        Command line.

    Returns
    -------
    dict
        One row of the report.
    """
    given = {"device": device, "precision": options.precision}
    run_opts = join_group(RunOptions.from_dictionary(given))
    sb.utils.seed.seed_everything(0)
    clap = full_size_clap() if name == "full" else FrozenClap.from_pretrained(SMALL)
    size = options.batch or BATCHES[name]
    with tempfile.TemporaryDirectory() as folder:
        table = write_clips(Path(folder), size * (options.steps + WARM_UP + 1))
        data = PromptedDataset(
            table,
            clap.front_end,
            FileReader(table, clap.front_end.sample_rate, keep_in_memory=False),
            PromptSampler(texts_of(table), TEMPLATES),
            Mixing(mix_prob=0.5, concat_prob=0.3),
        )
        brain = make_brain(clap, data, run_opts)
        loader = brain.make_dataloader(
            data,
            sb.Stage.TRAIN,
            batch_size=size,
            shuffle=True,
            drop_last=True,
            num_workers=options.workers,
            collate_fn=collate,
        )
        batches = iter(loader)
        parts = time_steps(brain, batches, options.steps)
        most = peak_gib(device)
        gflop = operations(brain, next(batches)) / size / 1e9
    seconds = max(gather(sum(parts.values())))
    return {
        "clap": name,
        "device": device,
        "precision": options.precision,
        "processes": len(gather(None)),
        "threads": torch.get_num_threads(),
        "workers": options.workers,
        "batch": size,
        "clips_per_second": round(size * options.steps / seconds, 2),
        "seconds_per_step": round(seconds / options.steps, 4),
        "share": {k: round(v / sum(parts.values()), 3) for k, v in parts.items()},
        "gflop_per_clip": round(gflop, 1),
        "peak_gib": round(most, 2),
    }


def peak_gib(device: str) -> float:
    """Most memory that was taken: the process's, or on the GPU.

    Parameters
    ----------
    device : str
        cpu or cuda.

    Returns
    -------
    float
        GiB.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** (30 if sys.platform == "darwin" else 20)  # in bytes, or in kB


def markdown(rows: list[dict[str, Any]]) -> str:
    """Report as a table.

    Parameters
    ----------
    rows : list of dict
        From `measure`.

    Returns
    -------
    str
    """
    names = [name for name in rows[0] if name != "share"]
    lines = [[*names, *PARTS], ["---"] * (len(names) + len(PARTS))]
    for row in rows:
        shares = [f"{100 * row['share'][part]:.1f} %" for part in PARTS]
        lines.append([*(str(row[name]) for name in names), *shares])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: list[str]) -> None:
    """Measure and print.

    Parameters
    ----------
    argv : list of str
        Command line without the program's name.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--clap", nargs="+", choices=BATCHES, default=list(BATCHES))
    parser.add_argument("--device", nargs="+", default=devices)
    parser.add_argument("--batch", type=int, help="clips per step, in total (8 and 2)")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2, help="per process")
    parser.add_argument("--threads", type=int, help="per process")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = [measure(c, d, options) for d in options.device for c in options.clap]
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(rows, indent=1) if options.json else markdown(rows))


if __name__ == "__main__":
    run_together(main, sys.argv[1:])
