"""The terms of LMAC-ZS and L-MAC: pure functions.

Notation of LMAC-ZS, for clip ``j`` and prompt ``i`` (eq. 5 is ``C_ij``)::

    t_i      text embedding, unit norm             text        [B, P, D]
    C_ij     t_i . f(X_j)                          original    [B, P]
    M_ij     decoder(t_i, h_j)                     masks       [B, P, F, T]
    C^_ij    t_i . f(M_ij * X_j)                   masked      [B, P]

Each row of a batch is a clip with P prompts; ``present`` [B, P] marks those that sound
in it. Every term returns one value per clip, independent of the rest of the batch.
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


def similarity_term(
    masked: Tensor,
    original: Tensor,
    present: Tensor,
    absent_prompts: Sided = "one-sided",
    present_prompts: Sided = "two-sided",
    margin: float = 0.0,
) -> Tensor:
    """The similarity under the mask should be the one without it.

    Two-sided it is ``| C^_ij - C_ij |``, the first term of LMAC-ZS, eq. 6, which treats
    all pairs of a batch alike. One-sided, which is ours, it is
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

    LMAC-ZS's L1 norm but for a constant factor. Without it a mask of ones is optimal.
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
