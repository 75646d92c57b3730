"""What is known of the recordings that clips are cut from: digest, and if they serve.

Reading all of a data set takes minutes. So what was found is noted in a file, and a
recording of the same size and time of change is not read again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lmaczs.audio.mono_file import MonoFile
from lmaczs.utils.errors import AudioError
from lmaczs.utils.files import atomic_write
from lmaczs.utils.result_folder import file_sha256

if TYPE_CHECKING:
    import pandas as pd

RECORDINGS = "recordings.json"
"""Name of the file in a folder of results."""

VERSION = 1
"""Of what is noted: raise it where other recordings are found not to serve."""

LOUDEST = float(1 << 31)
"""Largest sample of a recording: the largest integer that programs write into float
files. What is above it is damage."""


class Recording(NamedTuple):
    """A recording's file, and why it cannot be learnt from; "" if it can."""

    size: int
    """Bytes."""
    changed: int
    """Time of the last change, ns."""
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
    """Read recordings, but those whose size and time of change are known.

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
    files = [path for path in dict.fromkeys(paths) if os.path.isfile(path)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda path: _inspected(path, known.get(path)), files)
        return dict(zip(files, found, strict=True))


def with_digests(table: pd.DataFrame, recordings: Recordings) -> pd.DataFrame:
    """Add the column sha256 to a table with path; "" for a clip in a shard."""
    known = {path: one.sha256 for path, one in recordings.items()}
    return table.assign(sha256=[known.get(path, "") for path in table.path])


def changed_recordings(known: Recordings, now: Recordings) -> list[str]:
    """Paths of recordings whose content is another one than it was."""
    return [
        path
        for path, one in now.items()
        if path in known and known[path].sha256 != one.sha256
    ]


def _inspected(path: str, known: Recording | None) -> Recording:
    state = os.stat(path)
    if known and known[:2] == (state.st_size, state.st_mtime_ns):
        return known
    sha256 = file_sha256(path)
    if known and known.sha256 == sha256:
        problem = known.problem
    else:
        problem = problem_of(path)
    return Recording(state.st_size, state.st_mtime_ns, sha256, problem)


def problem_of(path: str, only_the_end: bool = False) -> str:
    """Why a recording cannot be learnt from, without its name; "" if it can.

    Parameters
    ----------
    path : str
        Of the file.
    only_the_end : bool
        Whether only headers and the last sample are read, where that is possible: what
        is cut is found so, what is not finite is not.

    Returns
    -------
    str
        It is no audio, is truncated, damaged or empty, or has a sample that is not
        finite or above `LOUDEST`.
    """
    try:
        file = MonoFile(path, strict=True)
        begin = max(0, file.frames - 1) if only_the_end and file.seeks else 0
        count = 0
        for block in file.blocks(begin):
            count += len(block)
            if problem := level_problem(block):
                return problem
    except AudioError as error:
        return str(error).removeprefix(f"{path}: ")
    return "" if count else "it is empty, it has no samples"


def level_problem(samples: np.ndarray) -> str:
    """Why samples are no sound; "" if they may be one."""
    peak = float(np.abs(samples).max(initial=0))
    if not np.isfinite(peak):
        return "it holds NaN or infinite samples"
    return f"it holds samples of {peak:.2g}" if peak > LOUDEST else ""
