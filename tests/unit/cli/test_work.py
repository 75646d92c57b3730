"""work.py: recordings one after another, and by several processes."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from lmaczs.audio.io import AudioError
from lmaczs.cli.work import Failure, Outcome, add_jobs, each

PATHS = [Path(name) for name in ("a", "bad", "b", "full", "c", "d", "e")]


class Naming:
    """A task that names the recording and the process; it can be pickled."""

    def __init__(self, killed: str | None = None) -> None:
        self.killed = killed

    def __call__(self, interpreter: Any, path: Path) -> Outcome:
        """Name a recording, or fail as its name says."""
        if path.name == self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        if path.name == "bad":
            raise AudioError("bad: it is empty, it has no samples")
        if path.name == "full":
            raise OSError(28, "No space left on device", "x")
        return Outcome(f"{interpreter}: {path}", rows=[{"process": os.getpid()}])


def load() -> Any:
    """What stands for a model."""
    return "model"


def lines(jobs: int, task: Naming) -> list[str]:
    """A line of each outcome or failure, in the order of the recordings."""
    results = list(each(PATHS, task, load(), load, jobs))
    assert [path for path, _ in results] == PATHS
    return [
        one.line if isinstance(one, Outcome) else one.sentence for _, one in results
    ]


def test_one_that_fails_stops_none() -> None:
    """It is a sentence with its file's name, a traceback and the system's number."""
    results = dict(each(PATHS, Naming(), load(), load))
    bad, full = results[Path("bad")], results[Path("full")]
    assert isinstance(bad, Failure) and isinstance(full, Failure)
    assert bad.sentence == "bad: it is empty, it has no samples" and bad.number is None
    assert full.sentence.startswith("full: OSError: ") and full.number == 28
    assert "Traceback" in bad.trace
    assert results[Path("e")] == Outcome("model: e", [{"process": os.getpid()}])


def test_a_bug_is_raised() -> None:
    """What no file can cause ends the command."""

    def task(*args: Any) -> Outcome:
        raise KeyError

    with pytest.raises(KeyError):
        list(each(PATHS, task, load(), load))


@pytest.mark.slow
def test_processes_give_the_same_in_the_same_order() -> None:
    """Failures, too; the work is done elsewhere."""
    assert lines(3, Naming()) == lines(1, Naming())
    processes = {
        one.rows[0]["process"]
        for _, one in each(PATHS, Naming(), load(), load, 2)
        if isinstance(one, Outcome)
    }
    assert os.getpid() not in processes and 1 <= len(processes) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["a", "b", "e"])
def test_a_process_that_is_killed_costs_its_recording_alone(killed: str) -> None:
    """Which one it was is found, and the others are done."""
    expected = lines(1, Naming())
    found = lines(2, Naming(killed))
    number = PATHS.index(Path(killed))
    assert found[number].startswith(f"{killed}: a process was ended while")
    assert found[:number] + found[number + 1 :] == (
        expected[:number] + expected[number + 1 :]
    )


def test_jobs_are_one_or_more(capsys: pytest.CaptureFixture[str]) -> None:
    """Any other number is refused."""
    parser = argparse.ArgumentParser()
    add_jobs(parser)
    assert parser.parse_args([]).jobs == 1
    assert parser.parse_args(["--jobs", "4"]).jobs == 4
    for value in (
        "0",
        "-1",
        "many",
        "nan",
        "inf",
        "1e3",
        "",
        "\N{FULLWIDTH DIGIT ZERO}",
    ):
        with pytest.raises(SystemExit):
            parser.parse_args([f"--jobs={value}"])
        assert f"{value!r} is not 1 or more" in capsys.readouterr().err
    for value in ("9" * 10, "9" * 5000):
        with pytest.raises(SystemExit):
            parser.parse_args([f"--jobs={value}"])
        assert "--jobs: it has more than 9 digits" in capsys.readouterr().err
