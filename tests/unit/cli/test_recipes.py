"""`lmaczs train` and `lmaczs evaluate`: which YAML they take, and what they run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lmaczs.cli import build_parser, main
from lmaczs.cli.recipes import yaml_path
from lmaczs.utils.errors import InputError

ROOT = Path(__file__).parents[3]
Capture = pytest.CaptureFixture[str]


def test_a_yaml_is_a_file_or_one_that_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of one's own comes first; mistyped names are answered with those known."""
    monkeypatch.chdir(tmp_path)
    shipped = ROOT / "hparams" / "esc50.yaml"
    for name in ("esc50", "esc50.yaml", "hparams/esc50.yaml"):
        assert yaml_path(name) == shipped
    (tmp_path / "esc50.yaml").touch()
    assert yaml_path("esc50.yaml") == Path("esc50.yaml")
    for name in ("esc51", "elsewhere/esc50.yaml"):
        with pytest.raises(InputError, match=f"no YAML {name}; shipped are .*esc50, "):
            yaml_path(name)


def test_all_other_words_are_the_recipes() -> None:
    """Keys of the YAML and SpeechBrain's options are not read here."""
    words = ["train", "esc50", "--data_folder=ESC50", "--device", "cpu", "--debug"]
    assert build_parser().parse_args(words).options == words[2:]


def test_only_the_yaml_has_to_be_given(capsys: Capture) -> None:
    """Nothing else is named as missing."""
    with pytest.raises(SystemExit):
        main(["train"])
    assert capsys.readouterr().err.endswith("arguments are required: YAML\n")


def test_a_yaml_that_is_not_there_is_one_line_and_status_2(capsys: Capture) -> None:
    """It names those that are shipped."""
    assert main(["evaluate", "evaluation"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lmaczs: there is no YAML evaluation; shipped are adapt, ")


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_users_error_ends_as_in_the_recipe(command: str, capsys: Capture) -> None:
    """One sentence and status 1; the command line of the process is left alone."""
    before = list(sys.argv)
    with pytest.raises(SystemExit) as ended:
        main([command, {"train": "esc50"}.get(command, command), "--no_such_key=1"])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{command}.py: ") and "no key no_such_key" in line
    assert sys.argv == before
