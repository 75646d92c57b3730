"""Terms that are ours, not the papers': pure functions.

In the notation of `lmaczs.objectives.paper`, which defines `masks`, `text`, `present`
and `masked`; every term returns one value per clip.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmaczs.objectives.paper import mean_where

MOST = 1e3
"""Above every difference of two logits, below that to a class that does not exist."""


def mask_diversity_term(masks: Tensor, text: Tensor) -> Tensor:
    """Masks of two prompts should be no more similar than the prompts are.

    ``relu(cos(M_ij, M_kj) - max(0, t_i . t_k))``, mean over the pairs i < k: a cosine
    of masks, one-sided. D of LMAC-ZS, eq. 7, is another term,
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
        In [0, 1]; 0 where there is one prompt only.
    """
    prompts = masks.shape[1]
    if prompts == 1:
        return masks.new_zeros(len(masks))
    i, k = torch.triu_indices(prompts, prompts, offset=1, device=masks.device)
    unit = nn.functional.normalize(masks.flatten(2), dim=-1)
    between_masks = (unit @ unit.transpose(1, 2))[:, i, k]
    between_texts = (text @ text.transpose(1, 2))[:, i, k]
    return (between_masks - between_texts.relu()).relu().mean(1)


def absent_term(
    masks: Tensor,
    power: Tensor,
    present: Tensor,
    presence: Tensor,
    absent_presence: float,
) -> Tensor:
    """Penalise mask area and kept power for absent prompts that the model rejects.

    ``min(1, (1 - q_ij) / (1 - a)) (mean(M_ij) + sum(M_ij * S_j)) / 2``, mean over
    absent prompts: area and power `S` both count, for a few cells may hold most of the
    power. Where the model agrees with an absent prompt, its mask may show the evidence.
    Presence ``q`` is a rank, for a cosine means little away from the clips that the
    decoder is trained on.

    Parameters
    ----------
    masks : Tensor [B, P, F, T]
        In [0, 1].
    power : Tensor [B, F, T]
        ``S_j``: of the clip, as fractions of its sum.
    present : Tensor [B, P], bool
        Which prompts sound in the clip.
    presence : Tensor [B, P]
        ``q_ij``: fraction of reference prompts that are less similar to the clip.
    absent_presence : float
        ``a`` in [0, 1): presence up to which the model rejects a prompt altogether.

    Returns
    -------
    Tensor [B]
        In [0, 1]; 0 where no prompt is absent.
    """
    rejected = ((1 - presence) / (1 - absent_presence)).clamp_max(1)
    kept = (masks.mean((2, 3)) + (masks * power[:, None]).sum((2, 3))) / 2
    return mean_where(rejected * kept, ~present)


def masked_out_similarity_term(masked_out: Tensor, text: Tensor) -> Tensor:
    """The masked-out signal should not be similar to the prompt.

    ``relu(t_j . f((1 - M_jj) * X_j))`` of the embeddings `masked_out` [B, D] and the
    first prompts' `text` [B, D], unit norm: Tensor [B] in [0, 1].
    """
    return (text * masked_out).sum(-1).relu()


def leakage_term(masked: Tensor, text: Tensor, present: Tensor) -> Tensor:
    """The mask of one source should not keep another.

    ``relu(t_k . f(M_ij * X_j) - max(0, t_i . t_k))``, mean over the ordered pairs of
    prompts i and k that are both present: a mixture's masks separate its sources.
    `masked` and `text` have unit norm. Tensor [B] in [0, 1]; 0 where fewer than two
    prompts are present.
    """
    carried = masked @ text.transpose(1, 2)
    between_texts = (text @ text.transpose(1, 2)).relu()
    itself = torch.eye(text.shape[1], dtype=torch.bool, device=text.device)
    pairs = present[:, :, None] & present[:, None] & ~itself
    return mean_where((carried - between_texts).relu().flatten(1), pairs.flatten(1))


def interference_term(masks: Tensor, interference: Tensor, present: Tensor) -> Tensor:
    """The interference of each present prompt should be masked out.

    ``sum(M_ij * O_ij)``, mean over present prompts. Known for training mixtures and
    added noise: `interference` [B, P, F, T] is that of `SourcePower`. Tensor [B] in
    [0, 1]: fraction of a clip's power that a mask wrongly keeps.
    """
    return mean_where((masks * interference).sum((2, 3)), present)


def omission_term(masks: Tensor, target: Tensor, present: Tensor) -> Tensor:
    """A prompt's own source should be masked in.

    ``sum((1 - M_ij) * S_ij)``, mean over present prompts: with `interference_term` the
    distance, weighted by power, from the mask that separates the sources. `target`
    [B, P, F, T] is that of `SourcePower`. Tensor [B] in [0, 1]: fraction of a clip's
    power that a mask wrongly leaves out.
    """
    return mean_where(((1 - masks) * target).sum((2, 3)), present)


def masked_in_contrast_term(
    masked: Tensor,
    text: Tensor,
    present: Tensor,
    classes: Tensor,
    logit_scale: float,
    same_prompt_cosine: float,
) -> Tensor:
    """The masked-in signal should be classified as the prompt.

    ``-log(exp(s C^_ij) / (exp(s C^_ij) + sum_k exp(s t_k . f(M_ij * X_j))))``, mean
    over present prompts; k runs over the classes that differ in meaning from prompt i.
    It is L-MAC's masked-in term for any prompt; unlike `similarity_term` it has no
    minimum at the input's similarity.

    Parameters
    ----------
    masked : Tensor [B, P, D]
        ``f(M_ij * X_j)``, unit norm.
    text : Tensor [B, P, D]
        Unit norm.
    present : Tensor [B, P], bool
        Which prompts sound in the clip.
    classes : Tensor [K, D]
        Embeddings of the class prompts.
    logit_scale : float
        ``s``, the checkpoint's.
    same_prompt_cosine : float
        Cosine above which two prompts mean the same, in another template's words.

    Returns
    -------
    Tensor [B]
        Not negative; 0 where no prompt is present.
    """
    log_odds = _log_odds(masked, text, classes, logit_scale, same_prompt_cosine)
    return mean_where(nn.functional.softplus(-log_odds), present)


def masked_out_contrast_term(
    masked_out: Tensor,
    text: Tensor,
    classes: Tensor,
    logit_scale: float,
    same_prompt_cosine: float,
) -> Tensor:
    """The masked-out signal should be classified as any class but the prompt.

    ``-log(1 - p)``, where p is the probability of the prompt in ``f((1 - M_jj) * X_j)``
    among the classes that differ in meaning: L-MAC's masked-out term for any prompt,
    bounded below. It is what FF measures.

    Parameters
    ----------
    masked_out : Tensor [B, D]
        ``f((1 - M_jj) * X_j)``, unit norm.
    text : Tensor [B, D]
        The first prompt, unit norm.
    classes : Tensor [K, D]
        Embeddings of the class prompts.
    logit_scale : float
        ``s``, the checkpoint's.
    same_prompt_cosine : float
        See `masked_in_contrast_term`.

    Returns
    -------
    Tensor [B]
        Not negative; 0 where every class means the same as the prompt.
    """
    pair = masked_out[:, None], text[:, None]
    log_odds = _log_odds(*pair, classes, logit_scale, same_prompt_cosine)[:, 0]
    cost = nn.functional.softplus(log_odds.clamp_max(MOST))
    return cost * (log_odds < MOST)


def _log_odds(
    embedding: Tensor,
    text: Tensor,
    classes: Tensor,
    logit_scale: float,
    same_prompt_cosine: float,
) -> Tensor:
    """Of each prompt [B, P] against the classes that differ in meaning."""
    own = logit_scale * (embedding * text).sum(-1)
    others = logit_scale * (embedding @ classes.T)
    same = text @ classes.T > same_prompt_cosine
    return own - others.masked_fill(same, -torch.inf).logsumexp(-1)
