"""The JSON files of a CLAP: what they may say, and how large it may be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmaczs.clap_settings import read_config, read_extractor, read_tokenizer
from lmaczs.utils.errors import InputError
from lmaczs.utils.weights import Shapes, shapes_in

MOST = 1 << 20


@pytest.fixture
def folder(tiny_clap_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny CLAP."""
    return Path(shutil.copytree(tiny_clap_folder, tmp_path / "clap"))


@pytest.fixture
def shapes(folder: Path) -> Shapes:
    """Shapes of its weights."""
    return shapes_in([folder / "model.safetensors"])


def edit(folder: Path, name: str, change: Callable[[dict], object]) -> None:
    """Change a JSON file."""
    values = json.loads((folder / name).read_text())
    change(values)
    (folder / name).write_text(json.dumps(values))


def put(*keys: str, value: Any) -> Callable[[dict], None]:
    """What sets a nested value."""

    def change(values: dict) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return change


def test_only_what_a_clap_has_is_read(folder: Path, shapes: Shapes) -> None:
    """Code, quantisation, kernels and adapters that a file names are left out."""
    plain = read_config(folder, shapes, MOST).to_dict()
    for name, value in {
        "auto_map": {"AutoModel": "own.Own"},
        "quantization_config": {"quant_method": "bitsandbytes"},
        "attn_implementation": "kernels-community/evil",
        "_attn_implementation": "kernels-community/evil",
    }.items():
        edit(folder, "config.json", put(name, value=value))
        edit(folder, "config.json", put("audio_config", name, value=value))
    assert read_config(folder, shapes, MOST).to_dict() == plain


@pytest.mark.parametrize(
    ("keys", "value", "reason"),
    [
        (("model_type",), "bert", "is of a 'bert'"),
        (("text_config",), 3, "holds no mapping"),
        (("text_config", "hidden_size"), 10**6, "hidden_size is 1000000, but"),
        (("text_config", "vocab_size"), 10**12, "vocab_size is 1000000000000, but"),
        (("text_config", "num_hidden_layers"), 10**4, "num_hidden_layers is 10000"),
        (("text_config", "num_hidden_layers"), -1, "is -1: 1 or more is needed"),
        (("audio_config", "depths"), [2, 0, 2], "1 or more is needed"),
        (("audio_config", "depths"), [10**4, 1, 1], r"depths is \[10000, 1, 1\]"),
        (("audio_config", "mlp_ratio"), float("inf"), "mlp_ratio is inf"),
        (("text_config", "layer_norm_eps"), -1.0, "would make embeddings NaN"),
        (("audio_config", "spec_size"), 1 << 14, "spec_size 16384 in steps of 4"),
    ],
)
def test_a_config_says_no_more_than_its_weights_hold(
    keys: tuple[str, ...], value: Any, reason: str, folder: Path, shapes: Shapes
) -> None:
    """It is refused before anything of that size is made."""
    edit(folder, "config.json", put(*keys, value=value))
    with pytest.raises(InputError, match=reason):
        read_config(folder, shapes, MOST)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("sampling_rate", 10**9, "1000000000 Hz, not 1000 to 1000000"),
        ("sampling_rate", 7, "is 7 Hz"),
        ("sampling_rate", "32000", "not a count"),
        ("fft_window_size", 10**9, "needs 32000000064 mel weights"),
        ("hop_length", 0, "not a count"),
        ("frequency_max", float("nan"), "a band from 50 to nan Hz"),
        ("frequency_min", 15_000, "a band from 15000 to"),
        ("hop_length", 1, "makes 160001 frames"),
        ("max_length_s", 10**9, "frames, but the audio tower takes at most"),
        ("feature_size", 1 << 30, "but the audio tower has 64 bands"),
    ],
)
def test_an_extractor_is_in_proportion(
    name: str, value: Any, reason: str, folder: Path, shapes: Shapes
) -> None:
    """Of rate, window, hop and length."""
    edit(folder, "processor_config.json", put("feature_extractor", name, value=value))
    config = read_config(folder, shapes, MOST)
    with pytest.raises(InputError, match=reason):
        read_extractor(folder, config, shapes, MOST)


@pytest.mark.parametrize(
    ("name", "keys", "value", "reason"),
    [
        ("tokenizer_config.json", ("tokenizer_class",), "Own", "names 'Own'"),
        ("tokenizer_config.json", ("vocab",), "/etc/passwd", "files are those beside"),
        ("tokenizer_config.json", ("merges",), "/dev/zero", "merges is '/dev/zero'"),
        ("tokenizer.json", ("normalizer",), {"type": "Replace"}, "normalizer 'Replace"),
        ("tokenizer.json", ("pre_tokenizer",), {"type": "Split"}, "'Split'"),
        (
            "tokenizer.json",
            ("model",),
            {"vocab": {"a": 0}, "merges": [], "continuing_subword_prefix": "##"},
            "no BPE of a text tower has one",
        ),
        (
            "tokenizer.json",
            ("normalizer",),
            {"type": "Sequence", "normalizers": [{"type": "Prepend"}]},
            "normalizer 'Prepend'",
        ),
    ],
)
def test_a_tokenizer_is_a_text_towers(
    name: str, keys: tuple[str], value: Any, reason: str, folder: Path, shapes: Shapes
) -> None:
    """Of a known class, and of parts that end."""
    edit(folder, name, put(*keys, value=value))
    config = read_config(folder, shapes, MOST)
    with pytest.raises(InputError, match=reason):
        read_tokenizer(folder, config, MOST)


def test_a_tokenizer_knows_no_more_words_than_the_tower(
    folder: Path, shapes: Shapes
) -> None:
    """A prompt with one would end in an index error, or in another word's weights."""
    edit(folder, "config.json", put("text_config", "vocab_size", value=50))
    config = read_config(folder, shapes, MOST)
    with pytest.raises(InputError, match="tokens, its text tower 50"):
        read_tokenizer(folder, config, MOST)


def test_code_beside_a_tokenizer_is_left_alone(folder: Path, shapes: Shapes) -> None:
    """`auto_map` neither runs it nor asks whether to."""
    ran = folder / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: pass\n")
    auto_map = {"AutoTokenizer": [None, "own.Own"]}
    edit(folder, "tokenizer_config.json", put("auto_map", value=auto_map))
    tokenizer = read_tokenizer(folder, read_config(folder, shapes, MOST), MOST)
    assert len(tokenizer) > 5 and not ran.exists()
