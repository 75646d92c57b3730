"""explaining.py: a recording and prompts become one page."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch

from lmaczs import ZeroShotInterpreter
from lmaczs.app.explaining import explained_page
from lmaczs.audio.io import Recording
from lmaczs.clap import FrozenClap


@pytest.fixture(scope="module")
def interpreter(tiny_clap_folder: Path) -> ZeroShotInterpreter:
    """A CLAP of random weights, without a decoder."""
    return ZeroShotInterpreter.from_clap(tiny_clap_folder)


@pytest.mark.parametrize("contrast", [False, True])
def test_the_page_is_all_that_is_left(
    interpreter: ZeroShotInterpreter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    contrast: bool,
) -> None:
    """Pictures and sounds are in it; its name and prompts are text, not HTML."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    wav = torch.rand(16000, generator=torch.manual_seed(0)) - 0.5
    prompts, name = ["a dog", "<b>rain</b>"], "<i>.wav"
    sent = Recording(wav, ("it is truncated",))
    page = explained_page(interpreter, sent, prompts, name, 1, contrast)
    assert page.count("it is truncated") >= 2
    assert list(tmp_path.iterdir()) == []
    assert page.count('role="tab" id=') == 2 and 'id="data-1"' in page
    assert "&lt;b&gt;rain&lt;/b&gt;" in page and "<b>rain" not in page
    assert "&lt;i&gt;.wav" in page and "<i>.wav" not in page
    assert ("above" in page or "below “" in page) or not contrast


def test_the_model_is_that_of_the_interpreter(
    interpreter: ZeroShotInterpreter, tiny_clap: FrozenClap
) -> None:
    """The page names it."""
    wav = torch.rand(16000, generator=torch.manual_seed(0)) - 0.5
    page = explained_page(interpreter, Recording(wav), ["a dog"], "a.wav", 1)
    assert f"model {interpreter.hparams.model_name}" in page
