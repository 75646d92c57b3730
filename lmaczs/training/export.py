"""From a training run to a folder that ``ZeroShotInterpreter.from_hparams`` loads.

A run leaves SpeechBrain checkpoints and `save/interpreter.yaml`, the settings that its
decoder needs for inference. An exported folder is self-contained::

    DEST/interpreter.json      the model: its CLAP, its decoder, its template
    DEST/decoder.safetensors   the decoder's weights at the best checkpoint
    DEST/hyperparams.yaml      the same as interpreter.json, for SpeechBrain
    DEST/clap/                 the CLAP, unless it is one of the Hub
    DEST/README.md             model card
    DEST/run.json              digest of the run: only that run may replace the folder
    DEST/learnt.json           digests of what it learnt: evaluations do not test on it
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save
from speechbrain.utils.checkpoints import Checkpoint
from torch import Tensor

from lmaczs.hub import PICKLED, local_folder, resolve
from lmaczs.model_file import EXPORTED, JSON_FILE, LEARNT, RUN_FILE, WEIGHTS, YAML_FILE
from lmaczs.training.checkpoints import WholeCheckpoints
from lmaczs.training.model_card import model_card
from lmaczs.training.run_identity import run_digest
from lmaczs.utils.errors import InputError, LmaczsError, OptionError
from lmaczs.utils.files import atomic_write
from lmaczs.utils.locks import written_alone
from lmaczs.utils.plain_files import require_plain
from lmaczs.utils.weights import unpickled

RUN_CARD = "interpreter.yaml"
MODEL_KEYS = ("model_name", "domain", "width", "template")
RUN_CARD_KEYS = {"clap_source", *MODEL_KEYS, "checkpoint_metric", "checkpoint_mode"}
FORMER_KEYS = {"best_metric": "checkpoint_metric", "best_mode": "checkpoint_mode"}
CLAP_PATTERNS = (
    *("*.json", "*.safetensors", "*.model", "merges.txt", "vocab.txt"),
    *("README.md", "LICENSE*", "NOTICE*"),
)

# The names of lmaczs in it are a file format: exported folders have them.
DECODER = "lmaczs.decoder.MaskDecoder"
INFERENCE_YAML = """\
source_folder: . # set by from_hparams to the folder of this file
clap_source: {clap_source} # folder relative to this file, or a Hub id
model_name: {model_name}
domain: {domain}
width: {width}
template: {template}
clap: !apply:lmaczs.clap.FrozenClap.from_pretrained
    source: !ref <clap_source>
    relative_to: !ref <source_folder>
decoder: !new:{decoder}
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


class ExportError(LmaczsError, ValueError):
    """A run that cannot be exported: which folder, the reason, the fix."""


def inference_yaml(
    clap_source: str,
    model_name: str,
    domain: str,
    width: int,
    template: str,
    decoder: str = DECODER,
) -> str:
    """Hyperparameters (HyperPyYAML) from which `from_hparams` builds an interpreter.

    `clap_source` is a folder, absolute or relative to the file, or a Hub id. A bare
    label replaces ``{}`` in `template`. `decoder` is the import path of a class that
    takes `clap`, `domain` and `width`.
    """
    values: dict[str, str | int] = {
        "clap_source": clap_source,
        "model_name": model_name,
        "domain": domain,
        "width": width,
        "template": template,
    }
    scalars = {key: _scalar(value) for key, value in values.items()}
    return INFERENCE_YAML.format(decoder=decoder, **scalars)


def write_model(
    folder: str | Path,
    weights: Mapping[str, Tensor],
    clap_source: str,
    model_name: str,
    domain: str,
    width: int,
    template: str,
    decoder: str = DECODER,
) -> None:
    """Write a decoder into a folder that exists: its weights, and two files on them.

    `weights` is a state dict; the other arguments are those of `inference_yaml`.
    """
    folder = Path(folder)
    values = {
        "clap_source": clap_source,
        "model_name": model_name,
        "domain": domain,
        "width": width,
        "template": template,
        "decoder": decoder,
    }
    text = json.dumps(values, indent=2, ensure_ascii=False)
    (folder / JSON_FILE).write_text(text + "\n", encoding="utf-8")
    text = inference_yaml(clap_source, model_name, domain, width, template, decoder)
    (folder / YAML_FILE).write_text(text, encoding="utf-8")
    _write_weights(folder / WEIGHTS[0], weights)


def _write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    plain = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    # by bytes: save_file would let nobody else read the file
    path.write_bytes(save(plain, metadata={"format": "pt"}))


def write_run_card(
    save_folder: str | Path,
    *,
    clap_source: str | Path,
    model_name: str,
    domain: str,
    width: int,
    template: str,
    checkpoint_metric: str,
    checkpoint_mode: str,
    split: str = "",
    decoder: str = DECODER,
    clips: Mapping[str, int] | None = None,
) -> Path:
    """Write `interpreter.yaml`, which `export_run` needs, into a run's save folder.

    A `clap_source` that is a folder is stored as an absolute path. Explanations store
    `model_name`, the name of CLAP and decoder together. The best checkpoint has the
    `checkpoint_mode` ("min" or "max", else OptionError) of `checkpoint_metric`. `split`
    is how the clips were split where the YAML leaves it open, see `Splits.split_by`;
    `decoder` as in `inference_yaml`; `clips` the number of clips of each split.
    """
    if checkpoint_mode not in ("min", "max"):
        raise OptionError(f"checkpoint_mode is min or max, not {checkpoint_mode!r}")
    values = {
        "clap_source": resolve(clap_source),
        "model_name": model_name,
        "domain": domain,
        "width": width,
        "template": template,
        "checkpoint_metric": checkpoint_metric,
        "checkpoint_mode": checkpoint_mode,
        **({"split": split} if split else {}),
        **({"decoder": decoder} if decoder != DECODER else {}),
        **({"clips": dict(clips)} if clips else {}),
    }
    path = Path(save_folder) / RUN_CARD
    with atomic_write(path) as part:
        part.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def export_run(run_folder: str | Path, dest: str | Path, force: bool = False) -> Path:
    """Export the best decoder of a training run as a folder that can be loaded.

    Parameters
    ----------
    run_folder : str or Path
        `output_folder` of the run.
    dest : str or Path
        Written whole or not at all. It must be missing, empty or an earlier export of
        the same run, which is replaced.
    force : bool
        Replace an export of another run, too.

    Returns
    -------
    Path
        `dest`.

    Raises
    ------
    ExportError
        If the run is missing, damaged or without a checkpoint, if its CLAP is missing,
        or if `dest` must not be replaced.
    InputError
        If another process writes it.
    """
    run_folder, dest = Path(run_folder), Path(dest)
    card = _read_run_card(run_folder)
    checkpoint = _best_checkpoint(
        run_folder, card["checkpoint_metric"], card["checkpoint_mode"]
    )
    weights = _decoder_weights(checkpoint)
    clap_folder = _clap_folder(card["clap_source"])
    origin = {"run": run_digest(run_folder)}
    with written_alone(dest, lambda: _check_dest(dest, origin, force)) as part:
        if clap_folder:
            _copy_clap(clap_folder, part / "clap")
        source = "clap" if clap_folder else card["clap_source"]
        decoder = card.get("decoder", DECODER)
        values = {key: card[key] for key in MODEL_KEYS}
        write_model(part, weights, source, **values, decoder=decoder)
        text = _readme(run_folder, card, checkpoint, clap_folder is not None)
        (part / "README.md").write_text(text, encoding="utf-8")
        (part / RUN_FILE).write_text(json.dumps(origin) + "\n", encoding="utf-8")
        if (run_folder / LEARNT).is_file():
            shutil.copyfile(run_folder / LEARNT, part / LEARNT)
    return dest


def _readme(
    run_folder: Path, card: dict[str, Any], checkpoint: Checkpoint, clap_is_copied: bool
) -> str:
    try:
        return model_card(run_folder, card, checkpoint.meta, clap_is_copied)
    except (ValueError, yaml.YAMLError) as error:
        raise ExportError(
            f"{run_folder}: its hyperparams.yaml or test.json is damaged "
            f"({' '.join(str(error).split())}): remove it to export without"
        ) from error


def _scalar(value: str | int) -> str:
    """A value as a YAML scalar on one line, quoted where it must be."""
    text = yaml.safe_dump(value, width=math.inf, allow_unicode=True)
    return text.removesuffix("...\n").strip()


# --- the run ------------------------------------------------------------------------


def _read_run_card(run_folder: Path) -> dict[str, Any]:
    path = run_folder / "save" / RUN_CARD
    if not path.is_file():
        raise ExportError(
            f"{run_folder}: no training run of recipes/train.py ({path} is missing): "
            "pass the output_folder of one"
        )
    card = yaml.safe_load(path.read_text(encoding="utf-8"))
    if isinstance(card, dict):
        card = {FORMER_KEYS.get(key, key): value for key, value in card.items()}
    if not isinstance(card, dict) or not RUN_CARD_KEYS <= set(card):
        raise ExportError(
            f"{path}: damaged, it lacks keys of a run: start the training command "
            "again, which writes the file anew"
        )
    return card


def _best_checkpoint(run_folder: Path, metric: str, mode: str) -> Checkpoint:
    checkpointer = WholeCheckpoints(run_folder / "save")
    found = checkpointer.find_checkpoint(
        **{f"{mode}_key": metric},
        # NaN compares as neither better nor worse, so the newest would win
        ckpt_predicate=lambda ckpt: math.isfinite(ckpt.meta.get(metric, math.nan)),
    )
    if found is None:
        raise ExportError(
            f"{run_folder}: no checkpoint with a finite {metric} yet: let the training "
            "finish an epoch, then export"
        )
    return found


def _decoder_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    path = checkpoint.path / "decoder.ckpt"
    try:
        return unpickled([path])
    except InputError as error:
        raise ExportError(
            f"{path}: missing or damaged: remove {checkpoint.path} to export the "
            "next best checkpoint"
        ) from error


def _clap_folder(source: str) -> Path | None:
    try:
        folder = local_folder(source)
    except FileNotFoundError as error:
        raise ExportError(
            f"{source}: the CLAP that the run was trained for is gone: put it back"
        ) from error
    if folder and not (folder / "config.json").is_file():
        raise ExportError(f"{folder}: no CLAP (config.json is missing): put it back")
    return folder


def _copy_clap(source: Path, dest: Path) -> None:
    """Copy the files of a Hugging Face checkpoint, without a trainer's.

    Pickles, which the training trusted, become safetensors, for which no one has to.
    """
    dest.mkdir()
    for path in {path for one in CLAP_PATTERNS for path in source.glob(one)}:
        if path.is_file():  # a stranger's link may lead to what nobody would share
            shutil.copyfile(require_plain(source, path.name), dest / path.name)
    if not any(dest.glob("*.safetensors")):
        files = [path for one in PICKLED for path in sorted(source.glob(one))]
        if not files:
            raise ExportError(f"{source}: the CLAP has no weights: put them back")
        weights = unpickled(files)
        # safetensors refuses tensors that share their memory
        own = {key: value.clone() for key, value in weights.items()}
        _write_weights(dest / "model.safetensors", own)


# --- the folder that is written -----------------------------------------------------


def require_free(dest: Path, force: bool) -> None:
    """Raise `ExportError` unless a folder is missing or empty, or may be replaced.

    With `force`, an earlier export may be.
    """
    if _is_export(dest) and not force:
        raise ExportError(
            f"{dest}: it holds a decoder already: name another folder, or add --force "
            "to replace it"
        )


def _is_export(dest: Path) -> bool:
    """Whether a folder holds an export; another content is an `ExportError`."""
    if dest.exists() and not dest.is_dir():
        raise ExportError(f"{dest}: it is a file: name a folder")
    content = {path.name for path in dest.iterdir()} if dest.is_dir() else set()
    if content and not (YAML_FILE in content and content <= EXPORTED):
        raise ExportError(
            f"{dest}: it holds something else than an earlier export: name an empty "
            "or a new folder"
        )
    return bool(content)


def _check_dest(dest: Path, origin: dict[str, str], force: bool) -> None:
    """Refuse a destination where more than an earlier export would be lost."""
    if _is_export(dest) and not force and _origin_of(dest) != origin:
        raise ExportError(
            f"{dest}: it holds an export of another run: name another folder, or add "
            "--force to replace it"
        )


def _origin_of(dest: Path) -> Any:
    """Run that an export was made from; None if the export does not name it."""
    try:
        return json.loads((dest / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
