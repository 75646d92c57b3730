"""Ctrl-C while a program imports: one line, whatever the import makes of it."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = "import lmaczs.utils.early\nimport slow\n"
SLOW = "import time\nprint('reading', flush=True)\ntime.sleep(100)\n"
SWALLOWED = """\
import time
try:
    print('reading', flush=True)
    time.sleep(100)
except BaseException:
    pass
no_such_name
"""


def stopped(folder: Path, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program, and interrupt it while it imports a module."""
    (folder / "program.py").write_text(PROGRAM)
    (folder / "slow.py").write_text(module)
    command = [sys.executable, str(folder / "program.py"), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=ROOT, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, "", errors)


@pytest.fixture(autouse=True)
def this_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a program elsewhere finds it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize(("module", "status"), [(SLOW, -2), (SWALLOWED, 1)])
def test_one_line(tmp_path: Path, module: str, status: int) -> None:
    """Also where a module turns the interrupt into an error of its own."""
    done = stopped(tmp_path, module)
    assert done.stderr == "program.py: stopped by SIGINT\n"
    assert done.returncode == status


def test_verbose_shows_the_traceback(tmp_path: Path) -> None:
    """As of every other error."""
    done = stopped(tmp_path, SLOW, "--verbose")
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("KeyboardInterrupt\n")


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    """Nothing is hidden that no interrupt has caused."""
    (tmp_path / "program.py").write_text("import lmaczs.utils.early\nno_such_name\n")
    command = [sys.executable, str(tmp_path / "program.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert "NameError: name 'no_such_name'" in done.stderr


@pytest.mark.parametrize(("given", "shown"), [(None, False), ("0", True)])
def test_no_progress_is_shown_in_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, shown: bool
) -> None:
    """Of models that transformers loads; unless a user wants it."""
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    if given is not None:
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", given)
    text = (
        "import lmaczs.utils.early\n"
        "from transformers.utils.logging import is_progress_bar_enabled\n"
        "print(is_progress_bar_enabled())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout == f"{shown}\n"


PROGRAMS = [
    ROOT / "lmaczs" / "__main__.py",
    *(p for p in ROOT.glob("recipes/*.py") if "run_recipe(" in p.read_text()),
]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_every_program_imports_it_first(path: Path) -> None:
    """Before torch and SpeechBrain, which take the time."""
    found = [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    first = [node for node in found if getattr(node, "module", "") != "__future__"][0]
    assert [name.name for name in first.names] == ["lmaczs.utils.early"]
