"""Make an hour of sound with known events, and measure how they are found.

    python recipes/long_recordings.py make FOLDER --data_folder=ESC50 [--split=test]
    python recipes/long_recordings.py measure FOLDER [--seconds=3600]

`make` writes hour.wav and truth.csv: forty events (a rooster, a crow, a frog and a dog,
ten times each) over wind, rain and insects, from clips of one split of ESC-50, drawn by
a seed. An event is the active part of a clip, at 3 to 15 dB above the background where
it lies. A label without a clip in the split takes clips of training, every other
recording for each split: so does "frog" in the development split.

`measure` finds events in it, in a process of its own, and prints their precision and
recall, the process's peak memory and the seconds of work a second of sound. A found
event is right if it overlaps a true one of its prompt; a true one is found if a found
one of its prompt overlaps it. With --seconds=10800 the hour is taken three times over,
with --seconds=600 its first ten minutes; with --skip=1 it begins a second later.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from torch import Tensor

from lmaczs import ZeroShotInterpreter
from lmaczs.audio.io import load_audio
from lmaczs.audio.mixing import rms, scale_to_rms
from lmaczs.data.esc50 import esc50_rows
from lmaczs.utils.errors import InputError, run_recipe
from lmaczs.utils.files import atomic_write

RATE = 44100
PROMPTS = {
    "rooster": "a rooster crowing",
    "crow": "a crow cawing",
    "frog": "a frog croaking",
    "dog": "a dog barking",
}
EVENTS_EACH = 10
SNR_DB = (3.0, 15.0)
# label, level in dB re full scale, and where it sounds, in fractions of the recording
BACKGROUND = (
    ("wind", -34.0, ((0.0, 1.0),)),
    ("rain", -34.0, ((0.25, 0.5), (0.75, 0.85))),
    ("insects", -40.0, ((0.4, 1.0),)),
)
FADE = RATE // 2
GAP = 2 * RATE  # between two events, at least
ACTIVE_DB = -25.0  # below its loudest 50 ms, where the active part of a clip ends


# --- making -------------------------------------------------------------------------


def clips_of(rows: pd.DataFrame, label: str, split: str) -> list[str]:
    """Paths of a label's clips in a split; see the module's docstring."""
    own = rows[rows.label == label]
    inside = own[own.split.isin(["test"] if split == "test" else ["train", "valid"])]
    if not (own.split == "test").any():
        recordings = sorted(own.recording.unique())[split == "test" :: 2]
        inside = own[own.recording.isin(recordings)]
    if inside.empty:
        raise InputError(f"no clip of {label!r} in split {split}: unpack ESC-50 whole")
    return sorted(inside.path)


def active_part(wav: Tensor) -> Tensor:
    """The stretch of a clip from its first to its last loud 50 ms."""
    size = RATE // 20
    levels = rms(wav[: len(wav) // size * size].unflatten(0, (-1, size)))
    loud = (levels > levels.max() * 10 ** (ACTIVE_DB / 20)).nonzero()[:, 0]
    return wav[int(loud[0]) * size : (int(loud[-1]) + 1) * size]


def looped(
    paths: Sequence[str], samples: int, level_db: float, random: np.random.Generator
) -> Tensor:
    """Clips in random order, joined by cross-fades, all at one level."""
    ramp = torch.linspace(0, 1, FADE)
    clips = [active_part(load_audio(path, RATE)) for path in paths]
    clips = [scale_to_rms(one, 10 ** (level_db / 20)) for one in clips]
    total, start = torch.zeros(samples + 10 * RATE), 0
    while start < samples:
        clip = clips[random.integers(len(clips))].clone()
        clip[:FADE] *= ramp.sqrt()
        clip[-FADE:] *= ramp.flip(0).sqrt()
        total[start : start + len(clip)] += clip
        start += len(clip) - FADE
    return total[:samples]


def background(
    rows: pd.DataFrame, split: str, samples: int, random: np.random.Generator
) -> Tensor:
    """Wind, rain and insects, each where `BACKGROUND` says."""
    total = torch.zeros(samples)
    for label, level, parts in BACKGROUND:
        paths = clips_of(rows, label, split)
        for begin, end in parts:
            first, last = round(begin * samples), round(end * samples)
            total[first:last] += looped(paths, last - first, level, random)
    return total


def places(
    lengths: Sequence[int], samples: int, random: np.random.Generator
) -> list[int]:
    """Random first samples of events, in order, at least `GAP` apart."""
    free = samples - sum(lengths) - GAP * (len(lengths) + 1)
    before = np.sort(random.integers(0, free, len(lengths)))
    taken = np.cumsum([0, *lengths[:-1]]) + GAP * np.arange(1, len(lengths) + 1)
    return [int(place) for place in before + taken]


def make_hour(
    data_folder: Path, split: str, seconds: float, seed: int
) -> tuple[Tensor, pd.DataFrame]:
    """The recording [samples] and its true events: start, stop, label, snr_db, path."""
    random = np.random.default_rng(seed)
    rows = esc50_rows(data_folder)
    wav = background(rows, split, round(seconds * RATE), random)
    drawn: list[tuple[str, str]] = []
    for label in PROMPTS:
        paths = clips_of(rows, label, split)
        order = [p for _ in range(EVENTS_EACH) for p in random.permutation(paths)]
        drawn += [(label, path) for path in order[:EVENTS_EACH]]
    drawn = [drawn[i] for i in random.permutation(len(drawn))]
    clips = [active_part(load_audio(path, RATE)) for _, path in drawn]
    truth = []
    starts = places([len(clip) for clip in clips], len(wav), random)
    for (label, path), clip, start in zip(drawn, clips, starts, strict=True):
        stop, snr = start + len(clip), float(random.uniform(*SNR_DB))
        level = float(rms(wav[start:stop])) * 10 ** (snr / 20)
        wav[start:stop] += scale_to_rms(clip, level)
        times = start / RATE, stop / RATE
        truth.append((*times, label, round(snr, 1), Path(path).name))
    table = pd.DataFrame(truth, columns=["start", "stop", "label", "snr_db", "path"])
    return wav, table


def make(options: argparse.Namespace) -> None:
    """Write the hour and its true events."""
    wav, truth = make_hour(
        options.data_folder, options.split, options.seconds, options.seed
    )
    with atomic_write(options.folder / "hour.wav") as part:
        peak = float(wav.abs().max())
        soundfile.write(part, (wav / max(1.0, peak)).numpy(), RATE, subtype="PCM_16")
    with atomic_write(options.folder / "truth.csv") as part:
        truth.to_csv(part, index=False)
    print(f"{options.folder}/hour.wav: {len(truth)} events, peak {peak:.2f}")


# --- measuring ----------------------------------------------------------------------


def measure(options: argparse.Namespace) -> None:
    """Find the events and compare them with the true ones."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "part.wav")
        seconds = write_part(options, path)
        command = [sys.executable, __file__, "search", options.folder, "--file", path]
        command += ["--refine", options.refine]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        used = json.loads(done.stdout.splitlines()[-1])
        found = pd.read_csv(path.with_suffix(".csv"))
    found.to_csv(options.folder / "found.csv", index=False)
    truth = true_events(options, seconds)
    show_scores(found, truth)
    print(
        f"{seconds:.0f} s of sound: {used['cpu'] / seconds:.4f} s of work a second, "
        f"peak {used['peak'] / 1e6:.0f} MB, {used['loaded'] / 1e6:.0f} MB before"
    )


def write_part(options: argparse.Namespace, path: Path) -> float:
    """Write the part of the hour, or the hour several times; return its seconds."""
    left = round(options.seconds * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="WAV") as file:
        while left > 0:
            with soundfile.SoundFile(options.folder / "hour.wav") as hour:
                hour.seek(0 if file.tell() else round(options.skip * RATE))
                for block in hour.blocks(RATE, dtype="int16"):
                    file.write(block[: max(0, left)])
                    left -= len(block)
        return file.tell() / RATE


def true_events(options: argparse.Namespace, seconds: float) -> pd.DataFrame:
    """True events of what `write_part` wrote, with their prompts."""
    truth = pd.read_csv(options.folder / "truth.csv")
    length = soundfile.info(options.folder / "hour.wav").duration
    turns = range(math.ceil((seconds + options.skip) / length))
    moved = [
        truth.assign(start=truth.start + shift, stop=truth.stop + shift)
        for shift in (turn * length - options.skip for turn in turns)
    ]
    table = pd.concat(moved).query("stop > 0 and start < @seconds")
    return table.assign(prompt=table.label.map(PROMPTS)).reset_index(drop=True)


def overlapping(events: pd.DataFrame, others: pd.DataFrame) -> np.ndarray:
    """Whether each of some events overlaps one of the others of its prompt."""
    hits = [
        (
            (others.prompt == one.prompt)
            & (others.start < one.stop)
            & (others.stop > one.start)
        ).any()
        for one in events.itertuples()
    ]
    return np.array(hits, dtype=bool)


def show_scores(found: pd.DataFrame, truth: pd.DataFrame) -> None:
    """Print precision and recall, and how far limits are from the true ones."""
    found = found.assign(right=overlapping(found, truth))
    truth = truth.assign(found=overlapping(truth, found))
    for prompt, own in truth.groupby("prompt"):
        mine = found[found.prompt == prompt]
        print(
            f"{prompt}: {own.found.sum()} of {len(own)} found, "
            f"{mine.right.sum()} of {len(mine)} right"
        )
    errors = []
    for one in truth[truth.found].itertuples():
        same = found[(found.prompt == one.prompt)]
        same = same[(same.start < one.stop) & (same.stop > one.start)]
        errors.append((same.start.min() - one.start, same.stop.max() - one.stop))
    start, stop = np.abs(np.array(errors)).reshape(-1, 2).T
    print(
        f"precision {found.right.mean():.3f}, recall {truth.found.mean():.3f}; "
        f"median error of start {np.median(start):.2f} s, of stop {np.median(stop):.2f}"
    )


def search(options: argparse.Namespace) -> None:
    """Find events in a file, write them beside it, and print what it took."""
    torch.set_num_threads(1)
    interpreter = ZeroShotInterpreter.from_hparams(run_opts={"device": "cpu"})
    loaded, begin = peak_memory(), time.process_time()
    refine = options.refine if options.refine == "auto" else int(options.refine)
    found = interpreter.find_events(options.file, list(PROMPTS.values()), refine)
    used = {"cpu": time.process_time() - begin, "peak": peak_memory(), "loaded": loaded}
    found.to_csv(options.file.with_suffix(".csv"), index=False)
    print(json.dumps(used))


def peak_memory() -> int:
    """Highest resident memory of this process so far, in bytes."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024)


def main(argv: list[str]) -> None:
    """Make an hour, or find its events."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = {"make": make, "measure": measure, "search": search}
    parser.add_argument("command", choices=commands)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data_folder", type=Path, help="ESC-50")
    parser.add_argument("--split", choices=("test", "train"), default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--skip", type=float, default=0.0)
    parser.add_argument("--refine", default="auto", help="auto, or a number of steps")
    parser.add_argument("--file", type=Path, help="of search: the recording")
    options = parser.parse_args(argv)
    if options.command == "make" and options.data_folder is None:
        parser.error("make needs --data_folder=ESC50")
    commands[options.command](options)


if __name__ == "__main__":
    run_recipe(main)
