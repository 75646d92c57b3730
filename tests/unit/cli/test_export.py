"""`lmaczs export`: which options go together; its results are test_onnx.py's."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmaczs.cli import main


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["default", "--prompt", "rain"], "--prompt is for --onnx"),
        (["no_such_model", "--onnx"], "--source no_such_model: there is no folder"),
        (["taken", "--onnx"], "taken: no training run"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The option or folder is named, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    Path("taken", "save").mkdir(parents=True)
    run, *options = words
    assert main(["export", run, "dest", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lmaczs: {sentence}")
    assert not Path("dest").exists()
