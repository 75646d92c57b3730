"""A CLAP built from parts, saved, and loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import ClapAudioConfig, ClapFeatureExtractor
from transformers.models.clap.modeling_clap import ClapAudioModel

from lmaczs.clap import FrozenClap
from lmaczs.distillation.model import build_clap, load_clap, save_clap, spread_by_fan_in
from lmaczs.distillation.text_tower import load_text_tower

AUDIO = {
    "spec_size": 128,
    "num_mel_bins": 64,
    "patch_size": 8,
    "patch_stride": [8, 8],
    "window_size": 4,
    "patch_embeds_hidden_size": 16,
    "hidden_size": 64,
    "depths": [1, 1, 1],
    "num_attention_heads": [2, 4, 8],
}


def make_extractor(**changes: Any) -> ClapFeatureExtractor:
    """Front end of the embedded default, or one that differs from it."""
    numbers = {
        "feature_size": 64,
        "sampling_rate": 32000,
        "hop_length": 640,
        "fft_window_size": 2048,
        "max_length_s": 5,
        "frequency_min": 50,
        "truncation": "rand_trunc",
    }
    return ClapFeatureExtractor(**{**numbers, **changes})


# --- from parts ---------------------------------------------------------------------


def test_build_clap(tiny_text_tower_folder: Path) -> None:
    """The text tower is the one in the folder, the audio tower as configured."""
    model, tokenizer = build_clap(AUDIO, make_extractor(), str(tiny_text_tower_folder))
    *_, state, _ = load_text_tower(tiny_text_tower_folder)
    built = model.state_dict()
    assert len(state) > 10
    assert all(torch.equal(built[name], value) for name, value in state.items())
    assert model.config.audio_config.depths == [1, 1, 1]
    assert model.config.projection_dim == 32
    assert tokenizer("dog").input_ids[0] == 0


def test_front_end_that_does_not_fit(tiny_text_tower_folder: Path) -> None:
    """Extractor and audio tower must speak of the same mel bands."""
    audio = {**AUDIO, "num_mel_bins": 32}
    with pytest.raises(ValueError, match="has 64 mel bands, audio_config 32"):
        build_clap(audio, make_extractor(), str(tiny_text_tower_folder))


def test_folder_without_text_tower(tmp_path: Path) -> None:
    """A folder that holds no text tower is named."""
    with pytest.raises(ValueError, match=f"{tmp_path} is no text tower"):
        build_clap(AUDIO, make_extractor(), str(tmp_path))


def test_weights_are_spread_by_the_width_of_each_layer() -> None:
    """Deviation: one by the root of a layer's inputs, less where a block adds."""
    torch.manual_seed(0)
    audio = {**AUDIO, "patch_embeds_hidden_size": 32, "hidden_size": 128}
    tower = ClapAudioModel(ClapAudioConfig(**audio))
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    spread_by_fan_in(tower, blocks=8)
    drawn, added = set(), set()
    for name, layer in tower.named_modules():
        if not isinstance(layer, (nn.Linear, nn.Conv2d)):
            continue
        inputs = layer.weight.numel() / len(layer.weight)
        expected = inputs**-0.5
        if name.endswith(".output.dense"):
            expected /= 4
            added.add(name)
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.1), name
        assert abs(layer.weight.mean().item()) < 0.1 * expected, name
        drawn.add(f"{name}.weight")
    after = tower.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == drawn
    assert len(added) == 6  # attention and feed-forward layer of three blocks


def test_new_layers_are_spread(tiny_text_tower_folder: Path) -> None:
    """Audio tower and projection: by width and, where a block adds, by their number."""
    torch.manual_seed(0)
    model, _ = build_clap(AUDIO, make_extractor(), str(tiny_text_tower_folder))
    tower = model.audio_model.audio_encoder
    last = tower.layers[2].blocks[0].output.dense.weight  # of 256 inputs
    assert tower.patch_embed.proj.weight.std().item() == pytest.approx(1 / 8, rel=0.1)
    assert last.std().item() == pytest.approx(1 / 16 / 6**0.5, rel=0.1)
    projection = model.audio_projection.linear1.weight  # of 64 inputs
    assert projection.std().item() == pytest.approx(1 / 8, rel=0.1)


# --- loaded -----------------------------------------------------------------


def test_load_clap_is_what_was_saved(
    tiny_text_tower_folder: Path, tmp_path: Path
) -> None:
    """Weights within half precision, in single precision, front end and tokenizer."""
    extractor = make_extractor()
    model, tokenizer = build_clap(AUDIO, extractor, str(tiny_text_tower_folder))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save_clap(tmp_path / "new" / "clap", model, extractor, tokenizer)
    loaded, theirs, words = load_clap(tmp_path / "new" / "clap")
    assert theirs.to_dict() == extractor.to_dict()
    after = loaded.state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert after[name].dtype == value.dtype
        torch.testing.assert_close(after[name], value, atol=1e-4, rtol=1e-3)
    assert words("dog bark").input_ids == tokenizer("dog bark").input_ids
    size = (tmp_path / "new" / "clap" / "model.safetensors").stat().st_size
    assert size < 2.2 * sum(value.numel() for value in before.values())
    assert FrozenClap.from_pretrained(tmp_path / "new" / "clap").embedding_dim == 32


def test_load_clap_refuses_a_fused_one(make_clap_folder: Callable[..., Path]) -> None:
    """Four channels are not what the clips are."""
    folder = make_clap_folder(fused=True)
    with pytest.raises(ValueError, match=f"source: {folder} is a fused CLAP"):
        load_clap(folder)
