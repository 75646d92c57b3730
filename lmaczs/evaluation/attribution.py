"""Gradient methods: attributions of the similarity ``t . f(X)`` of a clip and a prompt.

An attribution lies on the encoder's input grid or on that of its last features;
`normalise_attribution` makes a mask of it, by one rule for all methods.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.explainer import Explainer, ExplainerInput
from lmaczs.frontend import FrontEnd

Attribution = Callable[[ExplainerInput], Tensor]
NOISE = 0.15  # of SmoothGrad, as a fraction of a clip's range in dB


def gradient_explainer(attribution: Attribution) -> Explainer:
    """Make an explainer of a function that gives attributions [B, f, t] of a batch."""

    def explain(batch: ExplainerInput) -> Tensor:
        front_end, mel = batch.clap.front_end, batch.domain == "mel"
        return batch.tiled(normalise_attribution(attribution(batch), front_end, mel))

    return explain


def normalise_attribution(
    attribution: Tensor, front_end: FrontEnd, mel: bool = False
) -> Tensor:
    """Make a mask of an attribution [B, f, t], by one rule for every method.

    On any grid, frequency low to high. Negative values become 0, each clip's maximum 1;
    between grid points they are interpolated linearly. Mask [B, F, T], or [B, n_mels,
    T] for `mel`, on the input grid, in [0, 1]; all zero where nothing is positive.
    """
    mask = _on_mel_bands(attribution.relu(), front_end)
    peak = mask.amax((1, 2), keepdim=True)
    mask = torch.where(peak > 0, mask / peak.clamp_min(1e-30), 0.0)
    return mask if mel else front_end.expand_mask(mask).clamp(0, 1)


def carry(attribution: Tensor, front_end: FrontEnd, mel: bool = False) -> Tensor:
    """Bring an attribution [B, f, t] to the grid of masks, as `normalise_attribution`.

    Signs and scale stay: [B, F, T], or [B, n_mels, T] for `mel`. Bins that the model
    does not hear come last: they have the clip's minimum. One that is on that grid is
    returned as it is.
    """
    if not mel and attribution.shape[1:] == (front_end.n_freqs, front_end.n_frames):
        return attribution
    bands = _on_mel_bands(attribution, front_end)
    if mel:
        return bands
    lowest = bands.amin((1, 2), keepdim=True)
    bins: Tensor = front_end.expand_mask(bands)
    return bins.where(front_end.visible[:, None], lowest)


def _on_mel_bands(attribution: Tensor, front_end: FrontEnd) -> Tensor:
    size = (front_end.n_mels, front_end.n_frames)
    if attribution.shape[1:] == size:
        return attribution
    return nn.functional.interpolate(attribution[:, None], size, mode="bilinear")[:, 0]


def similarity_of(clap: FrozenClap, log_mel: Tensor, text: Tensor) -> Tensor:
    """Explained quantity: cosine [B] of log-mels [B, C, T, n_mels] and text [B, D]."""
    return (clap.audio_embedding(log_mel) * text).sum(-1)


def last_maps(batch: ExplainerInput) -> tuple[Tensor, Tensor]:
    """Maps of the last stage [B, C, f, t] and the similarity's gradient in them."""
    encoding = batch.clap.audio_features(batch.log_mel.detach().requires_grad_(True))
    similarity = (encoding.embedding * batch.text).sum()
    (gradient,) = torch.autograd.grad(similarity, encoding.last)
    return encoding.last.detach(), gradient


def grad_cam(batch: ExplainerInput) -> Tensor:
    """Grad-CAM on the last stage's maps, unfolded to frequency and time."""
    maps, gradient = last_maps(batch)
    weight = gradient.mean((2, 3), keepdim=True)
    return (weight * maps).sum(1).relu()


def grad_cam_pp(batch: ExplainerInput) -> Tensor:
    """Grad-CAM++, its eq. 19 with an exponential on top, on the same maps."""
    maps, gradient = last_maps(batch)
    total = maps.sum((2, 3), keepdim=True)
    below = 2 * gradient.square() + total * gradient.pow(3)
    alpha = torch.where(below != 0, gradient.square() / below, 0.0)
    weight = (alpha * gradient.relu()).sum((2, 3), keepdim=True)
    return (weight * maps).sum(1).relu()


def smooth_grad(batch: ExplainerInput, steps: int = 50) -> Tensor:
    """SmoothGrad: magnitude of the mean gradient over `steps` noisy log-mels.

    The deviation of the noise is `NOISE` times the clip's range.
    """
    log_mel, rngs = batch.log_mel.detach(), batch.clip_rngs()
    places = (1, 2, 3)
    spread = log_mel.amax(places, True) - log_mel.amin(places, True)
    total = torch.zeros_like(log_mel)
    for _ in range(steps):
        noise = [torch.randn(log_mel.shape[1:], generator=rng) for rng in rngs]
        noisy = log_mel + NOISE * spread * torch.stack(noise).to(log_mel)
        noisy.requires_grad_(True)
        similarity = similarity_of(batch.clap, noisy, batch.text).sum()
        total += torch.autograd.grad(similarity, noisy)[0]
    return (total / steps).abs().sum(1).transpose(1, 2)


def integrated_gradients(batch: ExplainerInput, steps: int = 50) -> Tensor:
    """Integrated Gradients from digital silence to the clip, in `steps` steps."""
    from captum.attr import IntegratedGradients

    clap, log_mel = batch.clap, batch.log_mel
    silence = clap.front_end.to_log_mel(log_mel.new_zeros(1, *log_mel.shape[:1:-1]))
    parts = IntegratedGradients(lambda x, t: similarity_of(clap, x, t)).attribute(
        log_mel.detach(),
        baselines=silence.expand_as(log_mel),
        additional_forward_args=batch.text,
        n_steps=steps,
        internal_batch_size=len(log_mel),
    )
    return parts.detach().float().sum(1).transpose(1, 2)
