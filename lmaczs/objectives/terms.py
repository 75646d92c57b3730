"""The registry of terms: to add one is to add an entry to `TERMS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lmaczs.objectives.extensions import (
    absent_term,
    interference_term,
    leakage_term,
    mask_diversity_term,
    masked_in_contrast_term,
    masked_out_contrast_term,
    masked_out_similarity_term,
    omission_term,
)
from lmaczs.objectives.guidance import (
    LogMagnitude,
    guidance_term,
    similar_enough,
    total_variation_term,
)
from lmaczs.objectives.paper import (
    Sided,
    all_pairs_similarity_term,
    diversity_term,
    masked_in_term,
    masked_out_term,
    pair_similarity,
    require_sides,
    similarity_term,
    sparsity_term,
)
from lmaczs.objectives.source_power import SourcePower


@dataclass(frozen=True)
class MaskedPairs:
    """A batch of clips with P prompts each, their masks, and the masked sounds.

    Attributes
    ----------
    text : Tensor [B, P, D]
        ``t_i``.
    present : Tensor [B, P], bool
        Which prompts sound in the clip; the first one always counts as the clip's.
    masks : Tensor [B, P, F, T]
        ``M_ij``.
    embedding : Tensor [B, D]
        ``f(X_j)``.
    masked_in : Tensor [B, P, D]
        ``f(M_ij * X_j)``.
    classes : Tensor [K, D]
        Embeddings of the class prompts.
    logit_scale : float
        The checkpoint's.
    masked_out : Tensor [B, D], optional
        ``f((1 - M_jj) * X_j)``, for the first prompt.
    power : Tensor [B, F, T], optional
        Of the clip, as fractions of its sum; 0 throughout in silence.
    sources : SourcePower, optional
        None where no clip's sources are known.
    magnitude : LogMagnitude, optional
        Of the clips.
    presence : Tensor [B, P], optional
        Fraction of reference prompts that are less similar to the clip.
    """

    text: Tensor
    present: Tensor
    masks: Tensor
    embedding: Tensor
    masked_in: Tensor
    classes: Tensor
    logit_scale: float
    masked_out: Tensor | None = None
    power: Tensor | None = None
    sources: SourcePower | None = None
    magnitude: LogMagnitude | None = None
    presence: Tensor | None = None

    @property
    def original_similarity(self) -> Tensor:
        """``C_ij`` [B, P]."""
        return pair_similarity(self.text, self.embedding)

    @property
    def masked_similarity(self) -> Tensor:
        """``C^_ij`` [B, P]."""
        return pair_similarity(self.text, self.masked_in)

    @property
    def predicted(self) -> Tensor:
        """Index [B] of the class that is predicted for the input."""
        return self.class_logits(self.embedding).argmax(-1)

    def class_logits(self, embedding: Tensor) -> Tensor:
        """``s * T f(.)`` [B, K] of audio embeddings [B, D]."""
        return self.logit_scale * embedding @ self.classes.T


@dataclass(frozen=True)
class TermOptions:
    """Options of the terms, under their names in the YAML.

    `absent_presence` is of `absent_term`; `same_prompt_cosine` (see
    `masked_in_contrast_term`) belongs to the CLAP checkpoint; `crosscor_threshold` and
    `binarise_level` are of `guidance_term`, the others of `similarity_term`.
    """

    absent_presence: float
    same_prompt_cosine: float
    crosscor_threshold: float = 0.6
    binarise_level: float = 0.35
    absent_prompts: Sided = "one-sided"
    present_prompts: Sided = "two-sided"
    margin: float = 0.0

    def __post_init__(self) -> None:
        require_sides(self.absent_prompts, self.present_prompts, self.margin)


@dataclass(frozen=True)
class Term:
    """A term of an objective.

    `function` gives one value per clip, [B]; `source` is the equation of a paper, or
    "ours"; `meaning` is what it penalises, in one line; `needs` are the optional fields
    of `MaskedPairs` that it reads.
    """

    function: Callable[[MaskedPairs, TermOptions], Tensor]
    source: str
    meaning: str
    needs: tuple[str, ...] = ()


def _similarity(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    return similarity_term(
        pairs.masked_similarity,
        pairs.original_similarity,
        pairs.present,
        options.absent_prompts,
        options.present_prompts,
        options.margin,
    )


def _all_pairs_similarity(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    return all_pairs_similarity_term(pairs.text, pairs.embedding, pairs.masked_in)


def _diversity(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    return diversity_term(pairs.text, pairs.masked_in)


def _sparsity(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    return sparsity_term(pairs.masks)


def _total_variation(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    return total_variation_term(pairs.masks)


def _unguided_sparsity(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    return sparsity_term(pairs.masks) * ~_guided(pairs, options)


def _unguided_variation(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    return total_variation_term(pairs.masks) * ~_guided(pairs, options)


def _guidance(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    assert pairs.magnitude is not None
    return guidance_term(
        pairs.masks[:, 0],
        pairs.magnitude,
        options.crosscor_threshold,
        options.binarise_level,
    )


def _guided(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    assert pairs.magnitude is not None
    threshold = options.crosscor_threshold
    return similar_enough(pairs.masks[:, 0], pairs.magnitude, threshold)


def _masked_in(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    return masked_in_term(pairs.class_logits(pairs.masked_in[:, 0]), pairs.predicted)


def _masked_out(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    assert pairs.masked_out is not None
    return masked_out_term(pairs.class_logits(pairs.masked_out), pairs.predicted)


def _mask_diversity(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    return mask_diversity_term(pairs.masks, pairs.text)


def _masked_out_similarity(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    assert pairs.masked_out is not None
    return masked_out_similarity_term(pairs.masked_out, pairs.text[:, 0])


def _masked_out_contrast(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    assert pairs.masked_out is not None
    return masked_out_contrast_term(
        pairs.masked_out,
        pairs.text[:, 0],
        pairs.classes,
        pairs.logit_scale,
        options.same_prompt_cosine,
    )


def _absent(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    assert pairs.power is not None and pairs.presence is not None
    return absent_term(
        pairs.masks,
        pairs.power,
        pairs.present,
        pairs.presence,
        options.absent_presence,
    )


def _leakage(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    return leakage_term(pairs.masked_in, pairs.text, pairs.present)


def _interference(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    if pairs.sources is None:
        return pairs.masks.new_zeros(len(pairs.masks))
    return interference_term(pairs.masks, pairs.sources.interference, pairs.present)


def _omission(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    if pairs.sources is None:
        return pairs.masks.new_zeros(len(pairs.masks))
    return omission_term(pairs.masks, pairs.sources.target, pairs.present)


def _masked_in_contrast(pairs: MaskedPairs, options: TermOptions) -> Tensor:
    return masked_in_contrast_term(
        pairs.masked_in,
        pairs.text,
        pairs.present,
        pairs.classes,
        pairs.logit_scale,
        options.same_prompt_cosine,
    )


SPEECHBRAIN = "SpeechBrain's recipe"
LMAC_ZS, LMAC = "LMAC-ZS (Paissan et al., 2024)", "L-MAC (Paissan et al., ICML 2024)"

TERMS = {
    "similarity": Term(
        _similarity,
        f"{LMAC_ZS}, eq. 6; one-sided: ours",
        "change of the prompts' similarities under the mask",
    ),
    "sparsity": Term(_sparsity, f"{LMAC_ZS}, eq. 6; L-MAC, eq. 3", "area of the masks"),
    "all_pairs_similarity": Term(
        _all_pairs_similarity,
        f"{LMAC_ZS}, eq. 6",
        "change of all similarities of the batch under the mask",
    ),
    "diversity": Term(
        _diversity,
        f"{LMAC_ZS}, eq. 7",
        "masked-in signals more or less alike than their prompts",
    ),
    "masked_in": Term(_masked_in, f"{LMAC}, eq. 2", "masked-in signal misclassified"),
    "masked_out": Term(
        _masked_out,
        f"{LMAC}, eq. 2",
        "masked-out signal classified as the input",
        needs=("masked_out",),
    ),
    "total_variation": Term(
        _total_variation, f"{SPEECHBRAIN} of {LMAC}", "masks that are not smooth"
    ),
    "unguided_sparsity": Term(
        _unguided_sparsity,
        f"{SPEECHBRAIN} of {LMAC}: fine-tuning",
        "area of the masks that are not guided",
        needs=("magnitude",),
    ),
    "unguided_total_variation": Term(
        _unguided_variation,
        f"{SPEECHBRAIN} of {LMAC}: fine-tuning",
        "masks that are neither guided nor smooth",
        needs=("magnitude",),
    ),
    "guidance": Term(
        _guidance,
        f"{SPEECHBRAIN} of {LMAC}: fine-tuning",
        "masks unlike the loud cells, where they are similar enough already",
        needs=("magnitude",),
    ),
    "mask_diversity": Term(
        _mask_diversity, "ours", "masks more alike than their prompts"
    ),
    "masked_out_similarity": Term(
        _masked_out_similarity,
        "ours",
        "masked-out signal similar to the prompt",
        needs=("masked_out",),
    ),
    "masked_out_contrast": Term(
        _masked_out_contrast,
        "ours, after L-MAC, eq. 2",
        "masked-out signal classified as the prompt",
        needs=("masked_out",),
    ),
    "absent": Term(
        _absent,
        "ours",
        "area and power kept for absent prompts",
        needs=("power", "presence"),
    ),
    "leakage": Term(_leakage, "ours", "one source in the mask of another"),
    "interference": Term(
        _interference, "ours", "power of other sources that is kept", needs=("sources",)
    ),
    "omission": Term(
        _omission,
        "ours",
        "power of the own source that is left out",
        needs=("sources",),
    ),
    "masked_in_contrast": Term(
        _masked_in_contrast,
        "ours, after L-MAC, eq. 2",
        "masked-in signal classified as something else than the prompt",
    ),
}
