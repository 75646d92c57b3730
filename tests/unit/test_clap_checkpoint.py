"""CLAP checkpoints that are damaged, not whole or not finite are refused by name."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.clap_checkpoint import ClapError, load_checkpoint
from lmaczs.distillation.model import load_clap

WEIGHT = "audio_projection.linear1.weight"
INDEX = "audio_model.audio_encoder.layers.0.blocks.0.attention.self"
INDEX += ".relative_position_index"
Change = Callable[[dict[str, Tensor]], None]


@pytest.fixture
def folder(tiny_clap_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny CLAP that may be damaged."""
    return shutil.copytree(tiny_clap_folder, tmp_path / "clap")


def rewrite(folder: Path, change: Change) -> None:
    """Change the weights in a checkpoint's file."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def without(*parts: str) -> Change:
    """Remove the entries whose names contain one of some parts."""

    def change(weights: dict[str, Tensor]) -> None:
        for key in [k for k in weights if any(part in k for part in parts)]:
            del weights[key]

    return change


def with_value(value: float) -> Change:
    """Put a value into one weight."""

    def change(weights: dict[str, Tensor]) -> None:
        weights[WEIGHT][0, 0] = value

    return change


def reshaped(weights: dict[str, Tensor]) -> None:
    """Cut one weight."""
    weights[WEIGHT] = weights[WEIGHT][:1].clone()


def negative(weights: dict[str, Tensor]) -> None:
    """Make a variance one that no clips have: its root is NaN."""
    weights["audio_model.audio_encoder.batch_norm.running_var"][0] = -1.0


def without_scale(weights: dict[str, Tensor]) -> None:
    """A scale of similarities that is infinite, which makes probabilities NaN."""
    weights["logit_scale_a"] = torch.tensor(1000.0)


DAMAGES = {
    "an infinite scale": (without_scale, "no probability can be made with logit_scale"),
    "a variance is negative": (negative, "a variance is negative (audio_model."),
    "one is missing": (without(WEIGHT), f"1 weight missing ({WEIGHT})"),
    "statistics are missing": (without("running_mean"), "1 weight missing"),
    "many are missing": (without("text_model.encoder"), "16 weights missing"),
    "NaN": (with_value(float("nan")), f"1 weight NaN or infinite ({WEIGHT})"),
    "infinity": (with_value(float("-inf")), f"1 weight NaN or infinite ({WEIGHT})"),
    "another shape": (reshaped, f"({WEIGHT} [1, 64] instead of [32, 64])"),
}


@pytest.mark.parametrize(("change", "words"), DAMAGES.values(), ids=list(DAMAGES))
def test_weights_that_are_no_weights_are_refused(
    change: Change, words: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One sentence names the checkpoint, the first weights and how many they are."""
    rewrite(folder, change)
    with pytest.raises(ClapError) as refused:
        FrozenClap.from_pretrained(folder)
    message = str(refused.value)
    assert message.startswith(f"{folder} ")
    assert words in message
    assert "\n" not in message
    assert "MISSING" not in capfd.readouterr().err  # transformers' table


def test_a_training_does_not_start_from_such_weights(folder: Path) -> None:
    """`load_clap` refuses what `FrozenClap` refuses."""
    rewrite(folder, without(WEIGHT))
    with pytest.raises(ClapError, match="1 weight missing"):
        load_clap(folder)


def test_what_follows_from_the_config_may_be_missing_or_stale(
    folder: Path, tiny_clap: FrozenClap
) -> None:
    """Indices and counters of older checkpoints are computed anew, never refused."""

    def change(weights: dict[str, Tensor]) -> None:
        without("relative_position_index", "num_batches_tracked")(weights)
        weights["text_model.embeddings.position_ids"] = torch.arange(514)[None]

    rewrite(folder, change)
    loaded = FrozenClap.from_pretrained(folder).model.state_dict()
    whole = tiny_clap.model.state_dict()
    assert torch.equal(loaded[INDEX], whole[INDEX])
    positions = "text_model.embeddings.position_ids"
    assert torch.equal(loaded[positions], whole[positions])


def test_entries_in_excess_are_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The checkpoint is loaded, and what is ignored is named."""

    def change(weights: dict[str, Tensor]) -> None:
        weights["classifier.weight"] = torch.zeros(3)

    rewrite(folder, change)
    with caplog.at_level(logging.WARNING, "lmaczs"):
        FrozenClap.from_pretrained(folder)
    assert "ignored: classifier.weight (1 in all)" in caplog.text


def test_what_is_no_weight_makes_no_room(folder: Path) -> None:
    """A size in the configuration is compared with the model's own weights alone."""
    weights = load_file(folder / "model.safetensors")
    weights["junk"] = torch.zeros(1 << 28, dtype=torch.bool)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    values = json.loads((folder / "config.json").read_text())
    values["audio_config"]["spec_size"] = 1 << 13
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(ClapError, match="spec_size 8192 in steps of 4 makes an input"):
        FrozenClap.from_pretrained(folder)


@pytest.mark.parametrize("kept", [0, 4, 0.5, 0.99])
def test_cut_file_is_one_sentence(folder: Path, kept: float) -> None:
    """A download that broke off is named, wherever it broke off."""
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(ClapError, match="cannot be loaded") as refused:
        FrozenClap.from_pretrained(folder)
    assert str(refused.value).startswith(f"{folder} ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "processor_config.json", "tokenizer.json"]
)
@pytest.mark.parametrize("content", [None, b"{"])
def test_file_that_is_missing_or_no_json_is_one_sentence(
    folder: Path, name: str, content: bytes | None
) -> None:
    """Every part of a checkpoint is needed, and readable."""
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ClapError) as refused:
        FrozenClap.from_pretrained(folder)
    assert str(refused.value).startswith(f"{folder} ")
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_checkpoint_with_code_is_loaded_without_it(folder: Path) -> None:
    """`auto_map` makes nothing ask on stdin, and nothing of it runs."""
    ran = folder / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: pass\n")
    named = {
        "config.json": {"AutoConfig": "own.Own", "AutoModel": "own.Own"},
        "processor_config.json": {"AutoFeatureExtractor": "own.Own"},
        "tokenizer_config.json": {"AutoTokenizer": [None, "own.Own"]},
    }
    for name, classes in named.items():
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**values, "auto_map": classes}))
    code = "import sys; from lmaczs.clap import FrozenClap\n"
    code += "print(FrozenClap.from_pretrained(sys.argv[1]).embedding_dim)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.stdout.strip() == "32", done.stderr
    assert "trust_remote_code" not in done.stderr
    assert not ran.exists()


def test_a_pickle_is_read_if_it_is_trusted(folder: Path, tiny_clap: FrozenClap) -> None:
    """It gives the same model; the sentence has the ways out."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ClapError, match="pickle.*--trust-remote-code.*safetensors"):
        load_checkpoint(folder)
    model, _, _ = load_checkpoint(folder, trust_remote_code=True)
    wanted = tiny_clap.model.state_dict()
    assert all(torch.equal(w, wanted[key]) for key, w in model.state_dict().items())


def test_weights_in_parts_are_one_model(folder: Path, tiny_clap: FrozenClap) -> None:
    """As large checkpoints are saved; a part that is missing is weights that are."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    keys = sorted(weights)
    for number, part in enumerate((keys[::2], keys[1::2]), 1):
        path = folder / f"model-0000{number}-of-00002.safetensors"
        save_file({key: weights[key] for key in part}, path)
    wanted = tiny_clap.model.state_dict()
    found = load_checkpoint(folder)[0].state_dict()
    assert all(torch.equal(w, wanted[key]) for key, w in found.items())
    path.unlink()
    with pytest.raises(ClapError, match="weights missing"):
        load_checkpoint(folder)


def test_a_hub_that_cannot_be_reached_is_not_called_damage() -> None:
    """Without a network the sentence names the Hub, the reason and the fix."""
    with pytest.raises(ClapError) as error:
        load_checkpoint("nobody/no-such-clap")
    message = str(error.value)
    assert "nobody/no-such-clap is no folder" in message
    assert "cannot be fetched from the Hub" in message
    assert "check the name and the connection" in message
    assert "damaged" not in message
