"""Where fine-tuning starts, and the table of what it changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from lmaczs import default_source
from lmaczs.training.finetuning import comparison, load_starting_point


def test_the_embedded_default() -> None:
    """Its own weights, free to learn; the CLAP is frozen and its folder known."""
    start = load_starting_point()
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
        load_starting_point(tmp_path)
    default = Path(default_source())
    shutil.copytree(default, tmp_path / "decoder")
    text = (default / "hyperparams.yaml").read_text().replace("width: 32\n", "")
    text = text.replace("width: !ref <width>", "width: 32")
    text = text.replace("../clap_small", str(default.parent / "clap_small"))
    (tmp_path / "decoder/hyperparams.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"--source=.*has no width.*lmaczs export"):
        load_starting_point(tmp_path / "decoder")


def test_comparison() -> None:
    """A line before, a line after, a column for each metric that both have."""
    before = {"FF": 0.25, "AD": 12.3456, "loss": 1.0, "MM": 0.5}
    lines = comparison(before, {"AD": 10.0, "FF": 0.5, "loss": 0.875}).splitlines()
    assert [line.split() for line in lines] == [
        ["AD", "FF", "loss"],
        ["before", "12.346", "0.250", "1.000"],
        ["after", "10.000", "0.500", "0.875"],
    ]
    assert len({len(line) for line in lines}) == 1
