"""Agreement: similarity of the prompt and of each place's own embedding.

Zhou et al., "Extract Free Dense Labels from CLIP", ECCV 2022, classify places of an
image in this way. HTS-AT pools its tokens by a mean, before a projection, so that a
place is embedded by leaving the mean out; see `AudioEncoding.features`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lmaczs.evaluation.explainer import ExplainerInput


def agreement(batch: ExplainerInput) -> Tensor:
    """Cosine [B, f, t] of each clip's prompt and its places, on the coarsest grid."""
    return _cosines(batch, batch.text)


def agreement_less_class_mean(batch: ExplainerInput) -> Tensor:
    """The same, less its mean over the prompts of `batch.classes`.

    What all prompts agree on is no evidence for one of them. ValueError without
    `classes`.
    """
    if batch.classes is None:
        raise ValueError("this explainer needs the prompts of all classes")
    return _cosines(batch, batch.text - batch.classes.mean(0))


@torch.no_grad()
def _cosines(batch: ExplainerInput, text: Tensor) -> Tensor:
    places = batch.clap.audio_features(batch.log_mel).features[-1]
    return torch.einsum("bdft,bd->bft", places, text)
