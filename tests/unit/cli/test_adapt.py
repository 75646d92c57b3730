"""`lmaczs adapt`: its options; the command itself runs in tests/integration."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from lmaczs.cli import build_parser, main
from lmaczs.cli.adapt import add_options
from lmaczs.training.adapt import AdaptOptions


def test_defaults_are_those_of_the_library() -> None:
    """A command without an option does what a call without an option does."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    given = vars(parser.parse_args(["clap", "dest"]))
    for name, value in vars(AdaptOptions()).items():
        if name != "width":
            assert given[{"run_folder": "run"}.get(name, name)] == value


def test_a_mistake_is_one_line_and_nothing_is_written(
    tmp_path: Path, tiny_clap_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1, the option and the fix on stderr."""
    argv = ["adapt", str(tiny_clap_folder), str(tmp_path / "new"), "--device", "cpu"]
    assert main([*argv, "--data", str(tmp_path / "none")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("lmaczs: --data")
    assert "give one that exists" in line
    assert not (tmp_path / "new").exists()


def test_the_command_is_listed() -> None:
    """`lmaczs --help` names it."""
    assert "adapt" in build_parser().format_help()
