"""The decoder that a fine-tuning starts from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from lmaczs import default_source
from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.metrics.faithfulness import MEANINGS
from lmaczs.training.finetuning import comparison, load_pretrained_decoder, start_from
from lmaczs.utils.errors import InputError


def test_the_embedded_default() -> None:
    """Its own weights, free to learn; the CLAP is frozen and its folder known."""
    start = load_pretrained_decoder()
    folder = Path(default_source())
    saved = load_file(folder / "decoder.safetensors")
    state = start.decoder.state_dict()
    assert all(torch.equal(state[name], value) for name, value in saved.items())
    assert all(one.requires_grad for one in start.decoder.parameters())
    assert not any(one.requires_grad for one in start.clap.parameters())
    assert Path(start.clap_source).is_absolute()
    assert (Path(start.clap_source) / "config.json").is_file()
    values = yaml.safe_load((folder / "hyperparams.yaml").read_text().split("clap:")[0])
    for name in ("domain", "width", "template"):
        assert getattr(start, name) == values[name]


def test_folders_that_are_none(tmp_path: Path) -> None:
    """A folder without a decoder, and one whose YAML lacks what is needed."""
    with pytest.raises(FileNotFoundError, match=r"holds no hyperparams\.yaml"):
        load_pretrained_decoder(tmp_path)
    default = Path(default_source())
    shutil.copytree(default, tmp_path / "decoder")
    (tmp_path / "decoder/interpreter.json").unlink()
    text = (default / "hyperparams.yaml").read_text().replace("width: 32\n", "")
    text = text.replace("width: !ref <width>", "width: 32")
    text = text.replace("../clap_small", str(default.parent / "clap_small"))
    (tmp_path / "decoder/hyperparams.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"--source=.*has no width.*lmaczs export"):
        load_pretrained_decoder(tmp_path / "decoder")


def test_a_new_decoder_starts_from_a_trained_one(tiny_clap: FrozenClap) -> None:
    """It gets the weights; without a source it keeps its own."""
    start = load_pretrained_decoder()
    new = MaskDecoder(start.clap)
    before = {name: value.clone() for name, value in new.state_dict().items()}
    assert start_from(new, start.clap) is new
    assert all(torch.equal(before[k], v) for k, v in new.state_dict().items())
    assert start_from(new, start.clap, default_source()) is new
    trained = start.decoder.state_dict()
    assert all(torch.equal(trained[k], v) for k, v in new.state_dict().items())


def test_a_start_that_does_not_fit(tiny_clap: FrozenClap) -> None:
    """Another CLAP's, or another width: a sentence that names the option."""
    source = default_source()
    with pytest.raises(InputError, match="decoder_source=.* explains another CLAP"):
        start_from(MaskDecoder(tiny_clap), tiny_clap, source)
    clap = load_pretrained_decoder().clap
    with pytest.raises(InputError, match="stft domain of .*, but the YAML makes"):
        start_from(MaskDecoder(clap, width=16), clap, source)


def test_a_comparison_is_of_a_number_of_clips_and_has_a_legend() -> None:
    """A line before and one after, of the metrics that both have, each explained."""
    before = {"FF": 0.25, "AI": 50.0, "loss": 2.0, "epoch": 1, "MM": 0.5}
    after = {**before, "FF": 0.5}
    del after["MM"]
    title, header, *lines = comparison(before, after, 12).splitlines()
    assert title == "Means over the 12 clips of the split test:"
    assert header.split() == ["AI", "FF", "loss"]
    assert lines[0].split() == ["before", "50.000", "0.250", "2.000"]
    assert lines[1].split() == ["after", "50.000", "0.500", "2.000"]
    notes = " ".join(lines[2:])
    for name in ("AI", "FF", "loss"):
        assert f"{name}: {MEANINGS[name]}" in notes
    assert "MM" not in notes
