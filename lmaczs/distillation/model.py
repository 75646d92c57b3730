"""A small CLAP in Hugging Face's classes: build, load and save."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    PreTrainedTokenizerBase,
)

from lmaczs.clap_checkpoint import load_checkpoint
from lmaczs.distillation.text_tower import load_text_tower
from lmaczs.utils.errors import InputError


def build_clap(
    audio_config: dict[str, Any], extractor: ClapFeatureExtractor, text_tower: str
) -> tuple[ClapModel, PreTrainedTokenizerBase]:
    """Build a ClapModel with a new audio tower and a trained text tower.

    `audio_config` are arguments of ClapAudioConfig, with as many mel bands as the
    extractor; `text_tower` is a folder that recipes/train_text.py wrote. Also gives its
    tokenizer.
    """
    if extractor.feature_size != audio_config["num_mel_bins"]:
        raise InputError(
            f"feature_extractor has {extractor.feature_size} mel bands, "
            f"audio_config {audio_config['num_mel_bins']}: give both the same number"
        )
    text_config, projection, state, tokenizer = load_text_tower(text_tower)
    config = ClapConfig(
        text_config=text_config.to_dict(), audio_config=audio_config, **projection
    )
    model, audio = ClapModel(config), cast(ClapAudioConfig, config.audio_config)
    lacking = model.load_state_dict(state, strict=False).missing_keys
    spread_by_fan_in(model.audio_model, sum(audio.depths))
    spread_by_fan_in(model.audio_projection, 1)
    lost = [k for k in lacking if k.startswith(("text_model", "text_projection"))]
    lost = [k for k in lost if not k.endswith(("position_ids", "token_type_ids"))]
    if lost:
        raise InputError(f"{text_tower} lacks weights of the text tower: {lost[:3]}")
    return model, tokenizer


@torch.no_grad()
def spread_by_fan_in(module: nn.Module, blocks: int) -> None:
    """Initialise linear and convolutional weights, in place, by each layer's fan-in.

    transformers uses one standard deviation (0.02), which suits layers of 768 channels;
    narrow ones pass on little of their input. Last layers of n residual `blocks` are
    divided by sqrt(2 n).
    """
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            deviation = layer.weight[0].numel() ** -0.5
            if name.endswith("output.dense"):
                deviation /= (2 * blocks) ** 0.5
            layer.weight.normal_(0, deviation)


def load_clap(
    source: str | Path, trust_remote_code: bool = False
) -> tuple[ClapModel, ClapFeatureExtractor, PreTrainedTokenizerBase]:
    """Load an unfused CLAP in single precision, from a folder or the Hub.

    Its weights may be pickles with `trust_remote_code`.
    """
    model, extractor, tokenizer = load_checkpoint(source, None, trust_remote_code)
    if cast(ClapAudioConfig, model.config.audio_config).enable_fusion:
        raise InputError(
            f"clap_source: {source} is a fused CLAP, which is not trained here: give "
            "an unfused one"
        )
    return model, extractor, tokenizer


def save_clap(
    folder: Path,
    model: ClapModel,
    extractor: ClapFeatureExtractor,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Write a Hugging Face folder; `model` is converted to float16 in place."""
    folder.mkdir(parents=True, exist_ok=True)
    processor = ClapProcessor(feature_extractor=extractor, tokenizer=tokenizer)
    processor.save_pretrained(folder)
    model.half().save_pretrained(folder)
