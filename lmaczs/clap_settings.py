"""What the JSON files of a CLAP checkpoint say, before anything is built by it.

Only values that a CLAP has are read; whatever else the files name (code of their own,
quantisation, kernels, adapters, other files) is left out. Sizes are bounded by how much
the weights hold, before anything of such a size is allocated.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from transformers import (
    AutoTokenizer,
    ClapConfig,
    ClapFeatureExtractor,
    PreTrainedTokenizerBase,
)

from lmaczs.audio.decoder import RATES
from lmaczs.utils.errors import InputError
from lmaczs.utils.plain_files import read_plain_json, require_plain
from lmaczs.utils.weights import Shapes, elements

COMMON = {"model_type", "projection_dim", "projection_hidden_act", "initializer_factor"}
TOWER = COMMON | {
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "layer_norm_eps"),
}
TEXT = TOWER | {
    *("vocab_size", "intermediate_size", "max_position_embeddings", "type_vocab_size"),
    *("pad_token_id", "bos_token_id", "eos_token_id"),
}
AUDIO = TOWER | {
    *("window_size", "num_mel_bins", "spec_size", "patch_size", "patch_stride"),
    *("num_classes", "depths", "enable_fusion", "fusion_type", "aff_block_r"),
    *("patch_embed_input_channels", "flatten_patch_embeds", "mlp_ratio", "qkv_bias"),
    *("patch_embeds_hidden_size", "enable_patch_layer_norm", "drop_path_rate"),
}
WHOLE = COMMON | {"logit_scale_init_value"}
LAYERS = ("num_hidden_layers", "depths")
LEAST_IN_LAYER = 10
"""Weights of a layer of either tower, at least: they have 16 and 13."""

EXTRACTOR = {
    *("feature_size", "fft_window_size", "hop_length", "max_length_s", "padding"),
    *("sampling_rate", "frequency_min", "frequency_max", "top_db", "truncation"),
    *("padding_side", "padding_value", "return_attention_mask"),
}
TOKENIZERS = {
    *("PreTrainedTokenizer", "TokenizersBackend", "RobertaTokenizer", "BertTokenizer"),
    *("GPT2Tokenizer", "DistilBertTokenizer", "MPNetTokenizer", "XLMRobertaTokenizer"),
}
"""Classes of tokenizers of text towers; the ending "Fast" is that of older files."""

PARTS = {
    "normalizer": {
        *("BertNormalizer", "Lowercase", "StripAccents", "NFC", "NFD", "NFKC", "NFKD"),
        "Sequence",
    },
    "pre_tokenizer": {"ByteLevel", "BertPreTokenizer", "Whitespace", "Sequence"},
    "post_processor": {
        *("RobertaProcessing", "BertProcessing", "TemplateProcessing", "ByteLevel"),
        "Sequence",
    },
    "model": {"BPE", "WordPiece", "Unigram", "WordLevel"},
}
"""Parts of tokenizers. Others may write (Replace) or search (Split) without an end."""


def read_config(folder: Path, shapes: Shapes, most_bytes: int) -> ClapConfig:
    """Configuration in a folder; InputError if the weights cannot be of it."""
    values = read_plain_json(folder, "config.json", most_bytes)
    kind = values.get("model_type", "clap")
    if kind != "clap":
        raise InputError(f"{folder / 'config.json'} is of a {kind!r}, not of a CLAP")
    parts: dict[str, Any] = {
        name: _only(values.get(name) or {}, keys, f"{folder / 'config.json'}: {name}")
        for name, keys in (("text_config", TEXT), ("audio_config", AUDIO))
    }
    config = ClapConfig(**_only(values, WHOLE, str(folder)), **parts)
    require_in_proportion(config, shapes, folder)
    return config


def require_in_proportion(config: ClapConfig, shapes: Shapes, folder: Path) -> None:
    """Refuse a configuration that says more than weights of these shapes hold."""
    for tower in (config.text_config, config.audio_config):
        _require_tower(tower, shapes, folder)
    _require_picture(config.audio_config, shapes, folder)


def read_extractor(
    folder: Path, config: ClapConfig, shapes: Shapes, most_bytes: int
) -> ClapFeatureExtractor:
    """Feature extractor in a folder; InputError if the model cannot be of it."""
    name = "preprocessor_config.json"
    if not (folder / name).exists():
        name = "processor_config.json"
    values = read_plain_json(folder, name, most_bytes)
    place = folder / name
    values = values.get("feature_extractor", values)
    kept = _only(values, EXTRACTOR, str(place))
    given = {**ClapFeatureExtractor().to_dict(), **kept}
    _require_listening(given, config.audio_config, shapes, str(place))
    return ClapFeatureExtractor(**kept)


def read_tokenizer(
    folder: Path, config: ClapConfig, most_bytes: int
) -> PreTrainedTokenizerBase:
    """Tokenizer in a folder; InputError for one of another kind than text towers'."""
    for path in folder.iterdir():
        if path.suffix in (".json", ".txt", ".model", ".jinja"):
            require_plain(folder, path.name, most_bytes)
    settings = {}
    if (folder / "tokenizer_config.json").exists():
        settings = read_plain_json(folder, "tokenizer_config.json", most_bytes)
    kind = str(settings.get("tokenizer_class") or "TokenizersBackend")
    if kind.removesuffix("Fast") not in TOKENIZERS:
        raise InputError(
            f"{folder / 'tokenizer_config.json'} names {kind!r}, no tokenizer of a "
            "text tower"
        )
    for name in ("vocab", "merges"):  # where they are texts, they are opened
        if isinstance(settings.get(name), str):
            raise InputError(
                f"{folder / 'tokenizer_config.json'}: {name} is {settings[name]!r}: a "
                "tokenizer's files are those beside it"
            )
    if (folder / "tokenizer.json").exists():
        parts = read_plain_json(folder, "tokenizer.json", most_bytes)
        for name, allowed in PARTS.items():
            _require_parts(parts.get(name), name, allowed, folder / "tokenizer.json")
        model = parts.get("model") or {}
        if model.get("type", "BPE") == "BPE" and model.get("continuing_subword_prefix"):
            # tokenizers ends with a panic, which is no `Exception`
            raise InputError(
                f"{folder / 'tokenizer.json'} has a continuing_subword_prefix, and no "
                "BPE of a text tower has one"
            )
    tokenizer = AutoTokenizer.from_pretrained(
        folder, config=config, local_files_only=True, trust_remote_code=False
    )
    text: Any = config.text_config
    most = max([*tokenizer.get_vocab().values(), tokenizer.pad_token_id or 0])
    if most >= text.vocab_size:
        raise InputError(
            f"{folder}: its tokenizer knows {most + 1} tokens, its text tower "
            f"{text.vocab_size}"
        )
    return tokenizer


def _only(values: Any, names: set[str], place: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise InputError(f"{place} is damaged: it holds no mapping")
    return {key: value for key, value in values.items() if key in names}


def _numbers(value: Any) -> list[float]:
    if isinstance(value, (list, tuple)):
        return [number for one in value for number in _numbers(one)]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return [value] if is_number else []


def _require_tower(tower: Any, shapes: Shapes, folder: Path) -> None:
    """Refuse layers that have no weights, and sizes of more than the weights hold."""
    held, tensors, place = elements(shapes), len(shapes), folder / "config.json"
    if not tower.layer_norm_eps > 0:
        raise InputError(
            f"{place}: layer_norm_eps is {tower.layer_norm_eps}, and would make "
            "embeddings NaN"
        )
    for name, value in tower.to_dict().items():
        numbers, most, what = _numbers(value), held, f"{held} numbers"
        if name in LAYERS:
            if min(numbers, default=0) < 1:
                raise InputError(f"{place}: {name} is {value}: 1 or more is needed")
            numbers, most = [sum(numbers)], tensors // LEAST_IN_LAYER
            what = f"{tensors} tensors"
        if any(not isfinite(one) or one > most for one in numbers):
            raise InputError(
                f"{place}: {name} is {value}, but the weights beside it are {what} only"
            )


def _require_picture(audio: Any, shapes: Shapes, folder: Path) -> None:
    """Refuse an input of the audio tower that is larger than the tower itself."""
    stride = audio.patch_stride
    step = min(stride) if isinstance(stride, (list, tuple)) else stride
    patches = (audio.spec_size // step) ** 2
    held = elements(shapes)
    if max(audio.spec_size**2, patches * audio.patch_embeds_hidden_size) > held:
        raise InputError(
            f"{folder / 'config.json'}: spec_size {audio.spec_size} in steps of {step} "
            f"makes an input of more numbers than the weights beside it, {held}"
        )


def _require_listening(
    values: Mapping[str, Any], audio: Any, shapes: Shapes, place: str
) -> None:
    """Refuse a rate, a window or a length that the audio tower cannot be made for."""
    rate, window = values["sampling_rate"], values["fft_window_size"]
    hop, bands = values["hop_length"], values["feature_size"]
    for name in ("sampling_rate", "fft_window_size", "hop_length", "feature_size"):
        if not isinstance(values[name], int) or values[name] < 1:
            raise InputError(f"{place}: {name} is {values[name]!r}, not a count")
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(
            f"{place}: sampling_rate is {rate} Hz, not {RATES[0]} to {RATES[1]}"
        )
    low, high = values["frequency_min"], values["frequency_max"]
    if not 0 <= low < high < float("inf"):
        raise InputError(f"{place}: a band from {low} to {high} Hz is none")
    if bands != audio.num_mel_bins:
        raise InputError(
            f"{place}: feature_size is {bands}, but the audio tower has "
            f"{audio.num_mel_bins} bands"
        )
    filters, held = (window // 2 + 1) * bands, elements(shapes)
    if filters > held:
        raise InputError(
            f"{place}: fft_window_size {window} needs {filters} mel weights, more than "
            f"the model holds, {held}"
        )
    frames = 1 + values["max_length_s"] * rate // hop
    most = audio.spec_size * (audio.spec_size // bands)
    if not 1 <= frames <= most:
        raise InputError(
            f"{place}: max_length_s {values['max_length_s']} makes {frames} frames, "
            f"but the audio tower takes at most {most}"
        )


def _require_parts(part: Any, name: str, allowed: set[str], place: Path) -> None:
    """Refuse a part of a tokenizer, or a part of that, of another kind."""
    if part is None:
        return
    kind = part.get("type", "BPE") if isinstance(part, dict) else part
    if kind not in allowed:
        raise InputError(f"{place} has the {name} {kind!r}, no part of a text tower's")
    for several in ("normalizers", "pretokenizers", "processors"):
        for one in part.get(several, ()):
            _require_parts(one, name, allowed, place)
