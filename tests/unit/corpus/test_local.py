"""local.py: processes of this machine, and what happens when they are ended."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lmaczs.corpus.engines import ATTEMPTS, Counts, Lost
from lmaczs.corpus.local import run_local
from lmaczs.utils.errors import InputError, LmaczsError

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Making:
    """Makes work that notes each attempt, and ends its process at some of them.

    `ends`: how many of the first attempts at a block end the process.
    """

    folder: Path
    ends: dict[int, int]

    def __call__(self) -> Callable[[int], Counts]:
        """Refuse, where block -1 is to end."""
        if -1 in self.ends:
            raise InputError("this model cannot be loaded")
        return self.work

    def work(self, block: int) -> Counts:
        """Note the attempt; then end, or be done."""
        number = len(list(self.folder.glob(f"{block}-*")))
        (self.folder / f"{block}-{number}-{os.getpid()}").touch()
        Path(tempfile.mkdtemp(), "copy.wav").write_bytes(b"x")
        if number < self.ends.get(block, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return Counts(block, 1, 0, 0, 0)

    def attempts(self) -> Counter[int]:
        """Of each block."""
        return Counter(int(one.name.split("-")[0]) for one in self.folder.iterdir())


def test_every_block_is_done_once(tmp_path: Path) -> None:
    """By as many processes as are wanted, none of which is this one."""
    making = Making(tmp_path, {})
    results = list(run_local(range(12), making, 3))
    assert sorted(one.block for one in results) == list(range(12))
    assert making.attempts() == dict.fromkeys(range(12), 1)
    processes = {one.name.split("-")[2] for one in tmp_path.iterdir()}
    assert str(os.getpid()) not in processes and len(processes) <= 3


def test_a_process_that_is_ended_costs_no_block(tmp_path: Path) -> None:
    """Its block is done by another; only what ends each of them is lost."""
    making = Making(tmp_path, {0: 1, 3: 2, 5: ATTEMPTS, 7: 1})
    results = {one.block: one for one in run_local(range(9), making, 2)}
    assert sorted(results) == list(range(9))
    lost = [one for one in results.values() if isinstance(one, Lost)]
    assert [one.block for one in lost] == [5] and "ended, each time" in lost[0].reason
    expected = dict.fromkeys(range(9), 1) | {0: 2, 3: 3, 5: ATTEMPTS, 7: 2}
    assert making.attempts() == expected


def test_temporary_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of processes that were ended, too, by themselves or because work stops."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    making = Making(tmp_path / "notes", {0: 1, 1: ATTEMPTS})
    making.folder.mkdir()
    assert len(list(run_local(range(3), making, 2))) == 3
    stopped = run_local(range(3, 9), making, 2)
    next(stopped)
    assert list((tmp_path / "temporary").iterdir())
    stopped.close()
    assert not list((tmp_path / "temporary").iterdir())


def test_a_model_that_cannot_be_loaded_ends_it(tmp_path: Path) -> None:
    """With its sentence, and no process is left."""
    with pytest.raises(LmaczsError, match="this model cannot be loaded"):
        list(run_local(range(4), Making(tmp_path, {-1: 1}), 2))
    assert not list(tmp_path.iterdir())


def test_processes_that_always_end_are_given_up(tmp_path: Path) -> None:
    """Before all blocks have been tried: the machine is the reason."""
    making = Making(tmp_path, dict.fromkeys(range(50), 99))
    with pytest.raises(LmaczsError, match="is there memory enough"):
        list(run_local(range(50), making, 1))
    assert sum(making.attempts().values()) == ATTEMPTS + 1
