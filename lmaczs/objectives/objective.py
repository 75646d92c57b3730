"""The objectives, LMAC-ZS+ (ours) and L-MAC: weighted sums of terms.

What stands where the papers' terms do is in `lmaczs.objectives.paper`, what the papers
have no term for in `lmaczs.objectives.extensions`. Each row of a batch is a clip with P
prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lmaczs.objectives.extensions import (
    ALIKE,
    absent_term,
    contrast_term,
    interference_term,
    leakage_term,
    omission_term,
    removed_term,
    residual_term,
)
from lmaczs.objectives.paper import (
    Sided,
    diversity_term,
    masked_in_term,
    masked_out_term,
    similarity_term,
    sparsity_term,
    weighted_sum,
)


def ask_predicted(
    text: Tensor, present: Tensor, asked: Tensor, predicted: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Ask some clips for what the model takes them for, not for what is said of them.

    A model that errs has to be explained, too: by what misled it.

    Parameters
    ----------
    text : Tensor [B, P, D]
        Prompts of each clip, unit norm; the first one speaks of it.
    present : Tensor [B, P], bool
        Which prompts sound in the clip.
    asked : Tensor [B], bool
        Clips whose first prompt is replaced.
    predicted : Tensor [B, D]
        Prompts of the classes that the model takes the clips for.

    Returns
    -------
    tuple
        Prompts; which of them are present: also those that say the same as a prompt
        that was put in; and of which clips the first prompt still says the same.
    """
    asked = asked.to(text.device)[:, None]
    first = torch.where(asked, predicted, text[:, 0])
    as_before = (text[:, 0] * first).sum(-1) > ALIKE
    text = torch.cat([first[:, None], text[:, 1:]], 1)
    same = (text @ first[..., None])[..., 0] > ALIKE
    return text, present | (asked & same), as_before


@dataclass(frozen=True)
class Pairs:
    """What a training step knows of a batch of clips with P prompts each.

    Attributes
    ----------
    text : Tensor [B, P, D]
        ``t_i``.
    present : Tensor [B, P], bool
        Which prompts sound in the clip; the first one always counts as the clip's.
    masks : Tensor [B, P, F, T]
        ``M_ij``.
    power : Tensor [B, F, T]
        Of the clip, as shares of the whole; 0 throughout in silence.
    own : Tensor [B, P, F, T]
        Power of a prompt's own sound, as a share of the clip's; 0 throughout where
        nothing else is known to sound.
    others : Tensor [B, P, F, T]
        Power of what sounds beside a prompt's own sound, as a share of the clip's; 0
        where that is not known.
    embedding : Tensor [B, D]
        ``f(X_j)``.
    masked : Tensor [B, P, D]
        ``f(M_ij * X_j)``.
    removed : Tensor [B, D]
        ``f((1 - M_jj) * X_j)``, for the first prompt.
    classes : Tensor [K, D]
        Embeddings of the class prompts.
    logit_scale : float
        The checkpoint's.
    """

    text: Tensor
    present: Tensor
    masks: Tensor
    power: Tensor
    own: Tensor
    others: Tensor
    embedding: Tensor
    masked: Tensor
    removed: Tensor
    classes: Tensor
    logit_scale: float

    @property
    def original_similarity(self) -> Tensor:
        """``C_ij`` [B, P]."""
        return (self.text * self.embedding[:, None]).sum(-1)

    @property
    def masked_similarity(self) -> Tensor:
        """``C^_ij`` [B, P]."""
        return (self.text * self.masked).sum(-1)

    def class_logits(self, embedding: Tensor) -> Tensor:
        """Logits of the classes.

        Parameters
        ----------
        embedding : Tensor [B, D]
            Audio embeddings.

        Returns
        -------
        Tensor [B, K]
            ``s * T f(.)``.
        """
        return self.logit_scale * embedding @ self.classes.T


class LmacZsObjective:
    """LMAC-ZS+: after LMAC-ZS (Paissan et al., 2024, eq. 6), with terms of ours.

    Eq. 6 sums a two-sided change of similarity over all pairs of the batch, the L1 norm
    of the masks and D of eq. 7. Here the change may be one-sided, the norm is a mean,
    diversity is another term (`diversity_term`), seven terms are added, and each clip
    is paired with a few prompts. Two-sided, without margin and with weight 0 for
    diversity and the seven, it is eq. 6 without D on those pairs.

    Parameters
    ----------
    weights : mapping of str to float
        Of similarity, sparsity, diversity, removed, residual, absent, leakage,
        interference, omission, contrast.
    absent_prompts : {"one-sided", "two-sided"}
        See `similarity_term`.
    present_prompts : {"one-sided", "two-sided"}
        See `similarity_term`.
    margin : float
        See `similarity_term`.

    Attributes
    ----------
    explains : str
        "prompts": a mask is decoded for each prompt of a clip.
    """

    explains = "prompts"

    def __init__(
        self,
        weights: Mapping[str, float],
        absent_prompts: Sided = "one-sided",
        present_prompts: Sided = "two-sided",
        margin: float = 0.0,
    ) -> None:
        self.weights = dict(weights)
        self.absent_prompts = absent_prompts
        self.present_prompts = present_prompts
        self.margin = margin

    def __call__(self, pairs: Pairs) -> dict[str, Tensor]:
        """Every term of a batch, and their weighted sum.

        Parameters
        ----------
        pairs : Pairs
            Clips, prompts and what their masks make of them.

        Returns
        -------
        dict of str to Tensor
            From `weighted_sum`.
        """
        removed = (pairs.text[:, 0] * pairs.removed).sum(-1)
        terms = {
            "similarity": similarity_term(
                pairs.masked_similarity,
                pairs.original_similarity,
                pairs.present,
                self.absent_prompts,
                self.present_prompts,
                self.margin,
            ),
            "sparsity": sparsity_term(pairs.masks),
            "diversity": diversity_term(pairs.masks, pairs.text),
            "removed": removed_term(removed),
            "residual": residual_term(
                pairs.removed, pairs.text[:, 0], pairs.classes, pairs.logit_scale
            ),
            "absent": absent_term(
                pairs.masks, pairs.power, pairs.present, pairs.original_similarity
            ),
            "leakage": leakage_term(pairs.masked, pairs.text, pairs.present),
            "interference": interference_term(pairs.masks, pairs.others, pairs.present),
            "omission": omission_term(pairs.masks, pairs.own, pairs.present),
            "contrast": contrast_term(
                pairs.masked,
                pairs.text,
                pairs.present,
                pairs.classes,
                pairs.logit_scale,
            ),
        }
        return weighted_sum(terms, self.weights)


class LmacObjective:
    """L-MAC (Paissan et al., ICML 2024, eq. 3) on zero-shot class prompts.

    Parameters
    ----------
    weights : mapping of str to float
        Of masked_in, masked_out, sparsity.

    Attributes
    ----------
    explains : str
        "predicted": one mask a clip, for the class that is predicted for it.
    """

    explains = "predicted"

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)

    def __call__(self, pairs: Pairs) -> dict[str, Tensor]:
        """Every term of a batch, and their weighted sum.

        Parameters
        ----------
        pairs : Pairs
            Clips with one prompt each, that of the predicted class.

        Returns
        -------
        dict of str to Tensor
            From `weighted_sum`.
        """
        predicted = pairs.class_logits(pairs.embedding).argmax(-1)
        terms = {
            "masked_in": masked_in_term(
                pairs.class_logits(pairs.masked[:, 0]), predicted
            ),
            "masked_out": masked_out_term(pairs.class_logits(pairs.removed), predicted),
            "sparsity": sparsity_term(pairs.masks),
        }
        return weighted_sum(terms, self.weights)


def make_objective(
    name: str,
    weights: Mapping[str, Mapping[str, float]],
    absent_prompts: Sided = "one-sided",
    present_prompts: Sided = "two-sided",
    margin: float = 0.0,
) -> LmacZsObjective | LmacObjective:
    """Choose an objective by its name, as a YAML or a command line does.

    Parameters
    ----------
    name : str
        ``lmaczs`` or ``lmac``.
    weights : mapping
        Of each objective's name to the weights of its terms.
    absent_prompts : {"one-sided", "two-sided"}
        See `similarity_term`; L-MAC has no use for it.
    present_prompts : {"one-sided", "two-sided"}
        Likewise.
    margin : float
        Likewise.

    Returns
    -------
    LmacZsObjective or LmacObjective

    Raises
    ------
    ValueError
        If there is no such objective.
    """
    if name == "lmaczs":
        return LmacZsObjective(weights[name], absent_prompts, present_prompts, margin)
    if name == "lmac":
        return LmacObjective(weights[name])
    raise ValueError(f"objective is {name!r}, not lmaczs or lmac")
