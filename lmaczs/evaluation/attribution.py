"""Methods that LMAC-ZS+ is compared with; each ends in a mask in [0, 1].

Gradient methods explain the similarity ``t . f(X)`` of a prompt and give a saliency on
the encoder's input grid. The rule that makes a mask of it is the same for all
(`mask_of`): what is negative counts as zero, and the highest value of a clip as one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from lmaczs.clap import FrozenClap
from lmaczs.frontend import FrontEnd

GRADIENT_STEPS = 50
NOISE = 0.15  # of SmoothGrad, as a share of a clip's range in dB
Saliency = Callable[[FrozenClap, Tensor, Tensor, int], Tensor]


def keep_all(mask: Tensor) -> Tensor:
    """Keep everything: no explanation, but the scale's upper end.

    Parameters
    ----------
    mask : Tensor [B, F, T]
        Gives the shape.

    Returns
    -------
    Tensor [B, F, T]
        Ones.
    """
    return torch.ones_like(mask)


def shuffled_bins(mask: Tensor, rng: Generator) -> Tensor:
    """A random mask with the values, and so the mean, of a given one.

    Parameters
    ----------
    mask : Tensor [B, F, T]
        Whose cells are shuffled, for each clip by itself.
    rng : Generator
        Source of chance.

    Returns
    -------
    Tensor [B, F, T]
    """
    flat = mask.flatten(1)
    order = torch.rand(flat.shape, generator=rng).argsort(1)
    return flat.gather(1, order.to(flat.device)).reshape(mask.shape)


def shuffled_patches(mask: Tensor, rng: Generator, patches: int = 32) -> Tensor:
    """A random mask that is coarse: a given one's rectangles in another order.

    Cell by cell, chance averages out within a mel band and amounts to a gain;
    rectangles as large as those that a decoder draws do not.

    Parameters
    ----------
    mask : Tensor [B, F, T]
        Whose rectangles are shuffled, for each clip by itself.
    rng : Generator
        Source of chance.
    patches : int
        Rectangles along each axis. Rows and columns that do not fill one stay.

    Returns
    -------
    Tensor [B, F, T]
        Same values, same mean.
    """
    batch, freqs, frames = mask.shape
    height, width = freqs // patches, frames // patches
    inner = mask[:, : height * patches, : width * patches]
    tiles = inner.reshape(batch, patches, height, patches, width).transpose(2, 3)
    tiles = tiles.reshape(batch, patches**2, height, width)
    order = torch.rand(batch, patches**2, generator=rng).argsort(1).to(mask.device)
    tiles = tiles.gather(1, order[:, :, None, None].expand_as(tiles))
    tiles = tiles.reshape(batch, patches, patches, height, width).transpose(2, 3)
    shuffled = mask.clone()
    shuffled[:, : height * patches, : width * patches] = tiles.reshape(inner.shape)
    return shuffled


def loudest_bins(power: Tensor, mask: Tensor) -> Tensor:
    """Keep the loudest bins, as many as make the mean of a given mask.

    Parameters
    ----------
    power : Tensor [B, F, T]
        Power spectrogram.
    mask : Tensor [B, F, T]
        Whose mean is matched, for each clip by itself.

    Returns
    -------
    Tensor [B, F, T]
        0 or 1.
    """
    flat = power.flatten(1)
    count = (mask.flatten(1).mean(1) * flat.shape[1]).round().long()
    order = flat.argsort(dim=1, descending=True, stable=True)
    chosen = torch.arange(flat.shape[1], device=flat.device) < count[:, None]
    kept = torch.zeros_like(flat).scatter(1, order, chosen.to(flat.dtype))
    return kept.reshape(mask.shape)


# ------------------------------------------------------------------ gradients


def mask_of(saliency: Tensor, front_end: FrontEnd, mel: bool = False) -> Tensor:
    """Mask of a saliency, by one rule for every method.

    Parameters
    ----------
    saliency : Tensor [B, f, t]
        Frequency low to high, time in order; any grid.
    front_end : FrontEnd
        Of the explained model.
    mel : bool
        Whether the mask is for the mel domain.

    Returns
    -------
    Tensor [B, F, T] (or [B, n_mels, T])
        On the input grid. Negative saliency is zero, a clip's highest is one, and
        what lies between grid points is interpolated linearly. All zero where nothing
        is positive.
    """
    size = (front_end.n_mels, front_end.n_frames)
    mask = saliency.relu()[:, None]
    if mask.shape[-2:] != size:
        mask = nn.functional.interpolate(mask, size, mode="bilinear")
    peak = mask.amax((2, 3), keepdim=True)
    mask = torch.where(peak > 0, mask / peak.clamp_min(1e-30), 0.0)[:, 0]
    return mask if mel else front_end.expand_mask(mask).clamp(0, 1)


def similarity_of(clap: FrozenClap, log_mel: Tensor, text: Tensor) -> Tensor:
    """What is explained: similarity of each clip and its prompt.

    Parameters
    ----------
    clap : FrozenClap
        The model.
    log_mel : Tensor [B, C, T, n_mels]
        Its input.
    text : Tensor [B, D]
        Embeddings of the prompts.

    Returns
    -------
    Tensor [B]
    """
    return (clap.audio_embedding(log_mel) * text).sum(-1)


def _last_maps(
    clap: FrozenClap, log_mel: Tensor, text: Tensor
) -> tuple[Tensor, Tensor]:
    """Maps of the last stage [B, C, f, t] and the similarity's gradient in them."""
    with torch.enable_grad():
        encoding = clap.audio_features(log_mel.detach().requires_grad_(True))
        similarity = (encoding.embedding * text).sum()
        (gradient,) = torch.autograd.grad(similarity, encoding.last)
    return encoding.last.detach(), gradient


def grad_cam(clap: FrozenClap, log_mel: Tensor, text: Tensor, seed: int = 0) -> Tensor:
    """Grad-CAM on the last stage's maps, unfolded to frequency and time.

    Parameters
    ----------
    clap : FrozenClap
        The model.
    log_mel : Tensor [B, C, T, n_mels]
        Its input.
    text : Tensor [B, D]
        Embeddings of the prompts.
    seed : int
        Not used.

    Returns
    -------
    Tensor [B, f, t]
        Saliency.

    References
    ----------
    Selvaraju et al., "Grad-CAM", ICCV 2017.
    """
    maps, gradient = _last_maps(clap, log_mel, text)
    weight = gradient.mean((2, 3), keepdim=True)
    return (weight * maps).sum(1).relu()


def grad_cam_pp(
    clap: FrozenClap, log_mel: Tensor, text: Tensor, seed: int = 0
) -> Tensor:
    """Grad-CAM++ on the last stage's maps, unfolded to frequency and time.

    Parameters
    ----------
    clap : FrozenClap
        The model.
    log_mel : Tensor [B, C, T, n_mels]
        Its input.
    text : Tensor [B, D]
        Embeddings of the prompts.
    seed : int
        Not used.

    Returns
    -------
    Tensor [B, f, t]
        Saliency.

    References
    ----------
    Chattopadhay et al., "Grad-CAM++", WACV 2018, eq. 19 with an exponential on top.
    """
    maps, gradient = _last_maps(clap, log_mel, text)
    total = maps.sum((2, 3), keepdim=True)
    below = 2 * gradient.square() + total * gradient.pow(3)
    alpha = torch.where(below != 0, gradient.square() / below, 0.0)
    weight = (alpha * gradient.relu()).sum((2, 3), keepdim=True)
    return (weight * maps).sum(1).relu()


def smooth_grad(
    clap: FrozenClap, log_mel: Tensor, text: Tensor, seed: int = 0
) -> Tensor:
    """SmoothGrad: size of the mean gradient under noise on the log-mel.

    Parameters
    ----------
    clap : FrozenClap
        The model.
    log_mel : Tensor [B, C, T, n_mels]
        Its input.
    text : Tensor [B, D]
        Embeddings of the prompts.
    seed : int
        Of the noise.

    Returns
    -------
    Tensor [B, n_mels, T]
        Saliency.

    References
    ----------
    Smilkov et al., "SmoothGrad", arXiv 1706.03825, 2017.
    """
    from captum.attr import NoiseTunnel, Saliency

    tunnel = NoiseTunnel(Saliency(lambda x, t: similarity_of(clap, x, t)))
    spread = float((log_mel.amax() - log_mel.amin()) * NOISE)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        gradient = tunnel.attribute(
            log_mel.detach(),
            nt_type="smoothgrad",
            nt_samples=GRADIENT_STEPS,
            nt_samples_batch_size=1,
            stdevs=spread,
            abs=False,
            additional_forward_args=text,
        )
    return gradient.detach().abs().sum(1).transpose(1, 2)


def integrated_gradients(
    clap: FrozenClap, log_mel: Tensor, text: Tensor, seed: int = 0
) -> Tensor:
    """Integrated Gradients from digital silence to the clip.

    Parameters
    ----------
    clap : FrozenClap
        The model.
    log_mel : Tensor [B, C, T, n_mels]
        Its input.
    text : Tensor [B, D]
        Embeddings of the prompts.
    seed : int
        Not used.

    Returns
    -------
    Tensor [B, n_mels, T]
        What each cell adds to the similarity beyond that of silence.

    References
    ----------
    Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017.
    """
    from captum.attr import IntegratedGradients

    silence = clap.front_end.to_log_mel(log_mel.new_zeros(1, *log_mel.shape[:1:-1]))
    with torch.enable_grad():
        parts = IntegratedGradients(lambda x, t: similarity_of(clap, x, t)).attribute(
            log_mel.detach(),
            baselines=silence.expand_as(log_mel),
            additional_forward_args=text,
            n_steps=GRADIENT_STEPS,
            internal_batch_size=len(log_mel),
        )
    return parts.detach().float().sum(1).transpose(1, 2)


SALIENCIES: dict[str, Saliency] = {
    "Grad-CAM": grad_cam,
    "Grad-CAM++": grad_cam_pp,
    "SmoothGrad": smooth_grad,
    "Integrated Gradients": integrated_gradients,
}
