"""Reading a CLAP checkpoint; one with missing or broken weights is refused.

transformers initialises missing weights at random, and results would be meaningless.
Nothing that the files name is run or fetched: see `lmaczs.clap_settings`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from lmaczs.clap_settings import (
    read_config,
    read_extractor,
    read_tokenizer,
    require_in_proportion,
)
from lmaczs.hub import CLAP_FILES, PICKLED, clap_folder
from lmaczs.utils.errors import InputError, LmaczsError
from lmaczs.utils.plain_files import require_plain
from lmaczs.utils.weights import (
    Shapes,
    broken,
    counted,
    faults,
    shapes_in,
    some,
    tensors_in,
    unpickled,
)

logger = logging.getLogger(__name__)


SCALES = ("logit_scale_a", "logit_scale_t")
"""Logarithms of what similarities are multiplied by."""


class ClapError(LmaczsError, ValueError):
    """Why a CLAP checkpoint cannot be used, in one sentence that names it."""


def load_checkpoint(
    source: str | Path,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[ClapModel, ClapFeatureExtractor, PreTrainedTokenizerBase]:
    """Load the three parts of a CLAP checkpoint; code that it names is never run.

    Parameters
    ----------
    source : str or Path
        A folder, which is never looked up on the network, or a Hub id.
    revision : str, optional
        Commit, tag or branch of a repository of the Hub.
    trust_remote_code : bool
        Read weights from pickles, too, where there are no others: by torch's reader of
        weights alone.

    Returns
    -------
    tuple
        Model in float32, feature extractor, tokenizer.

    Raises
    ------
    FileNotFoundError
        If a folder holds no config.json.
    ClapError
        If a file is missing or damaged, is a pipe or a link out of the folder, or says
        more than the weights hold; the Hub cannot be reached or has no such repository;
        or weights are missing, misshapen, not finite or pickled.
    """
    folder = _folder(source, revision, trust_remote_code)
    if not (folder / "config.json").exists():
        raise FileNotFoundError(
            f"{source} holds no CLAP checkpoint (config.json is missing)"
        )
    try:
        return _read(folder, trust_remote_code)
    except ClapError as error:
        raise ClapError(f"{source} {error}") from error
    except Exception as error:  # safetensors, JSON and the libraries have their own
        raise ClapError(
            f"{source} cannot be loaded as a CLAP checkpoint "
            f"({_first_sentence(error)}): give a folder with all of its files, "
            "undamaged, or another Hub id"
        ) from error


def _folder(source: str | Path, revision: str | None, pickles: bool) -> Path:
    """The folder itself, or that of a repository in the Hub's cache."""
    try:
        return clap_folder(source, revision, pickles)
    except FileNotFoundError as error:
        raise ClapError(
            f"{source} is no folder, and cannot be fetched from the Hub "
            f"({_first_sentence(error.__cause__ or error)}): check the name and the "
            "connection, or give a folder"
        ) from error


def _read(
    folder: Path, pickles: bool
) -> tuple[ClapModel, ClapFeatureExtractor, PreTrainedTokenizerBase]:
    files = _weight_files(folder, pickles)
    most_bytes = sum(path.stat().st_size for path in files)
    weights: dict[str, Tensor] = {}
    if files[0].suffix == ".bin":
        weights = unpickled(files)
        shapes: Shapes = {key: tuple(value.shape) for key, value in weights.items()}
    else:
        shapes = shapes_in(files)
    config = read_config(folder, shapes, most_bytes)
    shapes = _own_shapes(config, shapes)
    require_in_proportion(config, shapes, folder)
    extractor = read_extractor(folder, config, shapes, most_bytes)
    tokenizer = read_tokenizer(folder, config, most_bytes)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # transformers makes up an empty tokenizer: all prompts would be the same
        raise ClapError(
            "is no whole CLAP checkpoint: its tokenizer knows no word (tokenizer.json "
            "is missing); fetch or save it again, or choose another one"
        )
    model = _build(config, weights or tensors_in(files), str(folder))
    return model, extractor, tokenizer


def _weight_files(folder: Path, pickles: bool) -> list[Path]:
    """Files of the weights; those that run code when they are read only if trusted."""
    safe = [one for one in CLAP_FILES if one.startswith("model")]
    for patterns in (safe, PICKLED):
        names = [p.name for one in patterns for p in sorted(folder.glob(one))]
        if names[:1] == [patterns[0]]:
            del names[1:]  # whole, beside parts of another saving
        if names and patterns is PICKLED and not pickles:
            raise ClapError(
                f"has its weights in a pickle ({names[0]}), which can run code: if you "
                "trust who made it, add --trust-remote-code (trust_remote_code=True "
                "in Python), or save it as safetensors"
            )
        if names:
            return [require_plain(folder, name) for name in names]
    raise InputError(
        f"{safe[0]} is missing; a {PICKLED[0]} is fetched and read with "
        "--trust-remote-code alone"
    )


def _own_shapes(config: ClapConfig, shapes: Shapes) -> Shapes:
    """Shapes of a model's weights among those in its files, before it is allocated.

    What else the files hold says nothing of how large the model may be.
    """
    with torch.device("meta"):
        wanted = _learnt(ClapModel(config).state_dict())
    _refuse(faults(wanted, shapes))
    return {key: shapes[key] for key in wanted}


def _build(config: ClapConfig, weights: dict[str, Tensor], name: str) -> ClapModel:
    """The model in float32, whole.

    Integer buffers (position_ids, relative_position_index) follow from the
    configuration, and older checkpoints lack them or hold others.
    """
    kept = {k: w for k, w in weights.items() if w.is_floating_point() or _counts(k)}
    with _without_its_report():
        loaded: Any = ClapModel.from_pretrained(
            None,
            config=config,
            state_dict=kept,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that all of them are reported
        )
    model, report = loaded
    _require_whole(model.state_dict(), report)
    known = model.state_dict()
    extra = sorted(key for key in report["unexpected_keys"] if key not in known)
    if extra:
        message = "%s: what a CLAP does not have is ignored: %s (%d in all)"
        logger.warning(message, name, some(extra), len(extra))
    return model


def _counts(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _learnt(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: w for key, w in weights.items() if w.is_floating_point()}


def _require_whole(weights: dict[str, Tensor], report: dict[str, Any]) -> None:
    """Refuse random, misshapen and non-finite weights."""
    learnt = _learnt(weights)
    lost = set(report["missing_keys"])
    shapes = {key: tuple(theirs) for key, theirs, _ in report["mismatched_keys"]}
    own = {key: tuple(w.shape) for key, w in learnt.items() if key not in lost}
    _refuse(faults(learnt, own | {k: s for k, s in shapes.items() if k in own}))
    bad = broken(weights)
    _refuse(f"{counted(bad)} NaN or infinite ({some(bad)})" if bad else "")
    bad = [k for k, w in learnt.items() if k.endswith("running_var") and (w < 0).any()]
    _refuse(f"a variance is negative ({some(bad)})" if bad else "")
    bad = [k for k, w in learnt.items() if k in SCALES and not 0 < w.exp() < torch.inf]
    _refuse(f"no probability can be made with {some(bad)}" if bad else "")


def _refuse(fault: str) -> None:
    if fault:
        raise ClapError(
            f"is no whole CLAP checkpoint: {fault}; fetch or save it again, or choose "
            "another one"
        )


def _first_sentence(error: BaseException) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.split(r"(?<=[.!?])\s", line)[0].rstrip(" .:")


@contextmanager
def _without_its_report() -> Iterator[None]:
    """Suppress transformers' table of missing weights; an error names them instead."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
