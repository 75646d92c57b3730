"""A corpus by both engines, killed at random, with a machine lost; and search in it.

    python benchmarks/corpus.py [--clips 60] [--kills 2] [--recordings FOLDER ...]
                                [--json FILE]

Clips are 5 s, each cut from two recordings and mixed at 0 to 20 dB, the same in every
run; without --recordings those of the demonstration's sources. Each engine writes the
corpus in one go; then it is begun again and killed at random, a worker or all
processes in turn, until so many kills were made and it is done. A cluster of simulated
machines loses one that is at work. All corpora have to be equal, to the byte. --json
has a row for each fault.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from lmaczs.audio.io import load_audio, save_audio
from lmaczs.demo.scenes import render
from lmaczs.demo.sound_models import SOURCES

RATE, SECONDS = 32000, 5
PROMPTS = ("dog", "rain", "siren", "crying baby", "a clock ticking", "engine idling")
REFINE = "off"
"""The decoder's masks: what is killed and resumed does not depend on their kind."""

KILL_SECONDS = 6.0, 25.0
"""Between two kills: a model is loaded in four seconds."""


@dataclass(frozen=True)
class Fault:
    """What was done to a corpus, and what came of it."""

    fault: str
    how: str
    tried: int
    before: str
    now: str


# --- clips --------------------------------------------------------------------------


def sources_of(folders: Sequence[Path], work: Path) -> list[Path]:
    """Recordings that clips are cut from."""
    if folders:
        found = (one for folder in folders for one in sorted(folder.rglob("*.*")))
        return [one for one in found if one.suffix in (".wav", ".ogg", ".flac")]
    return [
        save_audio(work / f"{name}.wav", render(name, RATE, SECONDS, 0).float(), RATE)
        for name in sorted(SOURCES)
    ]


def make_clips(count: int, sources: Sequence[Path], folder: Path) -> Path:
    """Write clips, and a manifest of them with a damaged one; return the manifest."""
    draw = random.Random(0)
    lines = ["path,day"]
    for number in range(count):
        loud, soft = (load_audio(draw.choice(sources), RATE) for _ in range(2))
        parts = [cut(one, draw) for one in (loud, soft)]
        mixed = parts[0] + 10 ** (-draw.uniform(0, 20) / 20) * parts[1]
        path = save_audio(folder / f"{number:05d}.wav", 0.5 * mixed, RATE)
        if number % 500 == 7:
            path.write_bytes(b"no sound")
        lines.append(f"{path.name},2026-{1 + number % 12:02d}-01")
    manifest = folder / "clips.csv"
    manifest.write_text("\n".join(lines))
    return manifest


def cut(wav: torch.Tensor, draw: random.Random) -> torch.Tensor:
    """Five seconds of a sound of any length, scaled to a peak of 1, from anywhere."""
    size = RATE * SECONDS
    begin = draw.randrange(max(1, len(wav) - size))
    part = wav[begin : begin + size]
    part = torch.nn.functional.pad(part, (0, size - len(part)))
    return part / part.abs().max().clamp_min(1e-3)


# --- runs ---------------------------------------------------------------------------


def command(manifest: Path, out: Path, *engine: str) -> list[str]:
    """Command line of a corpus."""
    words = [sys.executable, "-m", "lmaczs", "corpus", str(manifest), "--device", "cpu"]
    for prompt in PROMPTS:
        words += ["--prompt", prompt]
    words += ["--keep", "prompt == 'dog' and presence > 0.998", "--block-clips", "20"]
    return [*words, "--out", str(out), "--refine", REFINE, *engine]


def run(words: Sequence[str]) -> tuple[float, str]:
    """Seconds that a command took, and what it said."""
    begin = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    return time.perf_counter() - begin, done.stdout.strip()


def killed(words: Sequence[str], kills: int, draw: random.Random) -> int:
    """Run a command, killed at random, until it is done; return the kills made."""
    made = 0
    while True:
        process = subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while process.poll() is None:
            try:
                process.wait(draw.uniform(*KILL_SECONDS))
            except subprocess.TimeoutExpired:
                if made < kills:
                    made += 1
                    end(process, everything=made % 2 == 0, draw=draw)
        if process.returncode in (0, 1):
            return made


def end(
    process: subprocess.Popen[bytes], everything: bool, draw: random.Random
) -> None:
    """Kill a worker of a command, or all its processes."""
    family = list(children_of(process.pid))
    workers = [child for child, name in family if is_worker(name)]
    if not everything and workers:
        os.kill(draw.choice(workers), signal.SIGKILL)
        return
    process.kill()
    for child, _ in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    process.wait()


def children_of(process: int) -> Iterator[tuple[int, bytes]]:
    """Processes that a process began, and those that these began, with their names."""
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            with contextlib.suppress(OSError):
                yield child, Path(f"/proc/{child}/cmdline").read_bytes()
                yield from children_of(child)


def is_worker(name: bytes) -> bool:
    """Whether a process holds a model."""
    return b"spawn_main" in name or b"MapWorker" in name


def tree(folder: Path) -> dict[str, bytes]:
    """Content of every file of a corpus, but for what searches have made of it."""
    files = {str(one.relative_to(folder)): one for one in folder.rglob("*")}
    return {
        name: one.read_bytes()
        for name, one in files.items()
        if one.is_file() and not name.startswith("search/")
    }


def compared(folder: Path, expected: dict[str, bytes]) -> str:
    """Whether a corpus is equal to another, in words."""
    found = tree(folder)
    other = [name for name in expected if found.get(name) != expected[name]]
    more = [name for name in found if name not in expected]
    if other or more:
        return f"DIFFERS: {other[:2]} {more[:2]}"
    return f"equal to the byte, {len(expected)} files"


# --- what is measured ---------------------------------------------------------------


def engines_row(manifest: Path, work: Path, jobs: str) -> dict[str, bytes]:
    """Run both engines undisturbed, print what they took; return the corpus."""
    print("| engine | seconds | what it said |")
    print("|---|---|---|")
    for engine in ("local", "ray"):
        out = work / engine
        options = ("--engine", engine, "--jobs", jobs)
        seconds, said = run(command(manifest, out, *options))
        said = said.partition(": ")[2]
        print(f"| {engine}, {jobs} jobs | {seconds:.0f} | {said} |", flush=True)
    expected = tree(work / "local")
    print(f"ray against local: {compared(work / 'ray', expected)}", flush=True)
    return expected


def faults_of_kills(
    manifest: Path, work: Path, jobs: str, kills: int, expected: dict[str, bytes]
) -> Iterator[Fault]:
    """Kill both engines at random."""
    for engine in ("local", "ray"):
        out, draw = work / f"{engine}-killed", random.Random(engine)
        words = command(manifest, out, "--engine", engine, "--jobs", jobs)
        made = killed(words, kills, draw)
        yield Fault(
            f"{engine}: a worker, or all processes, are killed",
            "SIGKILL at random, in turn; the same line again",
            made,
            "-",
            compared(out, expected),
        )


def fault_of_a_machine(manifest: Path, work: Path, expected: dict[str, bytes]) -> Fault:
    """Kill one of two simulated machines of a cluster while both work."""
    from ray.cluster_utils import Cluster

    out = work / "cluster"
    cluster = Cluster(True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    words = command(
        manifest, out, "--engine", "ray", "--jobs", "2", "--address", cluster.address
    )
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while len(list(out.glob("clips/*/*.parquet"))) < 2 and process.poll() is None:
        time.sleep(0.2)
    before = len(list(out.glob("clips/*/*.parquet")))
    cluster.remove_node(nodes[0], allow_graceful=False)
    cluster.add_node(num_cpus=1)
    process.wait()
    cluster.shutdown()
    return Fault(
        "ray: a machine is lost",
        f"one of two simulated machines killed after {before} blocks, another joins",
        1,
        "-",
        compared(out, expected),
    )


def main() -> None:
    """Make clips, run, kill, compare, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--kills", type=int, default=2, help="of each engine")
    parser.add_argument("--recordings", type=Path, nargs="*", default=[])
    parser.add_argument("--jobs", default="2")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="kept; default: a temporary one")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (work / "clips").mkdir(parents=True, exist_ok=True)
        sources = sources_of(args.recordings, work)
        manifest = make_clips(args.clips, sources, work / "clips")
        print(f"{args.clips} clips of {SECONDS} s, {len(PROMPTS)} prompts", flush=True)
        expected = engines_row(manifest, work, args.jobs)
        faults = list(faults_of_kills(manifest, work, args.jobs, args.kills, expected))
        faults.append(fault_of_a_machine(manifest, work, expected))
        print("| fault | how | times | result |")
        print("|---|---|---|---|")
        for one in faults:
            print(f"| {one.fault} | {one.how} | {one.tried} | {one.now} |")
        if args.json:
            args.json.write_text(json.dumps([asdict(one) for one in faults], indent=1))


if __name__ == "__main__":
    main()
