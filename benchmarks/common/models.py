"""Models that are measured: CLAPs of two sizes, each with a decoder."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    PreTrainedTokenizerFast,
)

from lmaczs import ZeroShotInterpreter
from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.presence import reference_text

WORDS = ["cat", "dog", "rain", "siren", "wind"]
SIZES = ("small", "full")


@dataclass(frozen=True)
class Subject:
    """A model that is measured.

    Attributes
    ----------
    size : str
        One of SIZES.
    interpreter : ZeroShotInterpreter
        With a decoder.
    fitting : ZeroShotInterpreter
        Of the same CLAP, without one.
    """

    size: str
    interpreter: ZeroShotInterpreter
    fitting: ZeroShotInterpreter


def full_size_clap() -> FrozenClap:
    """CLAP of the public checkpoints' size with random weights.

    Returns
    -------
    FrozenClap
    """
    # a random text tower is collapsed: loading warns, rightly
    logging.getLogger("lmaczs").setLevel(logging.ERROR)
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(WORDS, vocab_size=300, special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(bpe.to_str()),
        pad_token="<pad>",
        model_max_length=77,
    )
    extractor = ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc")
    return FrozenClap(ClapModel(ClapConfig()), extractor, tokenizer)


def load(size: str, device: str, folder: str | Path) -> Subject:
    """Load a model, and the embeddings of its reference prompts.

    Parameters
    ----------
    size : str
        ``small``: the embedded default. ``full``: the public checkpoints' size, with
        random weights, on which time and memory do not depend.
    device : str
        cpu or cuda.
    folder : str or Path
        For the reference prompts' embeddings.

    Returns
    -------
    Subject
    """
    run_opts = {"device": device}
    if size == "small":
        interpreter = ZeroShotInterpreter.from_hparams(run_opts=run_opts)
    else:
        torch.manual_seed(0)
        clap = full_size_clap()
        # at 0, not at 3: both parts of the sound are verified
        decoder = MaskDecoder(clap, initial_logit=0.0)
        named = {"template": "This is a sound of {}.", "model_name": "random"}
        interpreter = ZeroShotInterpreter(
            modules={"clap": clap, "decoder": decoder}, hparams=named, run_opts=run_opts
        )
    hparams = vars(interpreter.hparams)
    given = {name: hparams[name] for name in ("template", "model_name")}
    fitting = ZeroShotInterpreter(
        modules={"clap": interpreter.clap}, hparams=given, run_opts=run_opts
    )
    reference_text(interpreter.clap, given["template"], folder)
    return Subject(size, interpreter, fitting)
