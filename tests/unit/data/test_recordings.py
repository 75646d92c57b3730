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


@pytest.mark.parametrize("only_the_end", [False, True])
@pytest.mark.parametrize("kind", ["wav", "flac", "aiff"])
def test_half_a_recording_with_a_good_header(
    tmp_path: Path, kind: str, only_the_end: bool
) -> None:
    """It is found by its end alone, too; a whole one has no problem."""
    path = Path(written(tmp_path / f"a.{kind}"))
    assert problem_of(str(path), only_the_end) == ""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    problem = problem_of(str(path), only_the_end)
    assert "truncated" in problem
    assert str(path) not in problem


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
    kept = Recording(state.st_size, state.st_mtime_ns, "digest", "known")
    assert inspect_recordings([path], {path: kept}) == {path: kept}
    written(Path(path), with_sample(np.nan), "FLOAT")
    os.utime(path, ns=(0, state.st_mtime_ns + 1))
    now = inspect_recordings([path], {path: kept})
    assert "NaN" in now[path].problem
    assert changed_recordings({path: kept}, now) == [path]
    assert changed_recordings(now, now) == changed_recordings({}, now) == []


def test_digests_are_a_column(tmp_path: Path) -> None:
    """Empty for a clip in a shard."""
    path = written(tmp_path / "a.wav")
    table = pd.DataFrame({"path": ["x.tar/0", path]}, index=[3, 1])
    found = with_digests(table, inspect_recordings([path], {}))
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert found.sha256.to_dict() == {3: "", 1: digest}
