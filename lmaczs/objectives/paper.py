"""Terms that stand where those of LMAC-ZS and L-MAC do: pure functions, and their sum.

Notation of LMAC-ZS, for clip ``j`` and prompt ``i`` (eq. 5 is ``C_ij``)::

    t_i      text embedding, unit norm             text        [B, P, D]
    C_ij     t_i . f(X_j)                          original    [B, P]
    M_ij     decoder(t_i, h_j)                     masks       [B, P, F, T]
    C^_ij    t_i . f(M_ij * X_j)                   masked      [B, P]

Each row of a batch is a clip with P prompts; ``present`` [B, P] says which of them
sound in it. Every term returns one value per clip, so that no term depends on what else
is in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Sided = Literal["two-sided", "one-sided"]


def similarity_term(
    masked: Tensor,
    original: Tensor,
    present: Tensor,
    absent_prompts: Sided = "one-sided",
    present_prompts: Sided = "two-sided",
    margin: float = 0.0,
) -> Tensor:
    """The similarity that the mask leaves should be the one that was there.

    Two-sided it is ``| C^_ij - C_ij |``, the first term of LMAC-ZS, eq. 6, which takes
    all pairs of a batch alike. One-sided, which is ours, it is
    ``relu(C_ij + margin - C^_ij)`` for prompts that are present: freeing a sound from
    others may raise its similarity, and with a margin it should; for absent ones
    ``relu(C^_ij - C_ij)``: a mask may take away from a prompt that is not there, never
    add to it.

    Parameters
    ----------
    masked : Tensor [B, P]
        Cosines under the mask.
    original : Tensor [B, P]
        Cosines without it.
    present : Tensor [B, P], bool
        Which prompts sound in the clip.
    absent_prompts : {"one-sided", "two-sided"}
        How prompts that are absent are treated.
    present_prompts : {"one-sided", "two-sided"}
        How those that are present are treated.
    margin : float
        By how much the similarity of present prompts should rise, one-sided only.

    Returns
    -------
    Tensor [B]
        Mean over present prompts plus mean over absent ones.

    Raises
    ------
    ValueError
        If an option is none of the two, or a margin would be ignored.
    """
    options = {"absent_prompts": absent_prompts, "present_prompts": present_prompts}
    for name, option in options.items():
        if option not in get_args(Sided):
            raise ValueError(f"{name} is {option!r}, not one of {get_args(Sided)}")
    if margin and present_prompts == "two-sided":
        raise ValueError(
            f"margin is {margin}, but present_prompts is 'two-sided': give margin 0"
        )
    change = masked - original
    absent = change.relu() if absent_prompts == "one-sided" else change.abs()
    kept = change.abs()
    if present_prompts == "one-sided":
        kept = (margin - change).relu()
    return mean_where(kept, present) + mean_where(absent, ~present)


def sparsity_term(masks: Tensor) -> Tensor:
    """Mean of the masks: without it, keeping everything is a perfect answer.

    Parameters
    ----------
    masks : Tensor [B, P, F, T]
        In [0, 1].

    Returns
    -------
    Tensor [B]
        In [0, 1].
    """
    return masks.flatten(1).mean(1)


def diversity_term(masks: Tensor, text: Tensor) -> Tensor:
    """Masks of two prompts may be no more alike than the prompts are.

    ``relu(cos(M_ij, M_kj) - max(0, t_i . t_k))``, mean over the pairs i < k: a cosine
    of masks, one-sided, and ours. D of LMAC-ZS, eq. 7, is another term,
    ``| t_i . t_k - f(M_ij * X_j) . f(M_kj * X_j) |``: it compares embeddings of the
    two masked sounds.

    Parameters
    ----------
    masks : Tensor [B, P, F, T]
        In [0, 1].
    text : Tensor [B, P, D]
        Unit norm.

    Returns
    -------
    Tensor [B]
        0 where there is one prompt only.
    """
    prompts = masks.shape[1]
    if prompts == 1:
        return masks.new_zeros(len(masks))
    i, k = torch.triu_indices(prompts, prompts, offset=1, device=masks.device)
    unit = nn.functional.normalize(masks.flatten(2), dim=-1)
    masks_alike = (unit @ unit.transpose(1, 2))[:, i, k]
    texts_alike = (text @ text.transpose(1, 2))[:, i, k]
    return (masks_alike - texts_alike.relu()).relu().mean(1)


def masked_in_term(logits: Tensor, predicted: Tensor) -> Tensor:
    """L-MAC, eq. 2: the masked input should be classified as the input was.

    Parameters
    ----------
    logits : Tensor [B, K]
        ``s * T f(M * X)``.
    predicted : Tensor [B]
        Index of the class predicted without a mask.

    Returns
    -------
    Tensor [B]
        Cross-entropy.
    """
    return nn.functional.cross_entropy(logits, predicted, reduction="none")


def masked_out_term(logits: Tensor, predicted: Tensor) -> Tensor:
    """L-MAC, eq. 2: what is left out should not be classified so.

    Parameters
    ----------
    logits : Tensor [B, K]
        ``s * T f((1 - M) * X)``.
    predicted : Tensor [B]
        Index of the class predicted without a mask.

    Returns
    -------
    Tensor [B]
        Negative cross-entropy.
    """
    return -masked_in_term(logits, predicted)


def weighted_sum(
    terms: Mapping[str, Tensor], weights: Mapping[str, float]
) -> dict[str, Tensor]:
    """Means of the terms over clips, and their weighted sum.

    Parameters
    ----------
    terms : mapping of str to Tensor [B]
        Loss terms.
    weights : mapping of str to float
        From the YAML.

    Returns
    -------
    dict of str to Tensor
        Scalars: every term under its name, and ``loss``.

    Raises
    ------
    ValueError
        If a weight names no term: it would be ignored without a word.
    """
    unknown = sorted(set(weights) - set(terms))
    if unknown:
        raise ValueError(
            f"weights name {unknown}, but the objective has {sorted(terms)}"
        )
    means = {name: term.mean() for name, term in terms.items()}
    means["loss"] = sum(weights[name] * means[name] for name in weights)
    return means


def mean_where(values: Tensor, where: Tensor) -> Tensor:
    """Mean over chosen columns of each row.

    Parameters
    ----------
    values : Tensor [B, N]
        Finite.
    where : Tensor [B, N], bool
        Which are meant.

    Returns
    -------
    Tensor [B]
        0 where none is.
    """
    return (values * where).sum(1) / where.sum(1).clamp_min(1)
