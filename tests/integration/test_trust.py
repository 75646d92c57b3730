"""A CLAP whose weights are pickles alone: what every command and recipe says of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from lmaczs.audio.io import save_audio
from lmaczs.clap import FrozenClap
from lmaczs.clap_checkpoint import ClapError
from lmaczs.cli import main
from lmaczs.decoder import MaskDecoder
from lmaczs.training.export import write_model
from lmaczs.utils.options import load_part, parse_options

ROOT = Path(__file__).parents[2]
SENTENCE = r"weights in a pickle \(pytorch_model.bin\).*add --trust-remote-code"
COMMANDS = {
    "interpret": "interpret dog.wav --prompt dog --source model --out {out}",
    "interpret a CLAP": "interpret dog.wav --prompt dog --clap model/clap --out {out}",
    "classify": "classify dog.wav --label dog --label rain --source model",
    "scan": "scan dog.wav --prompt dog --source model --out {out}",
    "prompts": "prompts dog.wav --prompts prompts.txt --source model",
    "adapt": "adapt model/clap {out}/dest --epochs 1",
}
OURS, CLIPS = "--source=model", "--manifest=clips.csv"
THEIRS = "--clap_source=model/clap"
RECIPES = {
    "evaluate": ("evaluate", OURS, CLIPS),
    "quality": ("quality", OURS, CLIPS),
    "frechet": ("frechet", "--sets={a: clips.csv, b: clips.csv}", THEIRS),
    "finetune": ("train", OURS, CLIPS),
    "captions": ("train", THEIRS, CLIPS),
}
"""YAML -> recipe and options."""


@pytest.fixture(scope="module")
def here(
    tiny_clap: FrozenClap,
    tiny_clap_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A decoder whose CLAP has pickles alone; two clips, a list of them, a prompt."""
    folder = tmp_path_factory.mktemp("trust")
    clap = Path(shutil.copytree(tiny_clap_folder, folder / "model" / "clap"))
    weights = clap / "model.safetensors"
    torch.save(load_file(weights), clap / "pytorch_model.bin")
    weights.unlink()
    torch.manual_seed(0)
    state = MaskDecoder(tiny_clap, width=8).state_dict()
    write_model(folder / "model", state, "clap", "tiny", "stft", 8, "I hear {}.")
    noise = np.random.default_rng(0).normal(scale=0.1, size=(4, 32000))
    labels = ["dog", "rain", "dog", "rain"]
    for name, wav in zip(("dog", "rain", "dog2", "rain2"), noise, strict=True):
        save_audio(folder / f"{name}.wav", wav, 32000)
    paths = [f"{name}.wav" for name in ("dog", "rain", "dog2", "rain2")]
    table = pd.DataFrame({"path": paths, "label": labels})
    table.to_csv(folder / "clips.csv", index=False)
    (folder / "prompts.txt").write_text("dog\n")
    return folder


@pytest.mark.parametrize("line", COMMANDS.values(), ids=list(COMMANDS))
def test_a_command_names_an_option_that_it_has(
    line: str,
    here: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One sentence; with the option, the model is loaded."""
    monkeypatch.chdir(here)
    words = line.format(out=tmp_path).split()
    assert main(words) != 0
    error = capsys.readouterr().err
    assert "weights in a pickle (pytorch_model.bin)" in error
    assert "add --trust-remote-code" in error and error.count("\n") == 1
    if words[0] != "adapt":  # which would train
        assert main([*words, "--trust-remote-code"]) == 0


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_an_option_that_it_has(
    name: str,
    here: Path,
    tmp_path: Path,
    recipe: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same sentence, and the same option."""
    monkeypatch.chdir(here)
    script, *options = RECIPES[name]
    argv = [str(ROOT / f"hparams/{name}.yaml"), *options]
    argv.append(f"--output_folder={tmp_path / 'out'}")
    with pytest.raises(ClapError, match=SENTENCE):
        recipe(script).main(argv)
    argv.append("--trust-remote-code")
    file, _, given = parse_options(argv)
    part = load_part(file, given, ["clap", "trust_remote_code"])
    assert part["trust_remote_code"] is True
    if script == "train":
        assert isinstance(part["clap"], FrozenClap)
    if script == "frechet":
        assert len(recipe(script).main(argv)) == 1
