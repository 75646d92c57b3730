"""How faithful, compact and well placed an explanation is: one value per clip.

Every function is pure and vectorised over the batch; no clip's value depends on the
others'. Probabilities are p = softmax(logit_scale * similarities to the label prompts),
and of the class that the model predicts on the input, ŷ = argmax p,

    c   is p[ŷ] on the input,
    o   is p[ŷ] on what the mask keeps,
    r   is p[ŷ] on what the mask removes.

A mask that is all zero or constant, a certain prediction and a silent signal have
values that are stated below; NaN is never returned for finite arguments.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import relu

from lmaczs.metrics.localisation import (
    mass_in_region,
    mass_on_source,
    pointing_game,
    ratio_or_zero,
    require_equal_shapes,
    si_sdr,
    si_sdr_improvement,
    temporal_iou,
)

__all__ = [
    "accuracy",
    "average_drop",
    "average_drop_speechbrain",
    "average_gain",
    "average_increase",
    "class_probabilities",
    "complexity",
    "faithfulness",
    "faithfulness_table",
    "input_fidelity",
    "mask_mean",
    "mass_in_region",
    "mass_on_source",
    "pointing_game",
    "si_sdr",
    "si_sdr_improvement",
    "sparseness",
    "temporal_iou",
]


def class_probabilities(
    audio_embeddings: Tensor, text_embeddings: Tensor, logit_scale: float | Tensor
) -> Tensor:
    """Turn embeddings into the zero-shot classifier's probabilities.

    LMAC-ZS, eq. 9, writes the softmax without a factor. CLAP was trained with one, and
    AD, AG and FF change by an order of magnitude with it.

    Parameters
    ----------
    audio_embeddings : Tensor
        One per clip, ``[B, D]``, unit norm.
    text_embeddings : Tensor
        One per label prompt, ``[K, D]``, unit norm.
    logit_scale : float | Tensor
        The checkpoint's factor on cosine similarities (already exponentiated).

    Returns
    -------
    Tensor
        softmax(logit_scale * similarity), ``[B, K]``; each row sums to 1.
    """
    return torch.softmax(logit_scale * audio_embeddings @ text_embeddings.T, dim=1)


def average_increase(c: Tensor, o: Tensor) -> Tensor:
    """AI, 100 [o > c]: whether the model is surer of the explanation alone.

    0 or 100, higher is better. Chattopadhay et al., "Grad-CAM++", WACV 2018.

    Parameters
    ----------
    c : Tensor
        Probability of the predicted class on the input, ``[B]``.
    o : Tensor
        The same class's probability under the mask, ``[B]``.

    Returns
    -------
    Tensor
        ``[B]``, in per cent.
    """
    return 100.0 * (o > c).to(c.dtype)


def average_drop(c: Tensor, o: Tensor) -> Tensor:
    """AD, 100 relu(c - o) / c: the part of the confidence that is lost.

    0 to 100, lower is better. Where c = 0 there is nothing to lose: 0.
    Chattopadhay et al., "Grad-CAM++", WACV 2018.

    Parameters
    ----------
    c : Tensor
        Probability of the predicted class on the input, ``[B]``.
    o : Tensor
        The same class's probability under the mask, ``[B]``.

    Returns
    -------
    Tensor
        ``[B]``, in per cent.
    """
    return 100.0 * ratio_or_zero(relu(c - o), c)


def average_drop_speechbrain(input_probs: Tensor, masked_probs: Tensor) -> Tensor:
    """AD_sb, the drop as SpeechBrain's L-MAC recipe computes it.

    The recipe (``compute_AD`` in recipes/ESC50/interpret/interpreter_brain.py) puts
    probabilities through a second softmax, q = softmax(p), and returns
    100 relu(q[ŷ] - q'[ŷ]) / q[ŷ]. That flattens them: losing all of a certain class
    reads 100 (1 - 1/e) = 63.2 instead of 100. 0 to 63.2, lower is better; for
    comparison with tables made by that recipe only.

    Parameters
    ----------
    input_probs : Tensor
        Class probabilities on the input, ``[B, K]``.
    masked_probs : Tensor
        Class probabilities under the mask, ``[B, K]``.

    Returns
    -------
    Tensor
        ``[B]``, in per cent.
    """
    flat_input, flat_masked = input_probs.softmax(1), masked_probs.softmax(1)
    # Its argmax comes after the second softmax, which may round two classes together.
    predicted = flat_input.argmax(1)
    c, o = _probability_of(predicted, flat_input, flat_masked)
    return 100.0 * relu(c - o) / (c + 1e-10)


def average_gain(c: Tensor, o: Tensor) -> Tensor:
    """AG, 100 relu(o - c) / (1 - c): the part of the missing confidence won.

    0 to 100, higher is better. Where c = 1 there is nothing to win: 0.
    Zhang et al., "Opti-CAM", arXiv 2301.07002, 2023.

    Parameters
    ----------
    c : Tensor
        Probability of the predicted class on the input, ``[B]``.
    o : Tensor
        The same class's probability under the mask, ``[B]``.

    Returns
    -------
    Tensor
        ``[B]``, in per cent.
    """
    return 100.0 * ratio_or_zero(relu(o - c), 1.0 - c)


def faithfulness(c: Tensor, r: Tensor) -> Tensor:
    """FF, c - r: what confidence goes with the explanation.

    -1 to 1, higher is better. Paissan et al., "Listenable Maps for Audio Classifiers"
    (L-MAC), ICML 2024, arXiv 2403.13086.

    Parameters
    ----------
    c : Tensor
        Probability of the predicted class on the input, ``[B]``.
    r : Tensor
        The same class's probability on what the mask removes, ``[B]``.

    Returns
    -------
    Tensor
        ``[B]``.
    """
    return c - r


def input_fidelity(input_probs: Tensor, masked_probs: Tensor) -> Tensor:
    """Fid-In, [argmax under the mask = ŷ]: whether the decision stays.

    0 or 1, higher is better. Paissan et al., L-MAC, ICML 2024, arXiv 2403.13086.

    Parameters
    ----------
    input_probs : Tensor
        Class probabilities on the input, ``[B, K]``.
    masked_probs : Tensor
        Class probabilities under the mask, ``[B, K]``.

    Returns
    -------
    Tensor
        ``[B]``.
    """
    return (masked_probs.argmax(1) == input_probs.argmax(1)).to(input_probs.dtype)


def accuracy(input_probs: Tensor, labels: Tensor) -> Tensor:
    """[ŷ = label]: whether the model is right about the input.

    0 or 1, higher is better; a property of the model, not of the explanation.

    Parameters
    ----------
    input_probs : Tensor
        Class probabilities on the input, ``[B, K]``.
    labels : Tensor
        True classes, integer ``[B]`` in [0, K).

    Returns
    -------
    Tensor
        ``[B]``.
    """
    return (input_probs.argmax(1) == labels).to(input_probs.dtype)


def sparseness(mask: Tensor) -> Tensor:
    """SPS, the mask's Gini index: how far it is concentrated on few cells.

    With the n cells sorted upwards, sum_i (2 i - n - 1) m_(i) / (n sum m). 0 (all
    cells alike) to 1 - 1/n (one cell alone), higher is better. A constant mask has
    0; so has the all-zero mask, whose cells are alike too, as in quantus.
    Chalasani et al., "Concise Explanations of Neural Networks using Adversarial
    Training", ICML 2020.

    Parameters
    ----------
    mask : Tensor
        ``[B, F, T]`` in [0, 1].

    Returns
    -------
    Tensor
        ``[B]``; no other clip's scale enters, unlike quantus's batch maximum.
    """
    cells = mask.flatten(1).float().sort(dim=1).values
    n = cells.shape[1]
    # (2 i - n - 1) / n, which is antisymmetric: rounding cannot favour either end.
    ranks = torch.linspace(1.0 / n - 1.0, 1.0 - 1.0 / n, n, device=mask.device)
    return ratio_or_zero((ranks * cells).sum(1).clamp(min=0), cells.sum(1)).to(
        mask.dtype
    )


def complexity(mask: Tensor) -> Tensor:
    """COMP, the entropy of the mask as a distribution: how far it is spread.

    -sum q ln q with q = m / sum m, in nats. 0 (one cell alone) to ln n (all n cells
    alike), lower is better. quantus has NaN for the all-zero mask; here it has ln n,
    the value of every constant mask however faint, so that a mask that collapses is
    neither dropped from an average nor rewarded. Bhatt et al., "Evaluating and
    Aggregating Feature-based Model Explanations", IJCAI 2020.

    Parameters
    ----------
    mask : Tensor
        ``[B, F, T]`` in [0, 1].

    Returns
    -------
    Tensor
        ``[B]``.
    """
    cells = mask.flatten(1).float()
    cells = torch.where(cells.any(1, keepdim=True), cells, torch.ones_like(cells))
    share = cells / cells.sum(1, keepdim=True)
    return torch.special.entr(share).sum(1).to(mask.dtype)


def mask_mean(mask: Tensor) -> Tensor:
    """MM, the mean of the mask: how much it keeps.

    0 to 1; of two equally faithful masks the one with the lower value says more.
    Paissan et al., LMAC-ZS, NeurIPS 2024, arXiv 2405.17615.

    Parameters
    ----------
    mask : Tensor
        ``[B, F, T]`` in [0, 1].

    Returns
    -------
    Tensor
        ``[B]``.
    """
    return mask.mean((1, 2))


def faithfulness_table(
    input_probs: Tensor,
    masked_probs: Tensor,
    removed_probs: Tensor,
    masks: Tensor,
    labels: Tensor | None = None,
) -> dict[str, Tensor]:
    """Compute every column that does not need the sources, for a batch of clips.

    Parameters
    ----------
    input_probs : Tensor
        Class probabilities on the input, ``[B, K]``.
    masked_probs : Tensor
        Class probabilities on what the mask keeps, ``[B, K]``.
    removed_probs : Tensor
        Class probabilities on what the mask removes, ``[B, K]``.
    masks : Tensor
        ``[B, F, T]`` in [0, 1].
    labels : Tensor | None
        True classes, integer ``[B]``; None where they are not known.

    Returns
    -------
    dict[str, Tensor]
        ``[B]`` each, under the names of results.csv: accuracy (with labels only),
        AI, AD, AD_sb, AG, FF, Fid-In, SPS, COMP and MM.

    Raises
    ------
    ValueError
        If the arguments are not about the same clips and classes.
    """
    all_probs = (input_probs, masked_probs, removed_probs)
    require_equal_shapes(*all_probs)
    require_equal_shapes(input_probs[:, 0], masks[:, 0, 0], labels)
    c, o, r = _probability_of(input_probs.argmax(1), *all_probs)
    table = {} if labels is None else {"accuracy": accuracy(input_probs, labels)}
    return table | {
        "AI": average_increase(c, o),
        "AD": average_drop(c, o),
        "AD_sb": average_drop_speechbrain(input_probs, masked_probs),
        "AG": average_gain(c, o),
        "FF": faithfulness(c, r),
        "Fid-In": input_fidelity(input_probs, masked_probs),
        "SPS": sparseness(masks),
        "COMP": complexity(masks),
        "MM": mask_mean(masks),
    }


def _probability_of(predicted: Tensor, *probs: Tensor) -> list[Tensor]:
    """Pick the probability of one class per clip, [B] from each [B, K]."""
    return [p.gather(1, predicted[:, None]).squeeze(1) for p in probs]
