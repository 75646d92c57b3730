"""Presence: where a prompt stands among reference prompts.

A cosine is a number of one checkpoint, and of the sounds that it was trained on. A rank
is comparable: the presence of a prompt in a clip is the fraction of reference prompts
that are less similar to the clip. The reference prompts are the names of the 521
classes of AudioSet (Gemmeke et al., ICASSP 2017; ontology under CC BY 4.0) that YAMNet
scores, in the order of its class map.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from weakref import WeakKeyDictionary

import pooch
import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.hub import default_source
from lmaczs.prompts import DEFAULT_TEMPLATE
from lmaczs.utils.cache import cached
from lmaczs.utils.digests import digest, fingerprint

logger = logging.getLogger(__name__)

ABSENT, PRESENT = 0.9, 0.95
"""Presence up to which a prompt counts as absent, and from which as present: of the
reference prompts themselves, one in ten and one in twenty are above."""

TIE = 1e-5
"""Cosines that differ by less are equal: those of one prompt, encoded twice."""

NEAREST = 3
"""Reference prompts that stand for a prompt that is a recording."""

_known: WeakKeyDictionary[FrozenClap, dict[str, Tensor]] = WeakKeyDictionary()


@cache
def reference_names() -> tuple[str, ...]:
    """Names of AudioSet's classes."""
    text = files("lmaczs").joinpath("reference_prompts.txt").read_text("utf-8")
    return tuple(text.splitlines())


def reference_text(
    clap: FrozenClap,
    template: str = DEFAULT_TEMPLATE,
    folder: str | Path | None = None,
) -> Tensor:
    """Embeddings of the reference prompts, computed once for a checkpoint.

    Those of the embedded CLAP lie beside its weights.

    Parameters
    ----------
    clap : FrozenClap
        The checkpoint, whose text tower is frozen.
    template : str
        With one ``{}`` for a name.
    folder : str or Path, optional
        Where they are cached; default: that of this user and program. If it cannot be
        written, they are computed once a process.

    Returns
    -------
    Tensor [R, D]
        Unit norm, on the device of `clap`.
    """
    known = _known.setdefault(clap, {})
    if template not in known:
        prompts = [template.format(name) for name in reference_names()]
        key = digest([fingerprint(clap), prompts])
        name = f"references-{key}.pt"
        path = default_source().with_name("clap_small") / name
        if not path.is_file():
            path = Path(folder or pooch.os_cache("lmaczs")) / name
        known[template] = _cached(path, key, lambda: clap.embed_texts(prompts))
    return known[template].to(clap.device)


def share_reference_text(clap: FrozenClap, other: FrozenClap) -> None:
    """Let a model of the same text tower use the same embeddings, not its own."""
    _known[other] = _known.setdefault(clap, {})


def _cached(path: Path, key: str, make: Callable[[], Tensor]) -> Tensor:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return cached(path, key, make)
    except OSError as error:
        logger.debug("%s cannot be written: %s", path, error)
        return make()


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


def presence_in(
    text: Tensor,
    embedding: Tensor,
    references: Tensor,
    recorded: bool | Tensor = False,
) -> Tensor:
    """Presence of prompts [P, D] in sounds, by embeddings.

    The presence of a prompt that is a recording is the mean presence of the `NEAREST`
    reference prompts that it is most similar to: similarities of sounds with each other
    are not comparable with those of sounds and texts.

    Parameters
    ----------
    text : Tensor [..., P, D]
        Of prompts.
    embedding : Tensor [..., D]
        Of sounds.
    references : Tensor [R, D]
        Of the reference prompts.
    recorded : bool or Tensor [P], bool
        Whether the prompts are recordings, or which are.

    Returns
    -------
    Tensor [..., P]
        In [0, 1].
    """
    if isinstance(recorded, Tensor):
        by_words = presence_in(text, embedding, references)
        if not recorded.any():
            return by_words
        by_sounds = presence_in(text, embedding, references, recorded=True)
        return torch.where(recorded, by_sounds, by_words)
    reference = embedding @ references.T
    if not recorded:
        return presence((text @ embedding[..., None])[..., 0] - TIE, reference)
    nearest = (text @ references.T).topk(min(NEAREST, len(references))).indices
    found = reference.gather(-1, nearest.flatten(-2)) - TIE
    ranks = presence(found, reference).unflatten(-1, nearest.shape[-2:])
    return torch.mean(ranks, -1)


def asked_of(presence: Tensor) -> Tensor:
    """How much an explanation of prompts owes to their similarity: weights, 0 or 1.

    0 below `PRESENT`, as in `lmaczs.verdict`: the model does not recognise the prompt,
    and there is nothing to explain. A weight in between would hardly shrink a mask.
    """
    return (presence >= PRESENT).to(presence.dtype)
