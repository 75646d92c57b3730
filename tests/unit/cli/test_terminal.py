"""terminal.py: what is printed where."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmaczs.cli.terminal import complain, note, one_line, say
from lmaczs.utils.errors import InputError


def test_results_and_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    """Results are on stdout, notes and errors on stderr, a line each."""
    say("a")
    note("b")
    complain("c", "Traceback")
    assert capsys.readouterr() == ("a\n", "lmaczs: note: b\nlmaczs: c\n")


def test_an_error_is_one_line_with_its_file() -> None:
    """The file is named once; what is no sentence of ours, by its kind."""
    path = Path("a.wav")
    assert one_line(ValueError("a\n b")) == "a b"
    assert one_line(ValueError("a.wav: bad"), path) == "a.wav: bad"
    assert one_line(OSError("bad"), path) == "a.wav: OSError: bad"
    assert one_line(InputError("bad"), path) == "a.wav: bad"
    assert one_line(MemoryError()) == "MemoryError"
