"""Score-CAM and gScoreCAM: maps of the last stage, weighted by what they mask in.

Each map, stretched to [0, 1] on the encoder's input grid, masks the input as in
`lmaczs.evaluation.perturbation`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmaczs.evaluation.attribution import last_maps
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.perturbation import input_size, masked_similarities


@torch.no_grad()
def score_cam(batch: ExplainerInput) -> Tensor:
    """Score-CAM on all maps of the last stage: attributions [B, f, t].

    Wang et al., "Score-CAM", CVPR Workshops 2020, algorithm 1, without its last ReLU.
    """
    return weighted_maps(batch, batch.clap.audio_features(batch.log_mel).last)


def gscore_cam(batch: ExplainerInput, top: int = 64) -> Tensor:
    """Score-CAM on the `top` maps with the highest mean gradient: [B, f, t].

    Chen et al., "gScoreCAM: What objects is CLIP looking at?", ACCV 2022.
    """
    maps, gradient = last_maps(batch)
    order = gradient.mean((2, 3)).topk(min(top, maps.shape[1])).indices
    return weighted_maps(batch, maps[torch.arange(len(maps))[:, None], order])


def weighted_maps(batch: ExplainerInput, maps: Tensor) -> Tensor:
    """Sum of maps [B, C, f, t], weighted by a softmax of the logits that they mask in.

    A logit is a similarity times the checkpoint's scale. The paper subtracts that of a
    baseline from all of them, which changes no softmax: it is not computed.
    """
    own = (
        stretched(batch, clip, int(samples))
        for clip, samples in zip(maps, batch.samples, strict=True)
    )
    logits = batch.clap.logit_scale * masked_similarities(batch, own)
    return torch.einsum("bc,bcft->bft", logits.softmax(1), maps)


def stretched(batch: ExplainerInput, maps: Tensor, samples: int) -> Tensor:
    """Maps [C, f, t] of a clip as masks [C, n_mels, n_frames], each from 0 to 1.

    Of a short clip the maps of its first copy count. A constant map masks all out.
    """
    size = input_size(batch)
    large = nn.functional.interpolate(maps[None], size, mode="bilinear")[0]
    large = batch.clap.front_end.tile_mask(large, samples)
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    return torch.where(high > low, (large - low) / (high - low).clamp_min(1e-12), 0.0)
