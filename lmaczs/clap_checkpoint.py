"""Reading a CLAP checkpoint; one with missing or broken weights is refused.

transformers initialises missing weights at random, and results would be meaningless.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoFeatureExtractor,
    AutoTokenizer,
    ClapFeatureExtractor,
    ClapModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from lmaczs.utils.errors import LmaczsError

logger = logging.getLogger(__name__)

NAMED = 3  # weights that a sentence names


class ClapError(LmaczsError, ValueError):
    """Why a CLAP checkpoint cannot be used, in one sentence that names it."""


def load_checkpoint(
    source: str | Path, revision: str | None = None
) -> tuple[ClapModel, ClapFeatureExtractor, PreTrainedTokenizerBase]:
    """Load the three parts of a CLAP checkpoint; code that it names is never run.

    Parameters
    ----------
    source : str or Path
        A folder, which is never looked up on the network, or a Hub id.
    revision : str, optional
        Commit, tag or branch of a repository of the Hub.

    Returns
    -------
    tuple
        Model in float32, feature extractor, tokenizer.

    Raises
    ------
    FileNotFoundError
        If a folder holds no config.json.
    ClapError
        If a file is missing or damaged, the Hub cannot be reached or has no such
        repository, or weights are missing, misshapen or not finite.
    """
    name = str(source)
    local = os.path.isdir(name)
    if local and not os.path.isfile(os.path.join(name, "config.json")):
        raise FileNotFoundError(
            f"{name} holds no CLAP checkpoint (config.json is missing)"
        )
    options: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
    options |= {} if revision is None else {"revision": revision}
    try:
        with _without_its_report():
            loaded: Any = ClapModel.from_pretrained(
                name,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that all of them are reported
                **options,
            )
        model, report = loaded
        extractor = AutoFeatureExtractor.from_pretrained(name, **options)
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
    except Exception as error:  # pickle, safetensors, JSON and the Hub have their own
        reason = _first_sentence(error)
        if not local and isinstance(error, OSError):  # no network, or no such name
            raise ClapError(
                f"{name} is no folder, and cannot be fetched from the Hub ({reason}): "
                "check the name and the connection, or give a folder"
            ) from error
        raise ClapError(
            f"{name} cannot be loaded as a CLAP checkpoint ({reason}): give a folder "
            "with all of its files, undamaged, or another Hub id"
        ) from error
    _require_whole(name, model.state_dict(), report)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # transformers makes up an empty tokenizer: all prompts would be the same
        raise ClapError(
            f"{name} is no whole CLAP checkpoint: its tokenizer knows no word "
            "(tokenizer.json is missing); fetch or save it again, or choose another one"
        )
    return model, extractor, tokenizer


def _require_whole(
    name: str, weights: dict[str, Tensor], report: dict[str, Any]
) -> None:
    """Refuse random, misshapen and non-finite weights; extra ones are only logged.

    Integer buffers (position_ids, relative_position_index) follow from config.json, and
    older checkpoints lack them or hold others.
    """
    learnt = {key: w for key, w in weights.items() if w.is_floating_point()}
    missing, reshaped = report["missing_keys"], report["mismatched_keys"]
    shapes = {key: (list(theirs), list(ours)) for key, theirs, ours in reshaped}
    _refuse(name, [k for k in learnt if k in missing], "missing")
    other = {k: "{} instead of {}".format(*shapes[k]) for k in learnt if k in shapes}
    wrong = [f"{key} {shape}" for key, shape in other.items()]
    _refuse(name, wrong, "of another shape than config.json says")
    broken = [key for key, w in learnt.items() if not bool(w.isfinite().all())]
    _refuse(name, broken, "NaN or infinite")
    extra = sorted(key for key in report["unexpected_keys"] if key not in weights)
    if extra:
        message = "%s: what a CLAP does not have is ignored: %s (%d in all)"
        logger.warning(message, name, _some(extra), len(extra))


def _refuse(name: str, keys: Sequence[str], what: str) -> None:
    if keys:
        counted = f"{len(keys)} weight{'s' * (len(keys) > 1)}"
        raise ClapError(
            f"{name} is no whole CLAP checkpoint: {counted} {what} ({_some(keys)}); "
            "fetch or save it again, or choose another one"
        )


def _some(keys: Sequence[str]) -> str:
    return ", ".join([*keys[:NAMED], *(["..."] if len(keys) > NAMED else [])])


def _first_sentence(error: Exception) -> str:
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
