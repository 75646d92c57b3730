"""Losses of an audio tower against a frozen text tower, one value per clip.

It learns from captions or labels, and from an audio tagger's scores.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy [B] of logits and distributions [B, K]; 0 for a row of zeros."""
    return -(targets * logits.log_softmax(-1)).sum(-1)


def contrastive_loss(similarities: Tensor, present: Tensor, scale: Tensor) -> Tensor:
    """Symmetric contrastive loss with several right answers on both sides.

    HF's own ``return_loss`` counts text-to-audio twice; this counts each way once. With
    the identity as `present` it is InfoNCE as in CLIP and CLAP.

    Parameters
    ----------
    similarities : Tensor [B, N]
        Cosines of clips and texts.
    present : Tensor [B, N]
        How much of each text is in each clip, at least 0.
    scale : Tensor
        Logit scale.

    Returns
    -------
    Tensor [B]
        Half the clip-to-text term, and half of a clip's part of the text-to-clip one.
    """
    logits = scale * similarities
    to_text = soft_cross_entropy(logits, _rows_to_one(present))
    log_clip = logits.log_softmax(dim=0)
    texts = (present.sum(0) > 0).sum().clamp_min(1)
    to_clip = -(_rows_to_one(present.T).T * log_clip).sum(1) * (len(logits) / texts)
    return 0.5 * (to_text + to_clip)


def tagger_loss(similarities: Tensor, scores: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy with an audio tagger's scores, normalised over its class names.

    Parameters
    ----------
    similarities : Tensor [..., K]
        Cosines of clips, or of their stretches, and class names.
    scores : Tensor [..., K]
        In [0, 1]; where none is above zero, the loss is 0.
    scale : Tensor
        Logit scale.

    Returns
    -------
    Tensor [...]
    """
    return soft_cross_entropy(scale * similarities, _rows_to_one(scores))


def clip_level(scores: Tensor, silence: int | None = None) -> Tensor:
    """Scores [..., K] of whole clips from those of their P patches [..., P, K].

    The mean of their mean (how long a class lasts) and their maximum (whether it
    occurs). The class with index `silence` gets 0: pauses of a sound are no content.
    """
    level = (scores.mean(-2) + scores.amax(-2)) / 2
    if silence is not None:
        level[..., silence] = 0
    return level


def silence_loss(similarities: Tensor, silence_similarity: Tensor) -> Tensor:
    """Pull digital silence to the prompt for silence, and push it from every sound.

    Parameters
    ----------
    similarities : Tensor [B, K]
        Cosines of silent clips and names of sounds.
    silence_similarity : Tensor [B]
        Their cosines with the prompt for silence.

    Returns
    -------
    Tensor [B]
    """
    return similarities.relu().square().sum(-1) + (1 - silence_similarity)


def _rows_to_one(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)


def fit_logit_scale(similarities: Tensor, target: Tensor) -> float:
    """Fit the logit scale that calibrates the probabilities.

    The targets are Platt's ("Probabilistic Outputs for Support Vector Machines", 1999),
    so that a few clips without a mistake do not make a model certain: the right label
    has (N + 1) / (N + 2), the others share the rest.

    Parameters
    ----------
    similarities : Tensor [N, K]
        Cosines of clips that were not trained on and K labels, two or more.
    target : Tensor [N]
        Index of the right label.

    Returns
    -------
    float
        In [1, 100], with the lowest mean cross-entropy (temperature scaling, Guo et
        al., "On Calibration of Modern Neural Networks", ICML 2017).
    """
    scales = torch.logspace(0, 2, 401)
    clips, labels = similarities.shape
    wrong = 1 / (clips + 2)
    smooth = wrong * labels / (labels - 1)
    # one by one: all at once, a thousand captions would take gigabytes
    losses = [
        nn.functional.cross_entropy(s * similarities, target, label_smoothing=smooth)
        for s in scales
    ]
    return float(scales[torch.stack(losses).argmin()])
