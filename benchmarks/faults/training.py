"""Faults that a training meets: damaged files, clips and options, and how it ends.

    python benchmarks/faults/training.py [--json FILE]

Each case is a little fine-tuning on 24 clips, in a folder of its own. A case is well if
it ends as it should: with the result of a run without the fault and a line that has the
reason, or with one sentence and nothing changed. The exit status is 1 if any is not.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from little_runs import RATE, ROOT, SAMPLES, run, training_line, write_clips

CLIPS = 24
FILES = ("CKPT.yaml", "decoder.ckpt", "optimizer.ckpt", "counter.ckpt", "digests.json")
NAMES = ("2026-11-25", "20261125", "1e3", "exp #1", "lr=0.01", "a: b", "true", "0x10")


@dataclass
class Case:
    """A kind of fault: how often it was tried, and how often it ended well."""

    fault: str
    how: str
    before: str
    tried: int = 0
    well: int = 0
    unwell: list[str] = field(default_factory=list)

    def count(self, well: bool, shown: str = "") -> None:
        """Count one; what was printed is kept where it did not end well."""
        self.tried += 1
        self.well += well
        if not well:
            self.unwell.append(shown[-600:])

    def row(self, now: str) -> dict[str, str]:
        """Row of a table of faults."""
        return {
            "fault": self.fault,
            "how": self.how,
            "tried": str(self.tried),
            "before": self.before,
            "now": f"{self.well} of {self.tried} {now}",
        }


@dataclass(frozen=True)
class Bench:
    """A work folder, a list of clips, and a run of them that is done."""

    work: Path
    manifest: Path
    done: Path

    def copy(self, name: str) -> Path:
        """The folder of the run that is done, copied."""
        return Path(shutil.copytree(self.done, self.work / name))


def is_sentence(text: str) -> bool:
    """Whether what was printed has no traceback, and ends in a line of the recipe."""
    lines = [line for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return "Traceback" not in text and last.startswith("train.py: ")


def result(folder: Path) -> str:
    """Metrics of the test."""
    return (folder / "test.json").read_text(encoding="utf-8")


def damaged_checkpoints(bench: Bench) -> tuple[Case, str]:
    """Of the newest checkpoint one file is cut, or emptied."""
    case = Case(
        "newest checkpoint damaged",
        "one of its five files cut in half, or emptied; the run was not at its end",
        "10 of 10 tracebacks",
    )
    wanted = result(bench.done)
    for number, (name, half) in enumerate(itertools.product(FILES, (True, False))):
        out = bench.copy(f"checkpoint{number}")
        (out / "test.json").unlink()
        newest = max(out.glob("save/CKPT+*"), key=checkpoint_time)
        content = (newest / name).read_bytes()
        (newest / name).write_bytes(content[: len(content) // 2 if half else 0])
        ended = run(training_line(bench.manifest, out))
        log = (out / "log.txt").read_text(encoding="utf-8")
        well = not ended.returncode and f"{newest} is damaged ({name})" in log
        case.count(well and result(out) == wanted, ended.stderr)
    return case, "fall back to the one before, with a line, and end with equal metrics"


def checkpoint_time(folder: Path) -> float:
    """When a checkpoint was made, as SpeechBrain has it."""
    text = (folder / "CKPT.yaml").read_text(encoding="utf-8")
    return float(text.partition("unixtime: ")[2].split()[0])


def write_value(path: Path, value: float) -> None:
    """Write noise with one sample of a value."""
    wav = np.random.default_rng(0).normal(0, 0.1, SAMPLES).astype(np.float32)
    wav[1000] = value
    soundfile.write(path, wav, RATE, subtype="FLOAT")


def bad_clips(bench: Bench) -> tuple[Case, str]:
    """One clip of 24 has samples that are no sound."""
    case = Case(
        "clip with NaN, infinity or 1e38",
        "one of 24 clips, one sample of it; of the split train, valid or test",
        "not counted",
    )
    values, numbers = (np.nan, np.inf, 1e38), (0, CLIPS - 8, CLIPS - 1)
    for value, number in itertools.product(values, numbers):
        work = bench.work / f"bad {value} {number}"
        manifest = write_clips(work, CLIPS)
        write_value(work / "clips" / f"{number:03d}.wav", value)
        ended = run(training_line(manifest, work / "out"))
        text = "1 of 24 clips cannot be learnt from"
        well = not ended.returncode and text in ended.stderr
        case.count(well and f"{number:03d}.wav" in ended.stderr, ended.stderr)
    return case, "name the clip and train without it"


def half_clips(bench: Bench) -> tuple[Case, str]:
    """A clip is cut in half, or is no audio."""
    case = Case(
        "half a clip with a good header, or no audio",
        "one of 24 clips cut in half (WAV, FLAC), text, or empty",
        "not counted",
    )
    for number, kind in enumerate(("wav", "flac", "text", "empty")):
        work = bench.work / f"half {kind}"
        manifest = write_clips(work, CLIPS)
        path = work / "clips" / f"{number:03d}.wav"
        if kind == "flac":
            wav, rate = soundfile.read(path)
            path.unlink()
            path = path.with_suffix(".flac")
            soundfile.write(path, wav, rate)
            text = manifest.read_text(encoding="utf-8")
            manifest.write_text(text.replace(f"{number:03d}.wav", path.name))
        content = path.read_bytes()
        spoilt = {"text": b"no sound", "empty": b""}
        path.write_bytes(spoilt.get(kind, content[: len(content) // 2]))
        ended = run(training_line(manifest, work / "out"))
        well = ended.returncode == 1 and is_sentence(ended.stderr)
        named = f"line {number + 2}" in ended.stderr and path.name in ended.stderr
        case.count(well and named and not (work / "out").exists(), ended.stderr)
    return case, "refuse the list by its line, before anything is written"


def signals(bench: Bench) -> tuple[Case, str]:
    """SIGINT and SIGTERM in a training."""
    case = Case(
        "SIGINT, SIGTERM",
        "after 1 to 13 s of a training, also in its imports; the same line given again",
        "resumed equal",
    )
    wanted = result(bench.done)
    for number, (name, seconds) in enumerate(
        itertools.product((signal.SIGINT, signal.SIGTERM), (1, 3, 5, 9, 13))
    ):
        out = bench.work / f"signal{number}"
        command = [sys.executable, *training_line(bench.manifest, out)]
        with subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True
        ) as process:
            time.sleep(seconds)
            process.send_signal(name)
            _, errors = process.communicate()
        # before the recipe began, or after its last line, the system ends it
        outside = not errors.strip() or (out / "test.json").is_file()
        well = is_sentence(errors) or (outside and "Traceback" not in errors)
        ended = run(training_line(bench.manifest, out))
        well = well and not ended.returncode and result(out) == wanted
        case.count(well, f"{process.returncode} {errors} {ended.stderr}")
    return case, "end in one sentence, and resume to equal metrics"


def other_lists(bench: Bench) -> tuple[Case, str]:
    """The list changes after the run is done."""
    case = Case(
        "same line, another list",
        "two rows more, a row less, a label changed, a clip's content changed",
        "nothing trained, a table of two test sets, learnt clips tested on",
    )
    for change in ("more", "less", "label", "content"):
        work = bench.work / f"list {change}"
        manifest = write_clips(work, CLIPS)
        line = training_line(manifest, work / "out")
        run(line)
        lines = manifest.read_text(encoding="utf-8").splitlines()
        if change == "more":
            copy = work / "clips" / "more.wav"
            shutil.copyfile(work / "clips" / "000.wav", copy)
            write_value(work / "clips" / "new.wav", 0.5)
            lines += [f"{copy},dog,test", f"{work / 'clips' / 'new.wav'},dog,train"]
        elif change == "less":
            lines.pop(1)
        elif change == "label":
            lines[1] = lines[1].replace(",dog,", ",clock tick,")
        else:
            write_value(work / "clips" / "000.wav", 0.5)
        manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
        before = result(work / "out")
        refused = run(line)
        well = is_sentence(refused.stderr) and "was begun with" in refused.stderr
        well = well and result(work / "out") == before
        anyway = run([*line, "--resume-anyway"])
        if change == "more":  # a copy of a clip that was learnt, to be tested on
            well = well and "1 of the 7 clips of split test were" in anyway.stderr
        case.count(well and not anyway.returncode, refused.stderr + anyway.stderr)
    return case, "refuse with what differs; --resume-anyway tests on nothing learnt"


def folder_names(bench: Bench) -> tuple[Case, str]:
    """Names of folders that YAML takes for something else."""
    case = Case(
        "--output_folder=NAME that YAML reads as something else",
        ", ".join(NAMES),
        "refused, or another folder (r29)",
    )
    for name in NAMES:
        out = bench.work / "names" / name
        ended = run(training_line(bench.manifest, out))
        well = not ended.returncode and (out / "test.json").is_file()
        case.count(well, ended.stderr)
    found = {path.name for path in (bench.work / "names").iterdir()}
    if found != set(NAMES):
        case.unwell.append(f"there are {sorted(found)}")
        case.well = 0
    return case, "write into the folder of that name"


def full_disk(bench: Bench) -> tuple[Case, str]:
    """The disk is full, or can only be read; needs the right to mount one."""
    case = Case(
        "full or read-only disk",
        "a file system of 1, 2, 3 and 4 MB in memory, and one that is read-only",
        "not counted",
    )
    wanted = result(bench.done)
    for size in (1, 2, 3, 4, 0):
        disk = bench.work / f"disk{size}"
        disk.mkdir()
        kind = f"size={size}m" if size else "ro"
        mount = ["mount", "-t", "tmpfs", "-o", kind, "none", str(disk)]
        if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
            continue
        try:
            line = training_line(bench.manifest, disk / "out")
            ended = run(line)
            well = ended.returncode == 1 and is_sentence(ended.stderr)
            well = well and str(disk) in ended.stderr.splitlines()[-1]
            if size and well:
                more = ["mount", "-o", "remount,size=200m", str(disk)]
                subprocess.run(more, check=True)
                again = run(line)
                well = not again.returncode and result(disk / "out") == wanted
            case.count(well, ended.stderr)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return case, "end in one sentence that names the disk; resume equal with more room"


CASES = (
    damaged_checkpoints,
    bad_clips,
    half_clips,
    signals,
    other_lists,
    folder_names,
    full_disk,
)


def main() -> int:
    """Try, print a line a case and write the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [case.__name__ for case in CASES]
    parser.add_argument("--only", choices=names, nargs="+", default=names)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    args = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
    rows, failed = [], False
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        manifest = write_clips(work / "data")
        bench = Bench(work, manifest, work / "done")
        run(training_line(manifest, bench.done)).check_returncode()
        for make in CASES:
            if make.__name__ not in args.only:
                continue
            case, now = make(bench)
            rows.append(case.row(now))
            print("; ".join(rows[-1].values()), flush=True)
            print(*case.unwell, sep="\n", file=sys.stderr)
            failed |= case.well < case.tried
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    return failed


if __name__ == "__main__":
    sys.exit(main())
