"""Benchmarks: their ratios, and that a short run measures what it lists."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of that name, as a script beside it imports it."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from common import timing

    return timing


def test_turns_and_ratios(timing: ModuleType) -> None:
    """Each case once a turn; ratios of one clip's time, per turn, to the first case."""
    lengths = {"a": iter([9, 1, 2, 4]), "b": iter([90, 8, 16, 16])}
    order, now = "", 0

    def work(name: str) -> None:
        nonlocal order, now
        order, now = order + name, now + next(lengths[name])

    cases = [
        timing.Case(name, partial(work, name), clips)
        for name, clips in (("a", 1), ("b", 4))
    ]
    times = timing.in_turns(cases, 3, 60, lambda: now)
    turns = [order[first : first + 2] for first in range(0, 8, 2)]
    assert set(turns) == {"ab", "ba"}
    assert times == {"a": [1, 2, 4], "b": [8, 16, 16]}  # without the first turn
    a, b = timing.rows_of("g", cases, times, {"b": 5.0})
    assert (a.ms, a.ratio, a.spread, a.peak_mib) == (2000, 1, 0, None)
    # of 2, 2 and 1; half of the distance of their quartiles 1.5 and 2
    assert (b.ms, b.ratio, b.spread, b.peak_mib) == (4000, 2, 0.25, 5.0)
    assert timing.markdown([b]).splitlines()[-1].startswith("| g | b | 4 | 4000.00 |")


def test_time_is_limited(timing: ModuleType) -> None:
    """Without time for a second turn the first one counts."""
    cases = [timing.Case("a", list)]
    ticks = count()
    assert timing.in_turns(cases, 9, 0, lambda: next(ticks)) == {"a": [1]}


def test_regressions_beyond_noise(timing: ModuleType, tmp_path: Path) -> None:
    """The last measurement of the same machine counts, and its spread."""

    def measured(ratio: float, spread: float, threads: int = 1) -> list[dict[str, str]]:
        row = timing.Row("calls", "explain", 1, 9.0, ratio, spread, 5, None)
        facts = {"processor": "P", "threads": threads, "lmaczs": "1"}
        return timing.history_rows(facts, "small", "cpu", [row])

    path = tmp_path / "history.csv"
    assert timing.read_history(path) == []
    kept = [*measured(9, 0), *measured(1.3, 0.02), *measured(0.5, 0, threads=2)]
    timing.write_history(path, kept)
    earlier = timing.read_history(path)
    assert earlier == kept
    (line,) = timing.regressions(measured(1.5, 0.02), earlier)
    assert line.startswith("small on cpu, calls, explain: 1.30 on ")
    assert line.endswith("now 1.50")
    assert timing.regressions(measured(1.4, 0), earlier) == []  # less than a tenth
    assert timing.regressions(measured(1.5, 0.06), earlier) == []  # 3 spreads are 0.24
    assert timing.regressions(measured(9, 0, threads=4), earlier) == []  # another one


@pytest.mark.slow
def test_a_short_run(tmp_path: Path) -> None:
    """Every case of the groups has a time, and the ratios are among the results."""
    path = tmp_path / "cost.json"
    argv = ["--clap", "small", "--quick", "--repeats", "1", "--seconds", "0"]
    chosen = ["--groups", "stages, 1", "files", "calls", "--json", str(path)]
    command = [sys.executable, str(BENCHMARKS / "cost.py"), *argv, *chosen]
    printed = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(path.read_text())
    (model,) = found["models"]
    names = {row["name"] for row in model["rows"]}
    assert {"audio encoder", "picture", "fitted", "HF pipeline, 1 label"} <= names
    assert all(row["ms"] > 0 and row["ratio"] > 0 for row in model["rows"])
    assert model["targets"]["explained / classified"] > 0
    assert found["machine"]["threads"] == 1
    assert "| calls | classify |" in printed.stdout


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/fuzz.py as a module."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import fuzz

    return fuzz


@pytest.mark.slow
def test_faulty_files_are_read_or_refused(tmp_path: Path) -> None:
    """500 cases of all faults: a result or an `AudioError`, in time and memory."""
    path = tmp_path / "fuzz.json"
    argv = ["--cases", "500", "--seed", "7", "--json", str(path)]
    command = [sys.executable, str(BENCHMARKS / "fuzz.py"), *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    found = json.loads(path.read_text())
    assert found["failures"] == [] and len(found["formats"]) >= 20
    assert found["slowest_s"] < 5 and found["most_mb"] < 1000
    assert sum(row["tried"] for row in found["rows"]) == 500
    (truncated,) = (row for row in found["rows"] if row["fault"] == "truncated")
    assert truncated["now"].startswith("read with a warning")


def test_a_case_is_made_again_by_its_number(fuzz: ModuleType) -> None:
    """The same seed and number give the same file, others another one."""
    files = fuzz.whole_files()
    one, same, other = (fuzz.faulty_file(files, 0, number).data for number in (5, 5, 6))
    assert one == same != other


def test_what_fails_is_found(fuzz: ModuleType, tmp_path: Path) -> None:
    """What is shorter than it is to be, without a warning, and what is ended."""
    path = tmp_path / "a.wav"
    (whole,) = (one for one in fuzz.whole_files() if one.name == "AU")
    path.write_bytes(whole.data)
    assert fuzz.outcome(path, whole) == "read"
    whole.seconds = 1.0
    text = "a part is missing without a word: 0.60 of 1.00 s"
    assert fuzz.outcome(path, whole) == f"FAILED: {text}"
    found = fuzz.summary(
        {
            3: ("AU", "joined", "read", 0.5, 7.0),
            4: ("WAV", "joined", "FAILED: beyond 5 s: it was ended", 9.0, 1.0),
        }
    )
    (failure,) = found["failures"]
    assert failure == {
        "case": 4,
        "format": "WAV",
        "fault": "joined",
        "what": "beyond 5 s: it was ended",
    }
    (row,) = fuzz.rows(found, {"faults": {"joined": {"refused": 1, "read": 3}}})
    assert (row["tried"], row["now"]) == (2, "read 50.0 %, beyond 5 s 50.0 %")
    assert row["before"] == "read 75.0 %, refused 25.0 %"


@pytest.mark.slow
def test_search_is_measured() -> None:
    """In a small corpus that is made: both ways find most of the same clips."""
    words = [sys.executable, str(BENCHMARKS / "search.py"), "--clips", "12000"]
    done = subprocess.run([*words, "--size", "16"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "12000 clips, embeddings of 16 numbers" and len(lines) == 5
    share = int(lines[4].split(", ")[1].split()[0])
    assert lines[4].startswith("FAISS ") and share >= 50


def test_the_table_of_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heading for each script, a row for each fault; text stays in its cell."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import faults_table

    row = {"fault": "cut", "how": "a | b", "tried": 3, "before": "-", "now": "3\nread"}
    page = faults_table.page({"Recordings": [row], "Training": []})
    lines = page.splitlines()
    assert "| cut | a \\| b | 3 | - | 3 read |" in lines
    assert [line for line in lines if line.startswith("## ")] == [
        "## Recordings",
        "## Training",
    ]
    for script, *_ in faults_table.SCRIPTS.values():
        assert (BENCHMARKS / script).is_file()
