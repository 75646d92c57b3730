"""The terms of LMAC-ZS and L-MAC: pure functions.

Notation of LMAC-ZS, for clip ``j`` and prompt ``i``::

    t_i      text embedding, unit norm             text        [B, P, D]
    C_ij     t_i . f(X_j), eq. 5                   original    [B, P]
    M_ij     decoder(t_i, h_j)                     masks       [B, P, F, T]
    C^_ij    t_i . f(M_ij * X_j)                   masked      [B, P]

Each row of a batch is a clip with P prompts; ``present`` [B, P] marks those that sound
in it. Every term returns one value per clip, independent of the rest of the batch.

The objective of LMAC-ZS, eq. 6, takes all pairs of the batch alike, matched or not::

    sum_ij ( | C_ij - C^_ij | + lambda_1 || M_ij ||_1 )  +  lambda_2 sum_j D(X_j)

with ``D`` of eq. 7 (`diversity`). The rows of such a batch hold the prompts of all its
clips, P = B, the clip's own first. Means instead of sums keep the loss comparable for
any batch size and grid::

    mean_j ( all_pairs_similarity_term + lambda_1 F T sparsity_term
             + lambda_2 diversity_term )

is eq. 6 divided by ``B^2``. So the weights of similarity and diversity are the paper's
1 and lambda_2, and that of sparsity is the paper's lambda_1 times the ``F T`` cells.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from lmaczs.utils.errors import LmaczsError

Sided = Literal["two-sided", "one-sided"]


class ObjectiveError(LmaczsError, ValueError):
    """An objective that cannot be made: the wrong option of the YAML, and the fix."""


def require_sides(absent_prompts: str, present_prompts: str, margin: float) -> None:
    """Raise an ObjectiveError for options that `similarity_term` does not have."""
    options = {"absent_prompts": absent_prompts, "present_prompts": present_prompts}
    for name, option in options.items():
        if option not in get_args(Sided):
            raise ObjectiveError(f"{name} is {option!r}, not one of {get_args(Sided)}")
    if margin and present_prompts == "two-sided":
        raise ObjectiveError(
            f"margin is {margin}, but present_prompts is 'two-sided': give margin 0"
        )


def pair_similarity(text: Tensor, audio: Tensor) -> Tensor:
    """LMAC-ZS, eq. 5: ``C_ij = t_i . f(X_j)``.

    Parameters
    ----------
    text : Tensor [B, P, D]
        Prompts of each clip, unit norm.
    audio : Tensor [B, D] or [B, P, D]
        Embedding of each clip, or of each pair's masked clip; unit norm.

    Returns
    -------
    Tensor [B, P]
        Cosines.
    """
    return (text * (audio if audio.dim() == 3 else audio[:, None])).sum(-1)


def all_pairs_similarity_term(
    text: Tensor, embedding: Tensor, masked_in: Tensor
) -> Tensor:
    """First term of LMAC-ZS, eq. 6: ``| C_ij - t_i . f(M(t_i, h_j) * X_j) |``.

    Two-sided, and all prompts of the batch alike, whether they are present or not.

    Parameters
    ----------
    text : Tensor [B, P, D]
        Prompts of each clip, unit norm; in eq. 6 those of all clips.
    embedding : Tensor [B, D]
        ``f(X_j)``.
    masked_in : Tensor [B, P, D]
        ``f(M_ij * X_j)``.

    Returns
    -------
    Tensor [B]
        Mean over the P prompts, where the paper has the sum.
    """
    change = pair_similarity(text, embedding) - pair_similarity(text, masked_in)
    return change.abs().mean(1)


def diversity(text: Tensor, masked_in: Tensor) -> Tensor:
    """LMAC-ZS, eq. 7: sounds under two masks are as alike as the two prompts.

    ::

        D(X_i) = sum over j != i of
                 | t_i . t_j - f(X_i * M(t_i, h_i)) . f(X_i * M(t_j, h_i)) |

    Parameters
    ----------
    text : Tensor [B, P, D]
        ``t_j``, unit norm; the first one of a row is ``t_i``, the clip's own.
    masked_in : Tensor [B, P, D]
        ``f(X_i * M(t_j, h_i))``, unit norm.

    Returns
    -------
    Tensor [B]
        The sum, as in the paper; 0 for one prompt.
    """
    of_texts = pair_similarity(text[:, 1:], text[:, 0])
    of_sounds = pair_similarity(masked_in[:, 1:], masked_in[:, 0])
    return (of_texts - of_sounds).abs().sum(1)


def diversity_term(text: Tensor, masked_in: Tensor) -> Tensor:
    """``D(X_i) / P`` [B], see `diversity`: third term of eq. 6 as a mean over pairs."""
    return diversity(text, masked_in) / text.shape[1]


def similarity_term(
    masked: Tensor,
    original: Tensor,
    present: Tensor,
    absent_prompts: Sided = "one-sided",
    present_prompts: Sided = "two-sided",
    margin: float = 0.0,
) -> Tensor:
    """The similarity under the mask should be the one without it.

    Two-sided it is ``| C^_ij - C_ij |``, but present and absent prompts weigh the same
    (LMAC-ZS, eq. 6: `all_pairs_similarity_term`). One-sided, which is ours, it is
    ``relu(C_ij + margin - C^_ij)`` for present prompts: separating a sound from others
    may raise its similarity, and with a margin it should; for absent ones
    ``relu(C^_ij - C_ij)``: a mask may lower the similarity of an absent prompt, never
    raise it.

    Parameters
    ----------
    masked : Tensor [B, P]
        Cosines under the mask.
    original : Tensor [B, P]
        Cosines without it.
    present : Tensor [B, P], bool
        Which prompts sound in the clip.
    absent_prompts : {"one-sided", "two-sided"}
        Form of the term for absent prompts.
    present_prompts : {"one-sided", "two-sided"}
        Form of the term for present prompts.
    margin : float
        By how much the similarity of present prompts should rise, one-sided only.

    Returns
    -------
    Tensor [B]
        Mean over present prompts plus mean over absent ones; not negative.

    Raises
    ------
    ObjectiveError
        If a form is unknown, or a margin would be ignored.
    """
    require_sides(absent_prompts, present_prompts, margin)
    change = masked - original
    absent = change.relu() if absent_prompts == "one-sided" else change.abs()
    kept = change.abs()
    if present_prompts == "one-sided":
        kept = (margin - change).relu()
    return mean_where(kept, present) + mean_where(absent, ~present)


def sparsity_term(masks: Tensor) -> Tensor:
    """Mean of each clip's masks [B, P, F, T], in [0, 1].

    Second term of LMAC-ZS, eq. 6, ``|| M(t_i, h_j) ||_1``, as a mean over the P prompts
    and the F x T cells. Without it a mask of ones is optimal.
    """
    return masks.flatten(1).mean(1)


def masked_in_term(logits: Tensor, predicted: Tensor) -> Tensor:
    """L-MAC, eq. 2: the masked-in signal should be classified as the input was.

    Cross-entropy [B] of `logits` [B, K], ``s * T f(M * X)``, and the index `predicted`
    [B] of the class predicted without a mask. Not negative.
    """
    return nn.functional.cross_entropy(logits, predicted, reduction="none")


def masked_out_term(logits: Tensor, predicted: Tensor) -> Tensor:
    """L-MAC, eq. 2: the masked-out signal should not be classified as the input was.

    Negative cross-entropy [B] of `logits` [B, K], ``s * T f((1 - M) * X)``, and the
    index `predicted` [B] of the class predicted without a mask. Not bounded below.
    """
    return -masked_in_term(logits, predicted)


def mean_where(values: Tensor, where: Tensor) -> Tensor:
    """Mean of each row of finite values [B, N] over chosen columns; 0 where none is."""
    return (values * where).sum(1) / where.sum(1).clamp_min(1)
