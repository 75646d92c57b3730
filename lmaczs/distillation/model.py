"""A small CLAP as Hugging Face knows it: made from parts, and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    PreTrainedTokenizerBase,
)

from lmaczs.clap_checkpoint import load_checkpoint
from lmaczs.distillation.text_tower import load_text_tower

FRONT_END = (
    "feature_size",
    "sampling_rate",
    "hop_length",
    "fft_window_size",
    "max_length_s",
    "frequency_min",
    "frequency_max",
)


def build_clap(
    audio_config: dict[str, Any], extractor: ClapFeatureExtractor, text_tower: str
) -> tuple[ClapModel, PreTrainedTokenizerBase]:
    """A ClapModel with a new audio tower and a trained text tower.

    Parameters
    ----------
    audio_config : dict
        Arguments of ClapAudioConfig.
    extractor : ClapFeatureExtractor
        Must have the audio tower's number of mel bands.
    text_tower : str
        Folder that recipes/train_text.py wrote.

    Returns
    -------
    tuple
        Model and tokenizer.

    Raises
    ------
    ValueError
        If extractor and audio tower do not fit.
    """
    if extractor.feature_size != audio_config["num_mel_bins"]:
        raise ValueError(
            f"feature_extractor has {extractor.feature_size} mel bands, "
            f"audio_config {audio_config['num_mel_bins']}"
        )
    text_config, projection, state, tokenizer = load_text_tower(text_tower)
    config = ClapConfig(
        text_config=text_config.to_dict(), audio_config=audio_config, **projection
    )
    model = ClapModel(config)
    lacking = model.load_state_dict(state, strict=False).missing_keys
    spread_by_fan_in(model.audio_model, sum(config.audio_config.depths))
    spread_by_fan_in(model.audio_projection, 1)
    lost = [k for k in lacking if k.startswith(("text_model", "text_projection"))]
    lost = [k for k in lost if not k.endswith(("position_ids", "token_type_ids"))]
    if lost:
        raise ValueError(f"{text_tower} lacks weights of the text tower: {lost[:3]}")
    return model, tokenizer


@torch.no_grad()
def spread_by_fan_in(module: nn.Module, blocks: int) -> None:
    """Draw linear and convolutional weights anew, by each layer's width.

    transformers draws all of them with one small deviation (0.02), which suits layers
    of 768 channels; in narrow ones little of the input arrives at the end.

    Parameters
    ----------
    module : nn.Module
        Changed in place.
    blocks : int
        Residual blocks; what each adds is drawn smaller by the root of twice as many.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            deviation = layer.weight[0].numel() ** -0.5
            if name.endswith("output.dense"):
                deviation /= (2 * blocks) ** 0.5
            layer.weight.normal_(0, deviation)


def load_clap(
    source: str | Path, extractor: ClapFeatureExtractor
) -> tuple[ClapModel, PreTrainedTokenizerBase]:
    """A CLAP to go on from.

    Parameters
    ----------
    source : str or Path
        Folder or Hub id.
    extractor : ClapFeatureExtractor
        What the YAML trains with.

    Returns
    -------
    tuple
        Model, in single precision, and tokenizer.

    Raises
    ------
    ValueError
        If the checkpoint is damaged or not whole (`load_checkpoint`), is fused, or
        has another front end.
    """
    model, theirs, tokenizer = load_checkpoint(source)
    if model.config.audio_config.enable_fusion:
        raise ValueError(f"source: {source} is a fused CLAP, which is not trained here")
    own = theirs.to_dict()
    other = [
        f"{name} is {own[name]} there and {extractor.to_dict()[name]} in the YAML"
        for name in FRONT_END
        if own[name] != extractor.to_dict()[name]
    ]
    if other:
        raise ValueError(f"source: {source} hears otherwise: {'; '.join(other)}")
    return model, tokenizer


def save_clap(
    folder: Path,
    model: ClapModel,
    extractor: ClapFeatureExtractor,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Write a Hugging Face folder with half-precision weights.

    Parameters
    ----------
    folder : Path
        Made when missing.
    model : ClapModel
        Converted to half precision in place.
    extractor : ClapFeatureExtractor
        Front end.
    tokenizer : PreTrainedTokenizerBase
        Of the text tower.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ClapProcessor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(
        folder
    )
    model.half().save_pretrained(folder)
