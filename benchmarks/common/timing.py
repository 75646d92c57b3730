"""Times, ratios and memory of cases that are run in turns, and their table."""

from __future__ import annotations

import csv
import os
import platform
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lmaczs import __version__
from lmaczs.utils.files import atomic_write

PACKAGES = ("torch", "transformers", "speechbrain", "numpy")
Clock = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """Something that is timed.

    Attributes
    ----------
    name : str
        For the table.
    work : callable
        Without arguments.
    clips : int
        That it processes: times are those of one clip.
    """

    name: str
    work: Callable[[], object]
    clips: int = 1


@dataclass(frozen=True)
class Row:
    """What was found of a case.

    Attributes
    ----------
    group, name : str
        Of the case.
    clips : int
        In one call.
    ms : float
        Median for one clip.
    ratio : float
        Median, over the turns, of its time over that of the group's first case.
    spread : float
        Half the interquartile range of that ratio; 0 for fewer than three turns.
    turns : int
        How often it was timed.
    peak_mib : float or None
        Most memory: of the GPU, or of the process; None where it cannot be asked for.
    """

    group: str
    name: str
    clips: int
    ms: float
    ratio: float
    spread: float
    turns: int
    peak_mib: float | None


def clock_of(device: str) -> Clock:
    """Seconds: of the GPU's work, waited for, or of this process's processors.

    What else a machine does is no part of the latter.

    Parameters
    ----------
    device : str
        cpu or cuda.

    Returns
    -------
    callable
    """
    if not device.startswith("cuda"):
        return time.process_time

    def now() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now


def in_turns(
    cases: Sequence[Case], repeats: int, seconds: float, clock: Clock
) -> dict[str, list[float]]:
    """Seconds of each case; all cases once a turn, so that noise hits all alike.

    In another order each turn: a large case leaves the next one cold caches, a fifth of
    its time. The first turn warms up, and counts only where there is no other.

    Parameters
    ----------
    cases : sequence of Case
        With different names.
    repeats : int
        Most turns that count.
    seconds : float
        Wall-clock time after which no further turn starts.
    clock : callable
        From `clock_of`.

    Returns
    -------
    dict of str to list of float
        By name, one for each turn that counts.
    """
    found: dict[str, list[float]] = {case.name: [] for case in cases}
    end, rng = time.monotonic() + seconds, random.Random(0)
    for turn in range(repeats + 1):
        if turn and time.monotonic() >= end:
            break
        for case in rng.sample(cases, len(cases)):
            start = clock()
            case.work()
            found[case.name].append(clock() - start)
    return {name: times[1:] or times for name, times in found.items()}


def rows_of(
    group: str,
    cases: Sequence[Case],
    times: dict[str, list[float]],
    peaks: dict[str, float | None],
) -> list[Row]:
    """Medians and ratios to the first case, both for one clip.

    Parameters
    ----------
    group : str
        Name of the group.
    cases : sequence of Case
        Of the group.
    times : dict of str to list of float
        From `in_turns`.
    peaks : dict of str to float or None
        MiB, by name.

    Returns
    -------
    list of Row
    """
    first = [value / cases[0].clips for value in times[cases[0].name]]
    rows = []
    for case in cases:
        own = [value / case.clips for value in times[case.name]]
        pairs = zip(own, first, strict=True)
        ratios = [value / max(base, 1e-9) for value, base in pairs]
        spread = 0.0
        if len(ratios) > 2:
            low, _, high = statistics.quantiles(ratios, method="inclusive")
            spread = (high - low) / 2
        ms, ratio = 1000 * statistics.median(own), statistics.median(ratios)
        numbers = case.clips, ms, ratio, spread, len(own), peaks.get(case.name)
        rows.append(Row(group, case.name, *numbers))
    return rows


def measure(
    group: str, cases: Sequence[Case], device: str, repeats: int, seconds: float
) -> list[Row]:
    """Time a group of cases and ask for their memory; a case that fails is left out.

    Parameters
    ----------
    group : str
        Name of the group.
    cases : sequence of Case
        The first one is what others are compared with.
    device : str
        cpu or cuda.
    repeats : int
        See `in_turns`.
    seconds : float
        See `in_turns`.

    Returns
    -------
    list of Row
    """
    works, peaks = [], {}
    for case in cases:
        try:
            peaks[case.name] = peak_mib(case.work, device)
            works.append(case)
        except (ImportError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            print(f"{group}, {case.name}: left out, {reason}", file=sys.stderr)
    if not works or works[0] is not cases[0]:
        return []
    times = in_turns(works, repeats, seconds, clock_of(device))
    return rows_of(group, works, times, peaks)


def peak_mib(work: Callable[[], object], device: str) -> float | None:
    """Most memory while something runs.

    Parameters
    ----------
    work : callable
        Run once.
    device : str
        cpu: memory of the process, on Linux. cuda: memory of tensors on the GPU.

    Returns
    -------
    float or None
        MiB; None where the system keeps no peak that can be reset.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        work()
        return None
    work()
    return resident_mib("VmHWM")


def resident_mib(name: str) -> float:
    """A number of Linux's /proc/self/status.

    Parameters
    ----------
    name : str
        VmHWM or VmRSS.

    Returns
    -------
    float
        MiB.
    """
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    (line,) = [one for one in lines if one.startswith(f"{name}:")]
    return int(line.split()[1]) / 1024


def children_seconds() -> float:
    """Processor time of the processes that were waited for.

    Returns
    -------
    float
    """
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def machine(device: str) -> dict[str, Any]:
    """The machine, what of it is used, and versions.

    Parameters
    ----------
    device : str
        cpu or cuda.

    Returns
    -------
    dict
    """
    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "lmaczs": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def _processor() -> str:
    """Name of the processor, as far as it is known."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


def markdown(rows: Sequence[Row]) -> str:
    """Rows as a table.

    Parameters
    ----------
    rows : sequence of Row
        Of any groups.

    Returns
    -------
    str
    """
    lines = [[*asdict(rows[0])]] if rows else []
    lines += [["---"] * len(line) for line in lines]
    for row in rows:
        memory = "" if row.peak_mib is None else f"{row.peak_mib:.0f}"
        numbers = f"{row.ms:.2f}", f"{row.ratio:.2f}", f"{row.spread:.2f}"
        lines.append(
            [row.group, row.name, str(row.clips), *numbers, str(row.turns), memory]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


HISTORY = (
    *("date", "lmaczs", "torch", "processor", "gpu", "threads"),
    *("clap", "device", "group", "name", "ms", "ratio", "spread"),
)
NOISE = 0.1  # a ratio's change that is no news, beside three spreads


def history_rows(
    facts: Mapping[str, Any], clap: str, device: str, rows: Iterable[Row]
) -> list[dict[str, str]]:
    """Rows as they are kept from version to version.

    Parameters
    ----------
    facts : mapping
        From `machine`.
    clap : str
        Size of the model.
    device : str
        cpu or cuda.
    rows : iterable of Row
        What was found.

    Returns
    -------
    list of dict
        By the names of HISTORY.
    """
    known = {name: str(facts.get(name) or "") for name in HISTORY}
    known |= {"date": datetime.now(timezone.utc).date().isoformat()}
    known |= {"clap": clap, "device": device}
    return [
        {
            **known,
            "group": row.group,
            "name": row.name,
            "ms": f"{row.ms:.3f}",
            "ratio": f"{row.ratio:.4f}",
            "spread": f"{row.spread:.4f}",
        }
        for row in rows
    ]


def regressions(
    now: Sequence[Mapping[str, str]], earlier: Sequence[Mapping[str, str]]
) -> list[str]:
    """Cases that cost more, relative to their group's first, than when last measured.

    By more than three spreads of both measurements and a tenth; on the same processor,
    GPU and number of threads.

    Parameters
    ----------
    now : sequence of mapping
        From `history_rows`.
    earlier : sequence of mapping
        The history, oldest first.

    Returns
    -------
    list of str
        A line for each.
    """
    same = ("processor", "gpu", "threads", "clap", "device", "group", "name")
    last = {tuple(row[key] for key in same): row for row in earlier}
    found = []
    for row in now:
        before = last.get(tuple(row[key] for key in same))
        if before is None:
            continue
        ratio, was = float(row["ratio"]), float(before["ratio"])
        spread = float(row["spread"]) + float(before["spread"])
        if ratio - was > max(3 * spread, NOISE * was):
            place = f"{row['clap']} on {row['device']}, {row['group']}, {row['name']}"
            found.append(f"{place}: {was:.2f} on {before['date']}, now {ratio:.2f}")
    return found


def read_history(path: Path) -> list[dict[str, str]]:
    """Rows that were kept; none without the file.

    Parameters
    ----------
    path : Path
        A CSV of HISTORY.

    Returns
    -------
    list of dict
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_history(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write rows that are to be kept.

    Parameters
    ----------
    path : Path
        See `read_history`.
    rows : sequence of mapping
        All of them, oldest first.
    """
    with atomic_write(path) as part, part.open("w", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HISTORY, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
