"""How well a mask finds a source whose place is known: one value per sample.

In a mixture the sources are known as waveforms, in a sequence as stretches of time.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_SI_SDR = 60.0
"""Bound of |SI-SDR| in dB: a millionth of the power is inaudible beside the rest."""


def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Compute the scale-invariant signal-to-distortion ratio.

    10 log10 (|a s|^2 / |e - a s|^2) with a = <e, s> / |s|^2, of the signals without
    their means. -60 to 60 dB, where it is cut so that a perfect or a silent estimate
    keeps an average finite; higher is better. A silent (or constant) estimate or
    reference has nothing in common with the other: -60 dB.
    Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019.

    Parameters
    ----------
    estimate : Tensor
        Waveforms, ``[B, samples]``, at any scale.
    reference : Tensor
        The true sources, ``[B, samples]``.

    Returns
    -------
    Tensor
        ``[B]`` in dB.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    require_equal_shapes(estimate, reference)
    estimate, reference = _unit_energy(estimate), _unit_energy(reference)
    target = (estimate * reference).sum(1, keepdim=True) * reference
    kept, distortion = target.square().sum(1), (estimate - target).square().sum(1)
    floor = 10 ** (-MAX_SI_SDR / 10)
    # At unit energy kept + distortion is 1, or 0 if the estimate is silent.
    ratio = kept.clamp(min=floor) / distortion.clamp(min=floor)
    decibels = (10 * ratio.log10()).clamp(-MAX_SI_SDR, MAX_SI_SDR)
    return torch.where(kept > 0, decibels, -MAX_SI_SDR).float()


def si_sdr_improvement(estimate: Tensor, mixture: Tensor, reference: Tensor) -> Tensor:
    """Compute by how much an explanation is nearer to a source than the mixture is.

    si_sdr(estimate, reference) - si_sdr(mixture, reference): -120 to 120 dB, higher
    is better, 0 for keeping everything.

    Parameters
    ----------
    estimate : Tensor
        Listenable explanations, ``[B, samples]``.
    mixture : Tensor
        What the model was given, ``[B, samples]``.
    reference : Tensor
        The source that the prompt names, ``[B, samples]``.

    Returns
    -------
    Tensor
        ``[B]`` in dB.
    """
    return si_sdr(estimate, reference) - si_sdr(mixture, reference)


def mass_on_source(mask: Tensor, target_power: Tensor, other_power: Tensor) -> Tensor:
    """Compute the share of the mask, weighted by power, that lies on the right source.

    sum(M P_target) / sum(M (P_target + P_other)): 0 to 1, higher is better. Keeping
    everything has the target's share of the mixture's power. Where the mask keeps
    no power, nothing lies on the source: 0.

    Parameters
    ----------
    mask : Tensor
        ``[B, F, T]`` in [0, 1].
    target_power : Tensor
        |STFT|^2 of the source that the prompt names, ``[B, F, T]``.
    other_power : Tensor
        |STFT|^2 of everything else, ``[B, F, T]``.

    Returns
    -------
    Tensor
        ``[B]``.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    require_equal_shapes(mask, target_power, other_power)
    on_target = (mask * target_power).sum((1, 2))
    return ratio_or_zero(on_target, on_target + (mask * other_power).sum((1, 2)))


def mass_in_region(mask: Tensor, power: Tensor, region: Tensor) -> Tensor:
    """Compute the share of the mask, weighted by power, in the right stretch of time.

    sum over the region (M P) / sum(M P): 0 to 1, higher is better; for sequences, in
    which one source follows the other. Where the mask keeps no power: 0.

    Parameters
    ----------
    mask : Tensor
        ``[B, F, T]`` in [0, 1].
    power : Tensor
        |STFT|^2 of the sequence, ``[B, F, T]``.
    region : Tensor
        True in the frames of the source that the prompt names, bool ``[B, T]``.

    Returns
    -------
    Tensor
        ``[B]``.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    require_equal_shapes(mask[:, 0], region)
    inside = region[:, None]
    return mass_on_source(mask, power * inside, power * ~inside)


def pointing_game(mask: Tensor, power: Tensor, inside: Tensor) -> Tensor:
    """Whether the frame that the mask keeps most energy of is the source's.

    Parameters
    ----------
    mask : Tensor [B, F, T]
        In [0, 1].
    power : Tensor [B, F, T]
        Power spectrogram of what was explained.
    inside : Tensor [B, T]
        1 in frames of the source, 0 elsewhere.

    Returns
    -------
    Tensor [B]
        0 or 1, higher is better; 0 where the mask keeps nothing.

    References
    ----------
    Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016.
    """
    kept = (mask * power).sum(1)
    hit = inside.gather(1, kept.argmax(1, keepdim=True))[:, 0] > 0.5
    return (hit & (kept.amax(1) > 0)).float()


def temporal_iou(mask: Tensor, inside: Tensor, share: float = 0.5) -> Tensor:
    """Overlap in time of what the mask keeps and where the source is.

    Parameters
    ----------
    mask : Tensor [B, F, T]
        In [0, 1].
    inside : Tensor [B, T]
        1 in frames of the source, 0 elsewhere.
    share : float
        A frame counts as kept where the mask's mean over frequency exceeds this share
        of its highest value over time.

    Returns
    -------
    Tensor [B]
        Intersection over union, 0 to 1, higher is better; 0 for an empty mask.
    """
    level = mask.mean(1)
    kept = (level > share * level.amax(1, keepdim=True)) & (level > 0)
    real = inside > 0.5
    union = (kept | real).sum(1)
    return torch.where(union > 0, (kept & real).sum(1) / union.clamp_min(1), 0.0)


def ratio_or_zero(part: Tensor, whole: Tensor) -> Tensor:
    """Divide, and answer 0 where the whole is 0.

    Parameters
    ----------
    part : Tensor
        Numerator.
    whole : Tensor
        Denominator, at least 0.

    Returns
    -------
    Tensor
    """
    return part / torch.where(whole > 0, whole, 1.0) * (whole > 0)


def _unit_energy(wavs: Tensor) -> Tensor:
    """Remove the mean and scale to energy 1; silence stays silent."""
    # in float32 the rest of a constant would not be quite silent
    centred = wavs.double() - wavs.double().mean(1, keepdim=True)
    return torch.nn.functional.normalize(centred, dim=1)


def require_equal_shapes(*tensors: Tensor | None) -> None:
    """Refuse tensors that would be broadcast without a word.

    Parameters
    ----------
    *tensors : Tensor or None
        None is left out.

    Raises
    ------
    ValueError
        If two shapes differ.
    """
    shapes = {tuple(t.shape) for t in tensors if t is not None}
    if len(shapes) > 1:
        raise ValueError(f"These shapes must be equal: {sorted(shapes)}.")
