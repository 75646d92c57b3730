"""locks.py: one process at a time writes into a folder."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lmaczs.utils.errors import InputError
from lmaczs.utils.locks import locked, made_and_locked, written_alone

HOLD = """
import sys
from pathlib import Path
from lmaczs.utils.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    """Also if that is killed; by whatever name the folder is known. No file is left."""
    folder, link = tmp_path / "out", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    line = [sys.executable, "-c", HOLD, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    for end in ("close", "kill"):
        with subprocess.Popen(line, text=True, **pipes) as process:
            assert process.stdout is not None and process.stdin is not None
            assert process.stdout.readline() == "held\n"
            for place in (folder, link):
                with pytest.raises(InputError, match="another lmaczs writes into it"):
                    with locked(place, patience=0):
                        pass
            if end == "kill":
                process.kill()
            process.stdin.close()
            process.wait()
        with locked(link):
            pass
    assert list(folder.iterdir()) == []


def test_an_error_frees_the_folder(tmp_path: Path) -> None:
    """The next one may write."""
    with pytest.raises(RuntimeError), locked(tmp_path):
        raise RuntimeError
    with locked(tmp_path):
        pass


FORK = """
import os, sys, time
from pathlib import Path
from lmaczs.utils.locks import locked
with locked(Path(sys.argv[1])):
    if not os.fork():
        print("forked", flush=True)
        sys.stdin.read()
        os._exit(0)
    time.sleep(600)
"""


def test_a_process_that_was_forked_does_not_hold(tmp_path: Path) -> None:
    """As those that read clips, which outlive a process that was killed by seconds."""
    line = [sys.executable, "-c", FORK, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(line, text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "forked\n"
        with pytest.raises(InputError), locked(tmp_path, patience=0):
            pass
        process.kill()
        process.wait()
        with locked(tmp_path):
            pass


def test_one_that_is_about_to_end_is_waited_for(tmp_path: Path) -> None:
    """A killed process, and what it forked, may take a moment to be gone."""
    line = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(line, text=True, **pipes) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "held\n"
        close = threading.Timer(0.2, process.stdin.close)
        close.start()
        with locked(tmp_path, patience=60):
            pass
        close.join()


def test_a_folder_that_was_made_in_vain_is_removed(tmp_path: Path) -> None:
    """One that was there, or in which something lies, stays."""
    there, full = tmp_path / "there", tmp_path / "full"
    there.mkdir()
    for folder in (there, full, tmp_path / "new"):
        with made_and_locked(folder):
            with pytest.raises(InputError), locked(folder, patience=0):
                pass
            (full / "a").touch() if folder == full else None
    assert {path.name for path in tmp_path.iterdir()} == {"there", "full"}


def test_a_folder_is_checked_when_nobody_else_can_write_it(tmp_path: Path) -> None:
    """And before. What the check refuses, or others hold, stays as it is."""
    dest, held = tmp_path / "dest", []

    def check() -> None:
        try:
            with locked(tmp_path if not dest.exists() else dest, patience=0):
                held.append(False)
        except InputError:
            held.append(True)

    with written_alone(dest, check) as part:
        (part / "a").write_text("first")
    assert held == [False, True]

    def refuse() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError), written_alone(dest, refuse):
        raise AssertionError
    with locked(dest), pytest.raises(InputError, match="another lmaczs writes"):
        with written_alone(dest, lambda: None):
            raise AssertionError
    assert (dest / "a").read_text() == "first"
    assert list(tmp_path.iterdir()) == [dest]
