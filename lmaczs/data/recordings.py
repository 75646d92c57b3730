"""What is known of the recordings that clips are cut from: digest, and if they serve.

Reading all of a data set takes minutes. So what was found is noted in a file, and a
recording of the same size and times of change is not read again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from lmaczs.audio.mono_file import MonoFile
from lmaczs.utils.errors import AudioError
from lmaczs.utils.files import atomic_write
from lmaczs.utils.result_folder import file_sha256

if TYPE_CHECKING:
    import pandas as pd

Found = TypeVar("Found")

RECORDINGS = "recordings.json"
"""Name of the file in a folder of results."""

VERSION = 2
"""Of what is noted: raise it where other recordings are found not to serve."""

LOUDEST = float(1 << 31)
"""Largest sample of a recording: the largest integer that programs write into float
files. What is above it is damage."""


class Recording(NamedTuple):
    """A recording's file, and why it cannot be learnt from; "" if it can."""

    size: int
    """Bytes."""
    modified: int
    """Time of the last change of its content, ns; any program may set it."""
    changed: int
    """Time of the last change of the file, ns, which the system alone sets."""
    sha256: str
    problem: str


Recordings = Mapping[str, Recording]
"""Recordings by their paths."""


def read_recordings(noted: Path) -> dict[str, Recording]:
    """Recordings that a file notes; none where it is missing, cut or of old."""
    try:
        found = json.loads(noted.read_text(encoding="utf-8"))
        if found["version"] != VERSION:
            return {}
        return {path: Recording(*row) for path, row in found["recordings"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def write_recordings(noted: Path, recordings: Recordings) -> None:
    """Note recordings in a file."""
    found = {"version": VERSION, "recordings": dict(recordings)}
    with atomic_write(noted) as part:
        part.write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")


def inspect_recordings(paths: Iterable[str], known: Recordings) -> dict[str, Recording]:
    """Read recordings, but those whose size and times of change are known.

    Parameters
    ----------
    paths : iterable of str
        What is no file, such as a clip in a shard, is left out.
    known : mapping
        From `read_recordings`.

    Returns
    -------
    dict of str to Recording
        By path.
    """
    return _of_each(paths, lambda path: _inspected(path, known.get(path)))


def ends_of(paths: Iterable[str]) -> dict[str, tuple[float, str]]:
    """Read headers and last sample of recordings, where that is possible, else all.

    Parameters
    ----------
    paths : iterable of str
        What is no file is left out.

    Returns
    -------
    dict of str to tuple
        By path: the length in s, and the problem that `problem_of` has. What is cut is
        found so; samples that are not finite may not be.
    """
    return _of_each(paths, lambda path: _examined(path, only_the_end=True))


def digests_of(paths: Iterable[str]) -> dict[str, str]:
    """SHA-256 of files by their paths; what is no file is left out."""
    return _of_each(paths, file_sha256)


def _of_each(paths: Iterable[str], look: Callable[[str], Found]) -> dict[str, Found]:
    """What several threads find of each file."""
    files = [path for path in dict.fromkeys(paths) if os.path.isfile(path)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(files, pool.map(look, files), strict=True))


def with_digests(table: pd.DataFrame, recordings: Recordings) -> pd.DataFrame:
    """Add the column sha256 to a table with path; a clip in a shard keeps its own."""
    own = table.sha256 if "sha256" in table else [""] * len(table)
    found = [
        recordings[path].sha256 if path in recordings else sha256
        for path, sha256 in zip(table.path, own, strict=True)
    ]
    return table.assign(sha256=found)


def changed_recordings(known: Recordings, now: Recordings) -> list[str]:
    """Paths of recordings whose content is another one than it was."""
    return [
        path
        for path, one in now.items()
        if path in known and known[path].sha256 != one.sha256
    ]


def _inspected(path: str, known: Recording | None) -> Recording:
    found = os.stat(path)
    # a copy that keeps the time of the content, as a backup does, has another st_ctime
    state = found.st_size, found.st_mtime_ns, found.st_ctime_ns
    if known and known[:3] == state:
        return known
    sha256 = file_sha256(path)
    if known and known.sha256 == sha256:
        problem = known.problem
    else:
        problem = problem_of(path)
    return Recording(*state, sha256, problem)


def problem_of(path: str) -> str:
    """Why a recording cannot be learnt from, without its name; "" if it can.

    It is no audio, is truncated, damaged or empty, or has a sample that is not finite
    or above `LOUDEST`.
    """
    return _examined(path)[1]


def _examined(path: str, only_the_end: bool = False) -> tuple[float, str]:
    """Length in s, 0 where there is a problem, and the problem."""
    try:
        file = MonoFile(path, strict=True)
        begin = max(0, file.frames - 1) if only_the_end and file.seeks else 0
        reached = begin
        for block in file.blocks(begin):
            reached += len(block)
            if problem := level_problem(block):
                return 0.0, problem
    except AudioError as error:
        return 0.0, str(error).removeprefix(f"{path}: ")
    if reached == begin:
        return 0.0, "it is empty, it has no samples"
    return reached / file.rate, ""


def require_sound(samples: np.ndarray, name: str) -> None:
    """Raise an AudioError that begins with a name if samples are no sound."""
    if problem := level_problem(samples):
        raise AudioError(f"{name}: {problem}")


def level_problem(samples: np.ndarray) -> str:
    """Why samples are no sound; "" if they may be one."""
    peak = float(np.abs(samples).max(initial=0))
    if not np.isfinite(peak):
        return "it holds NaN or infinite samples"
    return f"it holds samples of {peak:.2g}" if peak > LOUDEST else ""
