"""The decoder that a fine-tuning starts from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from lmaczs import default_source
from lmaczs.training.finetuning import load_pretrained_decoder


def test_the_embedded_default() -> None:
    """Its own weights, free to learn; the CLAP is frozen and its folder known."""
    start = load_pretrained_decoder()
    folder = Path(default_source())
    saved = torch.load(folder / "decoder.ckpt", weights_only=True)
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
    text = (default / "hyperparams.yaml").read_text().replace("width: 32\n", "")
    text = text.replace("width: !ref <width>", "width: 32")
    text = text.replace("../clap_small", str(default.parent / "clap_small"))
    (tmp_path / "decoder/hyperparams.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"--source=.*has no width.*lmaczs export"):
        load_pretrained_decoder(tmp_path / "decoder")
