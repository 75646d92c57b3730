"""cli/serve.py: address and limits of the app."""

from __future__ import annotations

import argparse
import sys

import pytest

from lmaczs.app.limits import Limits
from lmaczs.cli import main
from lmaczs.cli.serve import add_options, limits_of


def parsed(*words: str) -> argparse.Namespace:
    """Options of a command line."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(words)


def test_loopback_unless_told() -> None:
    """And the limits of the app unless others are given."""
    args = parsed()
    assert (args.host, args.port) == ("127.0.0.1", 7860)
    assert limits_of(args) == Limits()
    words = "--max-seconds 7.5 --max-megabytes 2 --max-prompts 3 --max-waiting 4"
    found = limits_of(parsed(*words.split()))
    assert found == Limits(megabytes=2, seconds=7.5, prompts=3, waiting=4)
    assert type(found.prompts) is int


@pytest.mark.parametrize("option", ["prompts", "waiting", "seconds", "megabytes"])
@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", "-1", "0", "1e400", "1e30", "five"]
)
def test_what_is_no_limit_is_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the option's name, before anything is loaded."""
    assert_refused(capsys, f"--max-{option}", value)


@pytest.mark.parametrize("value", ["0", "-1", "65536", "five", "nan", "9" * 20])
def test_what_is_no_port_is_refused(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also 0, which is any port to other programs."""
    assert_refused(capsys, "--port", value)


def assert_refused(capsys: pytest.CaptureFixture[str], option: str, value: str) -> None:
    """Status 2, and one sentence that names the option."""
    with pytest.raises(SystemExit, match="2"):
        parsed(f"{option}={value}")
    assert f"error: argument {option}: " in capsys.readouterr().err.splitlines()[-1]


def test_the_help_states_the_limits(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that hold where none is given."""
    with pytest.raises(SystemExit):
        parsed("--help")
    text = " ".join(capsys.readouterr().out.split())
    limits = {"megabytes": 50, "seconds": 60, "prompts": 8, "waiting": 20}
    for name, value in limits.items():
        assert getattr(Limits(), name) == value
        assert (
            f"(default: {value})" in text.split(f"--max-{name} N ")[-1].split("--")[0]
        )


def test_a_missing_gradio_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the model is loaded: status 2, and how to install it."""
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["serve", "--source", "nowhere"]) == 2
    error = capsys.readouterr().err
    assert 'pip install -e ".[app]"' in error and error.count("\n") == 1
