import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from lmaczs.utils.errors import nearest

Run = Any  # a function that runs words; its path is the recipe's

RECIPE = """
import errno, time
from lmaczs.utils.errors import InputError, run_recipe

def main(argv):
    if argv == ["bad"]:
        raise InputError("file.wav: no sound\\nin it")
    if argv == ["missing"]:
        open("there/is/none")
    if argv == ["full"]:
        raise OSError(errno.ENOSPC, "No space left on device", "out/test.json")
    if argv == ["wait"]:
        print("waits", flush=True)
        time.sleep(600)
    if argv == ["bug"]:
        raise ValueError("a bug")
    if argv == ["numpy"]:
        import numpy
        numpy.empty(1 << 50)
    if argv == ["torch"]:
        import torch
        torch.empty(1 << 50)
    return argv

run_recipe(main, print)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Run:
    """Write a recipe, to be run with some words."""
    path = tmp_path / "recipe.py"
    path.write_text(textwrap.dedent(RECIPE))

    def run(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(path), *words]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(command, capture_output=True, text=True, env=env)

    run.path = path  # type: ignore[attr-defined]
    return run


def test_result_is_shown(recipe: Run) -> None:
    """What main returns is shown; --verbose does not reach it."""
    ended = recipe("a", "--verbose")
    assert ended.returncode == 0
    assert ended.stdout == "['a']\n"


@pytest.mark.parametrize(
    ("word", "message"), [("bad", "file.wav: no sound in it"), ("missing", "there/is")]
)
def test_errors_of_the_user_are_one_line(recipe: Run, word: str, message: str) -> None:
    """An error that a user can cause is one line; --verbose gives its traceback."""
    ended = recipe(word)
    assert ended.returncode == 1
    assert ended.stderr.startswith("recipe.py: ")
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "Traceback" in recipe(word, "--verbose").stderr


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_too_little_memory_is_one_line(recipe: Run, library: str) -> None:
    """How much was wanted, and what to lower."""
    ended = recipe(library)
    assert ended.returncode == 1
    assert ended.stderr.startswith("recipe.py: memory ran out (")
    assert "llocate" in ended.stderr and "lower --batch_size" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_full_disk_is_named_with_the_fix(recipe: Run) -> None:
    """Not by number, but by what to do."""
    text = "recipe.py: out/test.json: No space left on device; make room, then give "
    assert recipe("full").stderr == f"{text}the same line again\n"


@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_in_one_line(recipe: Run, number: str, status: int) -> None:
    """With the status that shells have for it."""
    command = [sys.executable, str(recipe.path), "wait"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=env, **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(getattr(signal, number))
        _, errors = process.communicate(timeout=300)
    assert process.returncode == status
    text = f"recipe.py: stopped by {number}; the same line resumes from what is saved"
    assert errors == f"{text}\n"


def test_bugs_keep_their_traceback(recipe: Run) -> None:
    """An error that is not the user's shows where it happened."""
    assert "Traceback" in recipe("bug").stderr


def test_the_nearest_name_is_part_of_a_sentence() -> None:
    """Where one is near, whatever its case; nothing is added where none is."""
    names = ["energy", "RISE"]
    assert nearest("risee", names) == ": did you mean 'RISE'?"
    assert nearest("enrgy", names) == ": did you mean 'energy'?"
    assert nearest("LIME", names) == nearest(3, names) == ""
