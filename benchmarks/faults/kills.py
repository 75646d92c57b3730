"""Runs that are killed at random moments, and whether anything is lost.

    python benchmarks/faults/kills.py [--kills 20] [--chain 4] [--json FILE]
        [--only interpret|train|evaluate]

Each of `lmaczs interpret`, a fine-tuning and an evaluation is run to its end once. Then
it is begun again elsewhere and ended by SIGKILL at a random moment, `--chain` times in
a row, and at last let go to its end: what it leaves is compared with what the first run
left, byte by byte, but for times and logs. After each kill, files that were whole
before must still be there, and every JSON and CSV can be read. The exit status is 1 if
anything was lost or differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from little_runs import (
    ROOT,
    evaluation_line,
    interpret_line,
    run,
    training_line,
    write_clips,
)

SEED = 1234
TIMES = ("seconds", "seconds_per_clip")  # columns of tables
NOT_COMPARED = (
    "log.txt",
    "env.log",
    "train_log.txt",
    "facts.json",
    "results.md",
    "hyperparams.yaml",
)

Line = Callable[[Path], list[str]]
Contents = dict[str, str]
"""Digests of what a run leaves, by name."""


@dataclass
class Tally:
    """What came of the kills of one program."""

    kills: int = 0
    """Of a program that was at work."""
    reruns: int = 0
    lost: int = 0
    differ: int = 0


def left(folder: Path) -> Contents:
    """Digest of each file of a folder that is compared, unfinished ones left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.name in NOT_COMPARED or "tensorboard/" in name:
            continue
        if path.name.startswith(".") or "CKPT+" in name:
            continue
        found[name] = hashlib.sha256(content(path)).hexdigest()
    return {**found, **checkpoints(folder)}


def content(path: Path) -> bytes:
    """Bytes of a file; of a table without its times."""
    if path.suffix != ".csv":
        return path.read_bytes()
    table = pd.read_csv(path, dtype=str)
    table = table.drop(columns=[name for name in TIMES if name in table])
    return table.to_csv(index=False).encode()


def checkpoints(folder: Path) -> Contents:
    """Weights of a training's checkpoints, in their order; names have the time."""
    found = sorted(folder.glob("save/CKPT+*"))
    names = ("decoder.ckpt", "learner.ckpt", "optimizer.ckpt")
    return {
        f"checkpoint {number} {name}": hashlib.sha256(
            (path / name).read_bytes()
        ).hexdigest()
        for number, path in enumerate(found)
        for name in names
        if (path / name).is_file()
    }


def damage(folder: Path) -> list[str]:
    """JSON and CSV files that cannot be read."""
    found = []
    for path in folder.rglob("*"):
        try:
            if path.name.startswith("."):
                continue
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".csv":
                pd.read_csv(path)
        except ValueError:
            found.append(path.name)
    return found


def kill_at(line: list[str], seconds: float) -> bool:
    """Run a command line and send SIGKILL; whether it was still running."""
    command = [sys.executable, *line]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, **quiet) as process:  # type: ignore[call-overload]
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return True
    return False


def try_kills(
    make: Line, work: Path, kills: int, chain: int, rng: random.Random
) -> Tally:
    """Kill a program at random moments of its run, and compare what it leaves."""
    begun = time.monotonic()
    done = run(make(work / "whole"))
    seconds = time.monotonic() - begun
    if done.returncode:
        raise RuntimeError(done.stderr)
    whole, tally = left(work / "whole"), Tally()
    while tally.kills < kills:
        out = work / f"killed{tally.reruns}"
        for _ in range(min(chain, kills - tally.kills)):
            before = left(out) if out.is_dir() else {}
            if not kill_at(make(out), rng.uniform(0, seconds)):
                seconds *= 0.8  # it was done before: the machine is faster now
                break
            tally.kills += 1
            after = left(out) if out.is_dir() else {}
            tally.lost += bool(damage(out)) or not is_kept(before, after)
        tally.reruns += 1
        done = run(make(out))
        same = not done.returncode and left(out) == whole
        if not same:
            found = left(out)
            names = sorted(n for n in {*whole, *found} if whole.get(n) != found.get(n))
            print(done.stderr[-2000:], names, file=sys.stderr)
        tally.differ += not same
        print(f"  {tally}", flush=True)
    return tally


def is_kept(before: Contents, after: Contents) -> bool:
    """Whether every result that was there is there: checkpoints may be newer."""
    results = {name for name in before if not name.startswith("checkpoint")}
    return results <= after.keys()


def rows_of(tallies: dict[str, Tally]) -> list[dict[str, str]]:
    """Rows of a table of faults."""
    return [
        {
            "fault": f"{name}: killed",
            "how": f"SIGKILL at a random moment of its work; {tally.reruns} reruns to "
            "the end",
            "tried": str(tally.kills),
            "before": "resumed equal",
            "now": f"{tally.lost} lost something, {tally.differ} of {tally.reruns} "
            "reruns differ",
        }
        for name, tally in tallies.items()
    ]


def main() -> int:
    """Try, print a line a program and write the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, metavar="N")
    parser.add_argument("--chain", type=int, default=4, metavar="N")
    parser.add_argument("--only", choices=("interpret", "train", "evaluate"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    args = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
    tallies = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        manifest = write_clips(work / "data")
        recordings = manifest.parent / "clips"
        programs: dict[str, Line] = {
            "interpret": lambda out: interpret_line(recordings, out),
            "train": lambda out: training_line(manifest, out),
            "evaluate": lambda out: evaluation_line(manifest, out),
        }
        for program, make in programs.items():
            if args.only in (None, program):
                rng, place = random.Random(f"{SEED} {program}"), work / program
                print(program, flush=True)
                tallies[program] = try_kills(make, place, args.kills, args.chain, rng)
    for row in rows_of(tallies):
        print("; ".join(row.values()))
    if args.json:
        args.json.write_text(json.dumps(rows_of(tallies), indent=1) + "\n", "utf-8")
    return any(tally.lost or tally.differ for tally in tallies.values())


if __name__ == "__main__":
    sys.exit(main())
