"""processes.py: Ctrl-C ends a process of a command, whatever it is at."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from lmaczs.utils.processes import Quietly


def write(path: Path, *lines: str) -> None:
    """Write lines."""
    path.write_text("\n".join(lines))


def begun(path: Path) -> None:
    """Note that it began; then last."""
    path.touch()
    time.sleep(600)


class Slow:
    """What takes its time to be unpickled, as what imports torch does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        """Have `begun` make it."""
        return begun, (self.path,)


def test_arguments_come_in_their_order(tmp_path: Path) -> None:
    """Those of the call are the last."""
    target = Quietly(write, tmp_path / "a", "first")
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=target, args=("second",))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert (tmp_path / "a").read_text() == "first\nsecond"


@pytest.mark.parametrize("at", ["imports", "work"])
def test_an_interrupt_ends_it_in_silence(
    at: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the signal, without a word, also while packages are imported for it."""
    path = tmp_path / "begun"
    call = Quietly(begun, path) if at == "work" else Quietly(print, Slow(path))
    process = multiprocessing.get_context("spawn").Process(target=call, daemon=True)
    process.start()
    while not path.exists():
        assert process.is_alive()
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == -signal.SIGINT
    assert capfd.readouterr() == ("", "")
