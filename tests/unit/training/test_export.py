"""Properties of exporting: the best decoder, self-contained, whole or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from speechbrain.utils.checkpoints import Checkpointer
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.interpreter import ZeroShotInterpreter
from lmaczs.training.export import (
    ExportError,
    export_run,
    inference_yaml,
    require_free,
    write_run_card,
)
from lmaczs.utils.errors import InputError
from lmaczs.utils.locks import locked

WIDTH = 8
BIN = "pytorch_model.bin"
VALUES = {
    "model_name": "tiny",
    "domain": "stft",
    "width": WIDTH,
    "template": "This is a sound of {}.",
    "checkpoint_metric": "loss",
    "checkpoint_mode": "min",
}
EXPECTED_YAML = """\
source_folder: . # set by from_hparams to the folder of this file
clap_source: clap # folder relative to this file, or a Hub id
model_name: tiny
domain: stft
width: 8
template: This is a sound of {}.
clap: !apply:lmaczs.clap.FrozenClap.from_pretrained
    source: !ref <clap_source>
    relative_to: !ref <source_folder>
decoder: !new:lmaczs.decoder.MaskDecoder
    clap: !ref <clap>
    domain: !ref <domain>
    width: !ref <width>
modules:
    clap: !ref <clap>
    decoder: !ref <decoder>
pretrainer: !new:lmaczs.decoder_file.DecoderPretrainer
    loadables:
        decoder: !ref <decoder>
    custom_hooks:
        decoder: !name:lmaczs.decoder.load_decoder
"""
EXPECTED_JSON = {
    "clap_source": "clap",
    "model_name": "tiny",
    "domain": "stft",
    "width": 8,
    "template": "This is a sound of {}.",
    "decoder": "lmaczs.decoder.MaskDecoder",
}


@pytest.fixture
def clap_folder(tiny_clap_folder: Path, tmp_path: Path) -> Path:
    """Copy of the tiny CLAP that a test may destroy."""
    return Path(shutil.copytree(tiny_clap_folder, tmp_path / "clap_source"))


@pytest.fixture
def run_folder(clap_folder: Path, tmp_path: Path) -> Path:
    """Training run that has not saved a checkpoint yet."""
    write_run_card(tmp_path / "run" / "save", clap_source=clap_folder, **VALUES)
    return tmp_path / "run"


def save_checkpoint(run_folder: Path, clap: FrozenClap, **meta: float) -> MaskDecoder:
    """Save a decoder of random weights as a training run does."""
    decoder = MaskDecoder(clap, width=WIDTH)
    checkpointer = Checkpointer(run_folder / "save", {"decoder": decoder})
    checkpointer.save_checkpoint(meta)
    return decoder


def weights(dest: Path) -> dict[str, Tensor]:
    """Exported weights."""
    return load_file(dest / "decoder.safetensors")


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two state dicts are equal."""
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )


def everything_below(folder: Path) -> dict[Path, bytes]:
    """Content of every file of a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_inference_yaml_has_the_documented_shape() -> None:
    """The file's format is public: other tools read its keys."""
    assert inference_yaml("clap", "tiny", "stft", 8, VALUES["template"]) == (
        EXPECTED_YAML
    )


@pytest.mark.parametrize(
    "text", ["{}: louder", "yes", "# {}", "'{}' \"quoted\"", "Geräusch: {}", "!apply:x"]
)
def test_inference_yaml_quotes_what_needs_it(text: str) -> None:
    """Any template or name comes back as the string that it was."""
    head = inference_yaml("a/b", text, "mel", 16, text).split("clap: !apply")[0]
    values = yaml.safe_load(head)
    assert values["template"] == values["model_name"] == text


def test_export_loads_after_it_was_moved_and_the_run_is_gone(
    run_folder: Path, clap_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """An exported folder needs nothing but itself, and explains as the decoder did."""
    decoder = save_checkpoint(run_folder, tiny_clap, loss=1.0).eval()
    moved = export_run(run_folder, tmp_path / "dest").rename(tmp_path / "elsewhere")
    shutil.rmtree(run_folder)
    shutil.rmtree(clap_folder)
    interpreter = ZeroShotInterpreter.from_hparams(moved, run_opts={"device": "cpu"})
    wav = torch.randn(1, tiny_clap.front_end.sample_rate)
    one = interpreter.interpret_batch(wav, "a dog barking", refine=0)[0]
    log_mel = tiny_clap.front_end.log_mel(wav)
    features = tiny_clap.audio_features(log_mel).features
    with torch.no_grad():
        masks = decoder(
            tiny_clap.encode_text(["a dog barking"])[None], features, log_mel
        )
    expected = tiny_clap.front_end.crop_mask(masks[0], wav.shape[1])[0]
    torch.testing.assert_close(one.mask, expected)
    assert one.model == "tiny"


@pytest.mark.parametrize(("mode", "best"), [("min", 1), ("max", 2)])
def test_best_checkpoint_is_exported_not_the_last(
    mode: str, best: int, clap_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """The metric and its mode choose; NaN and checkpoints of mid-epoch never win."""
    run = tmp_path / "run"
    write_run_card(
        run / "save", clap_source=clap_folder, **{**VALUES, "checkpoint_mode": mode}
    )
    metas = [{"loss": 2.0}, {"loss": 1.0}, {"loss": 3.0}, {"loss": math.nan}, {}]
    decoders = [save_checkpoint(run, tiny_clap, **meta) for meta in metas]
    dest = export_run(run, tmp_path / "dest")
    assert same(weights(dest), decoders[best].state_dict())


def test_export_holds_exactly_what_is_documented(
    run_folder: Path, clap_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """Six names, the CLAP file by file, and nothing of a trainer's or of ours."""
    save_checkpoint(run_folder, tiny_clap, loss=1.0)
    wanted = {path.name for path in clap_folder.iterdir()}
    (clap_folder / "optimizer.bin").touch()
    (clap_folder / "checkpoint-1").mkdir()
    dest = export_run(run_folder, tmp_path / "new" / "dest")
    names = {path.name for path in dest.iterdir()}
    model = {"interpreter.json", "hyperparams.yaml", "decoder.safetensors"}
    assert names == model | {"clap", "README.md", "run.json"}
    assert json.loads((dest / "interpreter.json").read_text()) == EXPECTED_JSON
    assert (dest / "hyperparams.yaml").read_text() == EXPECTED_YAML
    assert {path.name for path in (dest / "clap").iterdir()} == wanted
    for name in wanted:
        assert (dest / "clap" / name).read_bytes() == (clap_folder / name).read_bytes()
    assert list(dest.parent.iterdir()) == [dest]


def test_hub_id_is_kept(tiny_clap: FrozenClap, tmp_path: Path) -> None:
    """A CLAP of the Hub is named, not copied; nothing is fetched for that."""
    run = tmp_path / "run"
    write_run_card(run / "save", clap_source="owner/some-clap", **VALUES)
    save_checkpoint(run, tiny_clap, loss=1.0)
    dest = export_run(run, tmp_path / "dest")
    assert not (dest / "clap").exists()
    assert "\nclap_source: owner/some-clap #" in (dest / "hyperparams.yaml").read_text()


def test_pickles_become_safetensors_where_there_are_no_others(
    run_folder: Path, clap_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """So nobody has to trust an export, whatever its training trusted."""
    save_checkpoint(run_folder, tiny_clap, loss=1.0)
    state = tiny_clap.model.state_dict()
    torch.save({**state, "shared": state["logit_scale_a"]}, clap_folder / BIN)
    dest, name = tmp_path / "dest", "model.safetensors"
    export_run(run_folder, dest)
    whole = (clap_folder / name).read_bytes()
    assert (dest / "clap" / name).read_bytes() == whole
    (clap_folder / name).unlink()
    export_run(run_folder, dest)
    assert not (dest / "clap" / BIN).exists()
    found = load_file(dest / "clap" / name)
    assert all(torch.equal(found[key], value) for key, value in state.items())
    (clap_folder / BIN).unlink()
    with pytest.raises(ExportError, match="the CLAP has no weights"):
        export_run(run_folder, dest)


def test_a_link_out_of_the_clap_is_not_copied(
    run_folder: Path, clap_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """A stranger's LICENSE could be a key of this machine, which `push` would share."""
    save_checkpoint(run_folder, tiny_clap, loss=1.0)
    (tmp_path / "key").write_text("secret")
    (clap_folder / "LICENSE").symlink_to(tmp_path / "key")
    with pytest.raises(InputError, match="LICENSE is a link out of"):
        export_run(run_folder, tmp_path / "dest")
    assert not (tmp_path / "dest").exists()


def test_what_a_killed_export_left_is_cleared(
    run_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """Also of a process of the same number, as containers give them."""
    save_checkpoint(run_folder, tiny_clap, loss=1.0)
    before = {path.name for path in tmp_path.iterdir()}
    (tmp_path / f".dest.{os.getpid()}.lmaczs-part").mkdir()
    export_run(run_folder, tmp_path / "dest")
    assert {path.name for path in tmp_path.iterdir()} == before | {"dest"}


def test_earlier_export_is_replaced(
    run_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """Exporting again to the same folder gives the newer decoder and nothing else."""
    save_checkpoint(run_folder, tiny_clap, loss=2.0)
    dest = export_run(run_folder, tmp_path / "new" / "dest")
    (dest / "clap" / "leftover.json").touch()
    better = save_checkpoint(run_folder, tiny_clap, loss=1.0)
    export_run(run_folder, dest)
    assert same(weights(dest), better.state_dict())
    assert not (dest / "clap" / "leftover.json").exists()
    assert list(dest.parent.iterdir()) == [dest]


def test_export_of_another_run_is_replaced_by_force_alone(
    run_folder: Path, clap_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """Without it the folder stays as it is, and the message names the option."""
    first = save_checkpoint(run_folder, tiny_clap, loss=1.0)
    dest = export_run(run_folder, tmp_path / "new" / "dest")
    write_run_card(tmp_path / "other" / "save", clap_source=clap_folder, **VALUES)
    second = save_checkpoint(tmp_path / "other", tiny_clap, loss=1.0)
    with pytest.raises(ExportError, match=f"{dest}: .* another run: .*--force"):
        export_run(tmp_path / "other", dest)
    assert same(weights(dest), first.state_dict())
    export_run(tmp_path / "other", dest, force=True)
    assert same(weights(dest), second.state_dict())
    with pytest.raises(ExportError, match="another run"):
        export_run(run_folder, dest)


def test_of_two_exports_at_once_the_later_is_refused(
    run_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """Into one folder, which is missing or replaced; the first stays as it is."""
    first = save_checkpoint(run_folder, tiny_clap, loss=1.0)
    dest = tmp_path / "dest"
    dest.mkdir()
    for force in (False, True):
        with locked(dest), pytest.raises(InputError, match="another lmaczs writes"):
            export_run(run_folder, dest, force)
        assert list(dest.iterdir()) == []
    export_run(run_folder, dest)
    with locked(dest), pytest.raises(InputError, match="another lmaczs writes"):
        export_run(run_folder, dest)
    assert same(weights(dest), first.state_dict())


def test_a_place_is_free_until_a_decoder_lies_there(
    run_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """Missing and empty folders are; an export is by force alone; nothing else is."""
    dest = tmp_path / "dest"
    require_free(dest, force=False)
    dest.mkdir()
    require_free(dest, force=False)
    save_checkpoint(run_folder, tiny_clap, loss=1.0)
    export_run(run_folder, dest)
    with pytest.raises(ExportError, match="holds a decoder already"):
        require_free(dest, force=False)
    require_free(dest, force=True)
    (dest / "thesis.txt").touch()
    with pytest.raises(ExportError, match="something else than an earlier export"):
        require_free(dest, force=True)


def test_export_that_does_not_tell_its_run_is_that_of_another(
    run_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """An older version noted nothing: only --force replaces its folder."""
    save_checkpoint(run_folder, tiny_clap, loss=1.0)
    dest = export_run(run_folder, tmp_path / "dest")
    (dest / "run.json").unlink()
    with pytest.raises(ExportError, match="another run"):
        export_run(run_folder, dest)
    export_run(run_folder, dest, force=True)
    assert (dest / "run.json").is_file()


def test_a_run_that_was_moved_is_the_same_run(
    run_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """What it is stands in its run.json, not in the folder's name."""
    (run_folder / "run.json").write_text('{"objective": "lmaczs"}')
    save_checkpoint(run_folder, tiny_clap, loss=1.0)
    dest = export_run(run_folder, tmp_path / "dest")
    export_run(run_folder.rename(tmp_path / "moved"), dest)
    (tmp_path / "moved" / "run.json").write_text('{"objective": "lmac"}')
    with pytest.raises(ExportError, match="another run"):
        export_run(tmp_path / "moved", dest)


def test_folder_with_something_else_is_left_alone(
    run_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """No destination in which a file of the user's would be lost is replaced."""
    save_checkpoint(run_folder, tiny_clap, loss=1.0)
    dest = export_run(run_folder, tmp_path / "new" / "dest")
    (dest / "notes.txt").write_text("mine")
    before = everything_below(tmp_path)
    file = dest / "notes.txt"
    for refused, message in [(dest, "holds something else"), (file, "it is a file")]:
        for force in (False, True):
            with pytest.raises(ExportError, match=f"{refused}: .*{message}"):
                export_run(run_folder, refused, force)
    assert everything_below(tmp_path) == before


def test_empty_folder_is_filled(
    run_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """A destination that is there but empty is as good as none."""
    save_checkpoint(run_folder, tiny_clap, loss=1.0)
    (tmp_path / "dest").mkdir()
    dest = export_run(run_folder, tmp_path / "dest")
    assert (dest / "decoder.safetensors").is_file()


def test_failed_export_keeps_the_earlier_one(
    run_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """What fails at its last file leaves the destination and nothing beside it."""
    save_checkpoint(run_folder, tiny_clap, loss=1.0)
    dest = export_run(run_folder, tmp_path / "new" / "dest")
    before = everything_below(dest)
    (run_folder / "hyperparams.yaml").write_text("a: [1, 2")
    with pytest.raises(ExportError, match=r"hyperparams\.yaml .* damaged"):
        export_run(run_folder, dest)
    assert everything_below(dest.parent) == before


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    """A folder without a run card is not touched, not even by an empty save folder."""
    with pytest.raises(ExportError, match="pass the output_folder of one"):
        export_run(tmp_path, tmp_path / "dest")
    assert not list(tmp_path.iterdir())


def test_run_card_that_lacks_keys_is_refused(run_folder: Path, tmp_path: Path) -> None:
    """A damaged run card is named."""
    (run_folder / "save" / "interpreter.yaml").write_text("width: 8\n")
    with pytest.raises(ExportError, match=r"interpreter\.yaml: damaged"):
        export_run(run_folder, tmp_path / "dest")


def test_run_card_with_former_names_is_read(
    run_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """A run that noted best_metric and best_mode is exported by them."""
    path = run_folder / "save" / "interpreter.yaml"
    text = path.read_text()
    former = text.replace("checkpoint_metric", "best_metric")
    path.write_text(former.replace("checkpoint_mode", "best_mode"))
    best = save_checkpoint(run_folder, tiny_clap, loss=1.0)
    save_checkpoint(run_folder, tiny_clap, loss=2.0)
    dest = export_run(run_folder, tmp_path / "dest")
    assert same(weights(dest), best.state_dict())


def test_run_without_checkpoint_is_refused(
    run_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """Neither no checkpoint nor one without a finite metric can be the best."""
    with pytest.raises(ExportError, match="no checkpoint with a finite loss yet"):
        export_run(run_folder, tmp_path / "dest")
    save_checkpoint(run_folder, tiny_clap, loss=math.inf)
    with pytest.raises(ExportError, match="no checkpoint with a finite loss yet"):
        export_run(run_folder, tmp_path / "dest")
    assert not (tmp_path / "dest").exists()


def test_damaged_weights_are_refused(
    run_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """A checkpoint that cannot be loaded is not exported."""
    save_checkpoint(run_folder, tiny_clap, loss=1.0)
    (path,) = run_folder.glob("save/CKPT*/decoder.ckpt")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ExportError, match=r"decoder\.ckpt: missing or damaged"):
        export_run(run_folder, tmp_path / "dest")
    assert not (tmp_path / "dest").exists()


def test_run_whose_clap_is_gone_is_refused(
    run_folder: Path, clap_folder: Path, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """Without its CLAP a decoder is of no use, so it is not exported."""
    save_checkpoint(run_folder, tiny_clap, loss=1.0)
    (clap_folder / "config.json").unlink()
    with pytest.raises(ExportError, match=r"config\.json is missing"):
        export_run(run_folder, tmp_path / "dest")
    shutil.rmtree(clap_folder)
    with pytest.raises(ExportError, match="is gone: put it back"):
        export_run(run_folder, tmp_path / "dest")


def test_run_card_notes_where_the_clap_is(
    clap_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative folder becomes absolute: the export may be run from elsewhere."""
    monkeypatch.chdir(clap_folder.parent)
    path = write_run_card("save", clap_source="./clap_source", **VALUES)
    values = yaml.safe_load(path.read_text())
    assert values == {**VALUES, "clap_source": str(clap_folder)}


def test_run_card_refuses_another_mode(tmp_path: Path) -> None:
    """A mode that would choose nothing is an error when training starts."""
    with pytest.raises(ValueError, match="checkpoint_mode is min or max, not 'best'"):
        write_run_card(
            tmp_path, clap_source="a/b", **{**VALUES, "checkpoint_mode": "best"}
        )
    assert not list(tmp_path.iterdir())
