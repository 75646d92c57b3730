"""terminal.py: what is printed where."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmaczs.cli.terminal import complain, note, one_line, say, shown
from lmaczs.utils.errors import InputError


def test_results_and_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    """Results are on stdout, notes and errors on stderr, a line each."""
    say("a")
    note("b")
    complain("c", "Traceback")
    assert capsys.readouterr() == ("a\n", "lmaczs: note: b\nlmaczs: c\n")


def test_a_name_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Colours, a cursor that moves, a bell: they are shown, and other words stay."""
    name = "a\x1b[31m\r\x07\x9b2J é\t\N{SNOWMAN}\n.wav"
    seen = "a\\x1b[31m\\r\\x07\\x9b2J é\t\N{SNOWMAN}\n.wav"
    assert shown(name) == seen
    for print_it in (say, note, complain):
        print_it(name)
    assert capsys.readouterr() == (
        f"{seen}\n",
        f"lmaczs: note: {seen}\nlmaczs: {seen}\n",
    )


def test_an_error_is_one_line_with_its_file() -> None:
    """The file is named once; what is no sentence of ours, by its kind."""
    path = Path("a.wav")
    assert one_line(ValueError("a\n b")) == "a b"
    assert one_line(ValueError("a.wav: bad"), path) == "a.wav: bad"
    assert one_line(OSError("bad"), path) == "a.wav: OSError: bad"
    assert one_line(InputError("bad"), path) == "a.wav: bad"
    assert one_line(MemoryError()) == "MemoryError"
