"""Sound files with faults: each is read, or refused with an `AudioError`.

    python benchmarks/fuzz.py [--cases 2000] [--seed 0] [--jobs 1] [--json FILE]

A case is a file of 30 formats with a fault, by seed and number: `faulty_file` makes it
again. It is read whole, block by block, in part and strictly, in a process that is
watched: what takes more than 5 s of processor time or 1 GB of memory, ends the process,
or raises anything else, is a failure, and so is a recording of which a part is missing
without a warning, or whose blocks differ from the whole. The exit status is then 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from common.sound_files import FAULTS, SoundFile, faulty_file, whole_files

from lmaczs.audio.blocks import AudioBlocks
from lmaczs.audio.io import load_audio, read_recording
from lmaczs.utils.errors import AudioError, AudioWarning

RATE = 16000
CPU_SECONDS, MEGABYTES = 5.0, 1000
WALL_SECONDS = 600.0
"""After which a process is ended, however little of the processor it got."""

BEFORE = Path(__file__).parent / "faults" / "fuzz_before.json"
"""What came of the first 2,000 cases of seed 0 before faulty files were mended."""

PADDING = 0.1
"""Seconds that an encoder's delay and padding, or the last frame, may be."""


def outcome(path: Path, file: SoundFile) -> str:
    """Read a file in all ways: what came of it, or what failed."""
    try:
        found = read_recording(path, RATE)
    except AudioError as error:
        named = path.name in str(error)
        return "refused" if named else f"FAILED: a message without the file: {error}"
    count = len(found.wav)
    if not count or not bool(torch.isfinite(found.wav).all()):
        return "FAILED: no finite samples"
    audio = AudioBlocks(path, RATE)
    joined = torch.cat([*audio.read()])
    if len(joined) != count or not torch.allclose(joined, found.wav, atol=1e-4):
        return "FAILED: blocks differ from the whole"
    if not found.warnings and count / RATE < file.seconds - PADDING:
        there = f"{count / RATE:.2f} of {file.seconds:.2f} s"
        return f"FAILED: a part is missing without a word: {there}"
    with contextlib.suppress(AudioError):
        load_audio(path, RATE, strict=True)
    with contextlib.suppress(AudioError):
        load_audio(path, RATE, start=0.1, stop=0.3)
    return "read with a warning" if found.warnings else "read"


def cpu_seconds(process: int | None) -> float:
    """Processor time that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_megabytes() -> float:
    """Most memory since the last `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if "VmHWM" in line)


def forget_peak() -> None:
    """Begin to measure memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


def work(pipe: Connection, seed: int) -> None:
    """Process: try the cases whose numbers come, send what came of them."""
    for stream in (1, 2):  # decoders print there
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    warnings.simplefilter("ignore", AudioWarning)
    torch.set_num_threads(1)
    files = whole_files()
    pipe.send("ready")
    with tempfile.TemporaryDirectory() as folder:
        while (number := pipe.recv()) is not None:
            file = faulty_file(files, seed, number)
            suffix = ("", ".wav", f".{file.name.lower()}")[number % 3]
            path = Path(folder, f"case{number}{suffix}")
            path.write_bytes(file.data)
            forget_peak()
            before, begin = peak_megabytes(), time.process_time()
            try:
                found = outcome(path, file)
            except BaseException as error:  # what no one expects is what is looked for
                found = f"FAILED: another error: {type(error).__name__}: {error}"
            seconds, memory = time.process_time() - begin, peak_megabytes() - before
            if seconds > CPU_SECONDS:
                found = f"FAILED: beyond {CPU_SECONDS:.0f} s: {seconds:.1f} s"
            if memory > MEGABYTES:
                found = f"FAILED: beyond {MEGABYTES} MB: {memory:.0f} MB"
            path.unlink()
            pipe.send((file.name, file.faults[0], found, seconds, memory))


class Worker:
    """A process that tries cases, and is replaced where it ends or hangs."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.start()

    def start(self) -> None:
        """Start a process, and wait until it is ready."""
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, self.seed))
        self.process.start()
        other.close()
        self.pipe.recv()

    def attempt(self, number: int) -> tuple[str, str, str, float, float]:
        """Try a case: format, fault, outcome, seconds and MB."""
        begin = time.monotonic()
        try:
            self.pipe.send(number)
            used = cpu_seconds(self.process.pid)
            while not self.pipe.poll(0.5):
                seconds = cpu_seconds(self.process.pid) - used
                if seconds > CPU_SECONDS or time.monotonic() - begin > WALL_SECONDS:
                    raise TimeoutError
            return self.pipe.recv()
        except TimeoutError:
            found = f"FAILED: beyond {CPU_SECONDS:.0f} s: it was ended"
        except (EOFError, OSError):
            self.process.join()
            found = f"FAILED: it ends the process: {self.process.exitcode}"
        self.process.kill()
        self.process.join()
        self.start()
        file = faulty_file(whole_files(), self.seed, number)
        return file.name, file.faults[0], found, time.monotonic() - begin, 0.0

    def end(self) -> None:
        """End the process."""
        self.pipe.send(None)
        self.process.join()


def attempts(cases: int, seed: int, jobs: int) -> Iterator[tuple[int, tuple]]:
    """Yield numbers of cases and what came of them, of several processes at once."""
    numbers, found = iter(range(cases)), []
    lock, ready = threading.Lock(), threading.Condition()

    def serve() -> None:
        worker = Worker(seed)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            result = number, worker.attempt(number)
            with ready:
                found.append(result)
                ready.notify()
        worker.end()

    threads = [threading.Thread(target=serve) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for _ in range(cases):
        with ready:
            while not found:
                ready.wait()
            one = found.pop(0)
        yield one
    for thread in threads:
        thread.join()


def summary(results: dict[int, tuple]) -> dict[str, Any]:
    """Counts by fault and format, failures with the numbers of their cases."""
    faults: dict[str, Counter[str]] = defaultdict(Counter)
    formats: dict[str, Counter[str]] = defaultdict(Counter)
    failures = []
    for number, (name, fault, found, _, _) in sorted(results.items()):
        text = found.removeprefix("FAILED: ")
        kind = text.partition(": ")[0]
        faults[fault][kind] += 1
        formats[name][kind] += 1
        if text != found:
            failures.append(
                {"case": number, "format": name, "fault": fault, "what": text}
            )
    return {
        "slowest_s": max(one[3] for one in results.values()),
        "most_mb": max(one[4] for one in results.values()),
        "faults": {name: dict(faults[name]) for name in FAULTS if name in faults},
        "formats": {name: dict(formats[name]) for name in sorted(formats)},
        "failures": failures,
    }


def rows(found: dict[str, Any], before: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a table: fault, how, how often, and what came of it before and now."""
    return [
        {
            "fault": name,
            "how": str(FAULTS[name][0].__doc__).rstrip("."),
            "tried": sum(counts.values()),
            "before": in_words(before["faults"].get(name)),
            "now": in_words(counts),
        }
        for name, counts in found["faults"].items()
    ]


def in_words(counts: dict[str, int] | None) -> str:
    """Shares of outcomes."""
    if not counts:
        return ""
    total = sum(counts.values())
    kinds = sorted(counts, key=lambda kind: -counts[kind])
    return ", ".join(f"{kind} {100 * counts[kind] / total:.1f} %" for kind in kinds)


def main(argv: list[str] | None = None) -> int:
    """Try cases and print what came of them; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write counts, rows")
    args = parser.parse_args(argv)
    results = dict(attempts(args.cases, args.seed, args.jobs))
    found = summary(results)
    record = {"cases": args.cases, "seed": args.seed, **found}
    record["rows"] = rows(found, json.loads(BEFORE.read_text("utf-8")))
    if args.json is not None:
        args.json.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    for row in record["rows"]:
        print(f"{row['fault']}, {row['tried']} files: {row['now']}")
    print(f"slowest {found['slowest_s']:.2f} s, most {found['most_mb']:.0f} MB")
    for one in found["failures"]:
        print(f"case {one['case']} ({one['format']}, {one['fault']}): {one['what']}")
    return int(bool(found["failures"]))


if __name__ == "__main__":
    sys.exit(main())
