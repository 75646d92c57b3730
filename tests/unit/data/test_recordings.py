"""Digests of recordings, and which of them cannot be learnt from."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from lmaczs.data.recordings import (
    Recording,
    changed_recordings,
    digests_of,
    ends_of,
    inspect_recordings,
    level_problem,
    problem_of,
    read_recordings,
    with_digests,
    write_recordings,
)

NOISE = np.random.default_rng(0).normal(0, 0.1, 200_000)


def written(path: Path, samples: np.ndarray = NOISE, subtype: str | None = None) -> str:
    """Write a recording."""
    soundfile.write(path, samples, 16000, subtype=subtype)
    return str(path)


def with_sample(value: float) -> np.ndarray:
    """Noise with one sample in its last quarter."""
    samples = NOISE.astype(np.float32)
    samples[170_000] = value
    return samples


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (np.nan, "NaN or infinite"),
        (np.inf, "NaN or infinite"),
        (-np.inf, "NaN or infinite"),
        (1e38, "samples of 1e+38"),
        (-3e9, "samples of 3e+09"),
        (2.0**31, ""),
        (32768.0, ""),
        (0.0, ""),
    ],
)
def test_samples_that_are_no_sound(tmp_path: Path, value: float, problem: str) -> None:
    """One of them is enough; the range of integers is none of it."""
    samples = with_sample(value)
    assert problem in level_problem(samples)
    found = problem_of(written(tmp_path / "a.wav", samples, "FLOAT"))
    assert problem in found
    assert bool(found) == bool(problem)


@pytest.mark.parametrize("kind", ["wav", "flac", "aiff", "mp3", "ogg"])
def test_half_a_recording_with_a_good_header(tmp_path: Path, kind: str) -> None:
    """It is found by its end alone, too; a whole one has no problem, and a length."""
    path = written(tmp_path / f"a.{kind}")
    assert problem_of(path) == ""
    ((seconds, problem),) = ends_of([path, path, "shard.tar/0"]).values()
    assert (seconds, problem) == (pytest.approx(12.5, abs=0.2), "")
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])
    if kind == "mp3":  # which may end anywhere
        return
    problem = problem_of(path)
    assert "truncated" in problem
    assert path not in problem
    assert ends_of([path]) == {path: (0.0, problem)}


def test_what_is_no_recording(tmp_path: Path) -> None:
    """Text, nothing at all, and no samples."""
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "empty.wav").touch()
    written(tmp_path / "short.wav", NOISE[:0])
    names = ("text.wav", "empty.wav", "short.wav")
    text, empty, short = (problem_of(str(tmp_path / name)) for name in names)
    assert "no audio" in text
    assert "empty" in empty
    assert "no samples" in short


def test_what_is_found_is_noted(tmp_path: Path) -> None:
    """Digest and problem; clips in shards are left out."""
    one = written(tmp_path / "a.wav")
    two = written(tmp_path / "b.wav", with_sample(np.nan), "FLOAT")
    found = inspect_recordings([one, two, one, "shard.tar/000001"], {})
    assert list(found) == [one, two]
    content = Path(one).read_bytes()
    assert found[one].sha256 == hashlib.sha256(content).hexdigest()
    assert found[one].size == len(content)
    assert found[one].problem == "" != found[two].problem
    noted = tmp_path / "out" / "recordings.json"
    write_recordings(noted, found)
    assert read_recordings(noted) == found
    for text in (noted.read_text()[:-20], "[]", '{"version": 0}'):
        noted.write_text(text)
        assert read_recordings(noted) == {}


def test_a_recording_of_the_same_size_and_time_is_not_read_again(
    tmp_path: Path,
) -> None:
    """Another time or size has it read, and its problem is another one."""
    path = written(tmp_path / "a.wav", NOISE, "FLOAT")
    state = os.stat(path)
    times = state.st_mtime_ns, state.st_ctime_ns
    kept = Recording(state.st_size, *times, "digest", "known")
    assert inspect_recordings([path], {path: kept}) == {path: kept}
    written(Path(path), with_sample(np.nan), "FLOAT")
    os.utime(path, ns=(0, state.st_mtime_ns + 1))
    now = inspect_recordings([path], {path: kept})
    assert "NaN" in now[path].problem
    assert changed_recordings({path: kept}, now) == [path]
    assert changed_recordings(now, now) == changed_recordings({}, now) == []


def test_a_recording_that_a_backup_restores_is_read_again(tmp_path: Path) -> None:
    """Another content of the same size, whose time of change is set to the former."""
    path = written(tmp_path / "a.wav", NOISE, "FLOAT")
    state = os.stat(path)
    before = inspect_recordings([path], {})
    while os.stat(path).st_ctime_ns == state.st_ctime_ns:  # a clock of several ms
        written(Path(path), with_sample(np.nan), "FLOAT")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    now = inspect_recordings([path], before)
    assert now[path][:2] == before[path][:2]
    assert "NaN" in now[path].problem
    assert changed_recordings(before, now) == [path]


def test_digests_are_a_column(tmp_path: Path) -> None:
    """That of a clip in a shard is what the shard's index has; empty without."""
    path = written(tmp_path / "a.wav")
    table = pd.DataFrame({"path": ["x.tar/0", path]}, index=[3, 1])
    recordings = inspect_recordings([path], {})
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert digests_of([path, "x.tar/0"]) == {path: digest}
    assert with_digests(table, recordings).sha256.to_dict() == {3: "", 1: digest}
    table["sha256"] = ["of its recording", ""]
    found = with_digests(table, recordings).sha256.to_dict()
    assert found == {3: "of its recording", 1: digest}
