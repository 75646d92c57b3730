"""``python -m lmaczs`` is the command line."""

from __future__ import annotations

import subprocess
import sys

from lmaczs import __version__


def test_the_package_runs_as_a_program() -> None:
    """Its status and output are those of the command."""
    run = [sys.executable, "-m", "lmaczs"]
    done = subprocess.run([*run, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, f"lmaczs {__version__}")
    done = subprocess.run([*run, "nothing"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "lmaczs: error: argument COMMAND: invalid choice: 'nothing'" in done.stderr
