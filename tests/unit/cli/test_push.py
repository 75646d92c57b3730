"""`lmaczs push`: its options; the command itself runs in tests/integration."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmaczs.cli import build_parser, main


def test_options() -> None:
    """A folder and a repository; it is public unless it is private."""
    args = build_parser().parse_args(["push", "dest", "me/dogs"])
    assert (args.dest, args.repo) == (Path("dest"), "me/dogs")
    assert not args.private and not args.force


def test_a_folder_that_is_none_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1, nothing on stdout, and no call of the Hub."""
    assert main(["push", str(tmp_path / "gone"), "me/dogs"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert "hyperparams.yaml is missing" in line and "lmaczs export" in line
