"""Objectives: weighted sums of terms, on given prompts or on the predicted class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from lmaczs.objectives.paper import ObjectiveError
from lmaczs.objectives.terms import TERMS, MaskedPairs, TermOptions

LMAC_TERMS = ("masked_in", "masked_out", "sparsity", "total_variation")
FINETUNING_TERMS = (
    *("masked_in", "masked_out"),
    *("unguided_sparsity", "unguided_total_variation", "guidance"),
)
PAPER_TERMS = ("all_pairs_similarity", "sparsity", "diversity")
NOT_OURS = {*LMAC_TERMS, *FINETUNING_TERMS, *PAPER_TERMS} - {"sparsity"}
OBJECTIVES = {
    "lmaczs": tuple(name for name in TERMS if name not in NOT_OURS),
    "lmaczs_paper": PAPER_TERMS,
    "lmac": LMAC_TERMS,
    "lmac_finetuning": FINETUNING_TERMS,
}


class Objective:
    """Weighted sum of terms. A term without a weight is not computed.

    ``lmaczs_paper`` is LMAC-ZS (Paissan et al., 2024), eqs. 6 and 7: each clip is
    paired with the prompts of all clips of its batch. With weights 1, lambda_1 and
    lambda_2 the loss is the paper's sum divided by the number of pairs, with the L1
    norm of a mask as its mean over cells, see `lmaczs.objectives.paper`.

    ``lmaczs`` is LMAC-ZS+: after LMAC-ZS, with terms of ours. The change of similarity
    may be one-sided, D is replaced by `mask_diversity_term`, seven terms are added, and
    each clip is paired with a few prompts.

    ``lmac`` is L-MAC (Paissan et al., ICML 2024, eq. 3) on zero-shot class prompts,
    with the total variation of SpeechBrain's recipe; ``lmac_finetuning`` is that
    recipe's second stage, see `lmaczs.objectives.guidance`.

    Parameters
    ----------
    name : {"lmaczs", "lmaczs_paper", "lmac", "lmac_finetuning"}
        Which terms it may have.
    loss_weights : mapping of str to float
        Weights of its terms, by the names of `lmaczs.objectives.terms.TERMS`.
    options : TermOptions
        Of the terms.

    Attributes
    ----------
    weights : dict of str to float
        Those that are not 0.
    needs : frozenset of str
        Optional fields of `MaskedPairs` that its terms read.

    Raises
    ------
    ObjectiveError
        If the objective or a term is unknown, or all weights are 0.
    """

    def __init__(
        self, name: str, loss_weights: Mapping[str, float], options: TermOptions
    ) -> None:
        require_known("objective", name, OBJECTIVES)
        for term, weight in loss_weights.items():
            require_known("loss_weights", term, OBJECTIVES[name])
            if not isinstance(weight, Real):
                raise ObjectiveError(
                    f"loss_weights: {term} is {weight!r}: give it a number"
                )
        self.name, self.options = name, options
        self.weights = {k: float(v) for k, v in loss_weights.items() if v}
        if not self.weights:
            raise ObjectiveError(
                f"loss_weights has none for {name}: give one of its terms "
                f"({', '.join(OBJECTIVES[name])}) a weight"
            )
        self.needs = frozenset(n for term in self.weights for n in TERMS[term].needs)

    @property
    def explains_prediction(self) -> bool:
        """Whether a clip's one mask is for its predicted class, not for its prompts."""
        return self.name in ("lmac", "lmac_finetuning")

    @property
    def explains_batch(self) -> bool:
        """Whether a clip has masks for the prompts of all clips of its batch."""
        return self.name == "lmaczs_paper"

    def __call__(self, pairs: MaskedPairs) -> dict[str, Tensor]:
        """Mean of each term over the clips, and their weighted sum ``loss``: scalars.

        `pairs` has the optional fields that the objective `needs`.
        """
        means = {
            name: TERMS[name].function(pairs, self.options).mean()
            for name in self.weights
        }
        loss = torch.stack([w * means[name] for name, w in self.weights.items()]).sum()
        return {**means, "loss": loss}


def make_objective(
    objective: str, loss_weights: Mapping[str, Any], **options: Any
) -> Objective:
    """Make an objective from the values of a YAML.

    Parameters
    ----------
    objective : {"lmaczs", "lmaczs_paper", "lmac", "lmac_finetuning"}
        Its name.
    loss_weights : mapping
        Weights of terms, or of each objective's name to such a mapping. A weight
        beside those mappings replaces that of the chosen objective, so
        ``--loss_weights="{sparsity: 3}"`` changes one and keeps the others.
    **options : Any
        Fields of `TermOptions`.

    Returns
    -------
    Objective

    Raises
    ------
    ObjectiveError
        If a name is unknown; the message suggests the nearest one.
    """
    blocks = {k: v for k, v in loss_weights.items() if isinstance(v, Mapping)}
    for name in blocks:
        require_known("loss_weights", name, OBJECTIVES)
    own = {k: v for k, v in loss_weights.items() if k not in blocks}
    weights = {**blocks.get(objective, {}), **own}
    return Objective(objective, weights, TermOptions(**options))


def require_known(option: str, name: str, known: Iterable[str]) -> None:
    """Raise an ObjectiveError that suggests the nearest name for an unknown one."""
    if name in known:
        return
    near = get_close_matches(name, known, n=1)
    fix = f"do you mean {near[0]}?" if near else f"it may be {', '.join(known)}"
    raise ObjectiveError(f"{option}: there is no {name!r}, {fix}")


def use_predicted_prompt(
    text: Tensor,
    present: Tensor,
    replaced: Tensor,
    predicted: Tensor,
    same_prompt_cosine: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Replace the first prompt of some clips by the predicted class.

    So errors of the model are explained, too.

    Parameters
    ----------
    text : Tensor [B, P, D]
        Prompts of each clip, unit norm; the first one is the clip's own.
    present : Tensor [B, P], bool
        Which prompts sound in the clip.
    replaced : Tensor [B], bool
        Clips whose first prompt is replaced.
    predicted : Tensor [B, D]
        Prompts of the predicted classes.
    same_prompt_cosine : float
        Cosine above which two prompts mean the same.

    Returns
    -------
    tuple
        Prompts [B, P, D]; which of them are present [B, P], those that mean the same as
        the new prompt included; whether the first prompt still means the same [B].
    """
    replaced = replaced.to(text.device)[:, None]
    first = torch.where(replaced, predicted, text[:, 0])
    as_before = (text[:, 0] * first).sum(-1) > same_prompt_cosine
    text = torch.cat([first[:, None], text[:, 1:]], 1)
    same = (text @ first[..., None])[..., 0] > same_prompt_cosine
    return text, present | (replaced & same), as_before


def share_prompts(
    own: Tensor, first: int, clips: int, same_prompt_cosine: float
) -> tuple[Tensor, Tensor]:
    """Pair clips with the prompts of all clips of a batch.

    Parameters
    ----------
    own : Tensor [N, D]
        Prompt of each clip of the batch, unit norm.
    first : int
        Index in `own` of the first of the clips that are paired: of several processes
        each has a part of the batch.
    clips : int
        Number B of clips that are paired.
    same_prompt_cosine : float
        Cosine above which two prompts mean the same.

    Returns
    -------
    text : Tensor [B, N, D]
        All of `own` in each row, the clip's own prompt first.
    present : Tensor [B, N], bool
        Which mean the same as the clip's own.
    """
    rows = first + torch.arange(clips, device=own.device)
    places = torch.arange(len(own), device=own.device)
    text = own[(rows[:, None] + places) % len(own)]
    present = (text @ text[:, 0, :, None])[..., 0] > same_prompt_cosine
    present[:, 0] = True
    return text, present
