"""A decoder's folder is loaded by its weights, and no larger than those."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from speechbrain.inference.interfaces import pretrained_from_hparams
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.decoder_file import build_decoder, load_folder
from lmaczs.hub import default_source
from lmaczs.interpreter import ZeroShotInterpreter
from lmaczs.training.export import write_model
from lmaczs.utils.errors import InputError


def weights_of(clap: FrozenClap) -> dict[str, Tensor]:
    """Of a random decoder."""
    torch.manual_seed(0)
    return MaskDecoder(clap, width=8).state_dict()


@pytest.fixture
def folder(tiny_clap: FrozenClap, tiny_clap_folder: Path, tmp_path: Path) -> Path:
    """A decoder beside its CLAP."""
    shutil.copytree(tiny_clap_folder, tmp_path / "model" / "clap")
    values = ("clap", "tiny", "stft", 8, "I hear {}.")
    write_model(tmp_path / "model", weights_of(tiny_clap), *values)
    return tmp_path / "model"


def test_what_was_written_is_loaded(folder: Path, tiny_clap: FrozenClap) -> None:
    """Every weight; and the values of the folder."""
    modules, values = load_folder(folder)
    found = modules["decoder"].state_dict()
    assert all(torch.equal(found[k], w) for k, w in weights_of(tiny_clap).items())
    assert values["template"] == "I hear {}."
    assert values["source_folder"] == str(folder)


@pytest.mark.parametrize("with_savedir", [True, False])
def test_speechbrain_loads_it_too(
    with_savedir: bool, folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """By hyperparams.yaml, with its own loader, which leaves no pickle behind."""
    loaded = pretrained_from_hparams(
        ZeroShotInterpreter,
        source=str(folder),
        savedir=str(tmp_path / "saved") if with_savedir else None,
        overrides={"source_folder": str(folder)},
    )
    found = loaded.mods["decoder"].state_dict()
    assert all(torch.equal(found[k], w) for k, w in weights_of(tiny_clap).items())


def test_speechbrain_loads_the_embedded_model() -> None:
    """As `from_hparams` does."""
    source = default_source()
    loaded = pretrained_from_hparams(
        ZeroShotInterpreter,
        source=str(source),
        overrides={"source_folder": str(source)},
    )
    modules, _ = load_folder(source)
    found, wanted = loaded.mods["decoder"].state_dict(), modules["decoder"].state_dict()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"width": 1 << 24}, "weights of another decoder"),
        ({"width": 10**4000}, "no MaskDecoder can be made"),
        ({"width": -8}, "no MaskDecoder can be made"),
        ({"width": "8"}, "no MaskDecoder can be made"),
        ({"width": 8, "stride": 0}, "no MaskDecoder can be made"),
        ({"width": 8, "no_such": 1}, "no MaskDecoder can be made.*no_such"),
        ({"width": 16}, "weights of another decoder.*of another shape"),
        ({"width": 8, "domain": 3}, "domain is 3, not one of mel, stft, waveform"),
        ({"width": 8, "domain": ["mel"]}, r"domain is \['mel'\], not one of"),
    ],
)
def test_what_the_weights_do_not_fit_is_not_allocated(
    arguments: dict, reason: str, folder: Path, tiny_clap: FrozenClap
) -> None:
    """Terabytes are refused as 16 channels are: one sentence."""
    path = folder / "decoder.safetensors"
    with pytest.raises(InputError, match=reason) as refused:
        build_decoder(MaskDecoder, tiny_clap, arguments, path)
    assert "\n" not in str(refused.value)


def drop(state: dict[str, Tensor]) -> None:
    """Remove a weight."""
    del state["draw.bias"]


def add(state: dict[str, Tensor]) -> None:
    """Add one that a decoder does not have."""
    state["more"] = torch.zeros(1)


def spoil(state: dict[str, Tensor]) -> None:
    """Make one not finite."""
    state["draw.bias"][0] = torch.nan


def rounded(state: dict[str, Tensor]) -> None:
    """Make one of whole numbers, which weights are not."""
    state["draw.bias"] = state["draw.bias"].int()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (rounded, "1 weight of whole numbers .draw.bias"),
        (drop, "1 weight missing .draw.bias"),
        (add, "unknown more"),
        (spoil, "1 weight NaN or infinite .draw.bias"),
    ],
)
def test_weights_are_whole_and_finite(
    change: object, reason: str, folder: Path
) -> None:
    """Random ones would give figures that mean nothing."""
    path = folder / "decoder.safetensors"
    state = load_file(path)
    change(state)  # type: ignore[operator]
    save_file(state, path)
    with pytest.raises(InputError, match=f"decoder.safetensors.*{reason}"):
        load_folder(folder)


def test_a_pickle_is_read_if_it_is_trusted(folder: Path, tiny_clap: FrozenClap) -> None:
    """By its content, whatever its name; the sentence has the ways out."""
    (folder / "decoder.safetensors").unlink()
    for name in ("decoder.ckpt", "decoder.safetensors"):
        torch.save(weights_of(tiny_clap), folder / name)
        with pytest.raises(InputError, match="pickle.*--trust-remote-code.*export"):
            load_folder(folder)
        assert load_folder(folder, trust_remote_code=True)


def test_a_folder_without_weights_or_with_a_link(folder: Path) -> None:
    """What is missing is named; what lies elsewhere is not read."""
    path = folder / "decoder.safetensors"
    path.rename(folder.parent / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"decoder\.safetensors is missing"):
        load_folder(folder)
    path.symlink_to("../elsewhere")
    with pytest.raises(InputError, match="is a link out of"):
        load_folder(folder)


@pytest.mark.parametrize("template", ["{0.__class__}", "{:>999999999}", "{} {", "{!r}"])
def test_a_template_says_nothing_but_where_the_label_is(
    template: str, folder: Path
) -> None:
    """It could ask for attributes, or for a text of a gigabyte."""
    with pytest.raises(InputError, match="the template"):
        load_folder(folder, {"template": template})
