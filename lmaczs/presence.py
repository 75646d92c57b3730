"""Presence: where a prompt stands among reference prompts.

A cosine is a number of one checkpoint, and of the sounds that it was trained on. A rank
is comparable: the presence of a prompt in a clip is the fraction of reference prompts
that are less similar to the clip. The reference prompts are the names of the 521
classes of AudioSet (Gemmeke et al., ICASSP 2017; ontology under CC BY 4.0) that YAMNet
scores, in the order of its class map.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.prompts import DEFAULT_TEMPLATE


@cache
def reference_names() -> tuple[str, ...]:
    """Names of AudioSet's classes."""
    text = files("lmaczs").joinpath("reference_prompts.txt").read_text("utf-8")
    return tuple(text.splitlines())


def reference_text(clap: FrozenClap, template: str = DEFAULT_TEMPLATE) -> Tensor:
    """Embeddings [R, D] of the reference prompts; `template` has one ``{}``."""
    return clap.encode_text([template.format(name) for name in reference_names()])


def presence(similarity: Tensor, reference: Tensor) -> Tensor:
    """Fraction of reference prompts that are less similar to a clip than a prompt is.

    Parameters
    ----------
    similarity : Tensor [..., P]
        Cosines of a clip and P prompts.
    reference : Tensor [..., R]
        Cosines of the same clip and the reference prompts.

    Returns
    -------
    Tensor [..., P]
        In [0, 1]. A prompt that is one of the reference prompts is at most (R - 1) / R.
    """
    # searching, not comparing all pairs: a clip may have as many prompts as references
    ordered = reference.sort(-1).values.contiguous()
    below = torch.searchsorted(ordered, similarity.contiguous())
    return below.to(similarity.dtype) / reference.shape[-1]
