"""How well a mask finds a source whose place is known: one value per sample.

In a sum the two sources are known as waveforms, in a sequence as stretches of time.
The source that the prompt names is the target, the other one the interference. To add a
metric, add it to `LOCALISATION`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lmaczs.metrics.metric import Metric, by_name, ratio_or_zero, require_equal_shapes

MAX_SI_SDR = 60.0
"""Bound of |SI-SDR| in dB: a millionth of the power is inaudible beside the rest."""


@dataclass(frozen=True)
class LocatedMasks:
    """Masks of mixtures, and where the target of each is.

    Attributes
    ----------
    masks : Tensor [B, F, T]
        In [0, 1].
    power : Tensor [B, F, T]
        |STFT|^2 of the mixtures.
    target_power : Tensor [B, F, T]
        Of the targets alone.
    interference_power : Tensor [B, F, T]
        Of the interferences alone.
    inside : Tensor [B, T]
        True in the frames of the target.
    explanations : Tensor [B, samples]
        The masked-in signals.
    mixtures : Tensor [B, samples]
        What was explained.
    targets : Tensor [B, samples]
        The targets alone.
    """

    masks: Tensor
    power: Tensor
    target_power: Tensor
    interference_power: Tensor
    inside: Tensor
    explanations: Tensor
    mixtures: Tensor
    targets: Tensor


def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio of waveforms.

    10 log10 (|a s|^2 / |e - a s|^2) with a = <e, s> / |s|^2, of the signals without
    their means.

    Parameters
    ----------
    estimate : Tensor [B, samples]
        At any scale.
    reference : Tensor [B, samples]
        The true sources.

    Returns
    -------
    Tensor [B]
        dB, clipped to -60 ... 60 so that averages are finite; -60 where estimate or
        reference is silent or constant.

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
    """SI-SDR of an explanation less that of the mixture, towards the same source.

    Of waveforms [B, samples]: [B] in dB, 0 for keeping everything.
    """
    return si_sdr(estimate, reference) - si_sdr(mixture, reference)


def mass_on_source(mask: Tensor, target_power: Tensor, other_power: Tensor) -> Tensor:
    """Fraction of the mask, weighted by power, that lies on the target.

    sum(M P_target) / sum(M (P_target + P_other)), of tensors [B, F, T]: [B] in [0, 1].
    A mask of ones gives the target's fraction of the power; one that keeps none, 0.
    """
    require_equal_shapes(mask, target_power, other_power)
    on_target = (mask * target_power).sum((1, 2))
    return ratio_or_zero(on_target, on_target + (mask * other_power).sum((1, 2)))


def mass_in_region(mask: Tensor, power: Tensor, region: Tensor) -> Tensor:
    """Fraction of the mask, weighted by power, in the target's frames.

    sum over the region (M P) / sum(M P), of M and P [B, F, T] and a region [B, T] that
    is True where the target is: [B] in [0, 1]. Where the mask keeps no power: 0.
    """
    require_equal_shapes(mask[:, 0], region)
    inside = region[:, None]
    return mass_on_source(mask, power * inside, power * ~inside)


def pointing_game(mask: Tensor, power: Tensor, inside: Tensor) -> Tensor:
    """Whether the frame with the most masked-in energy is one of the target's.

    Of a mask and the mixture's power [B, F, T] and the target's frames [B, T]: [B], 0
    or 1; 0 where the mask keeps nothing.
    """
    kept = (mask * power).sum(1)
    hit = inside.gather(1, kept.argmax(1, keepdim=True))[:, 0] > 0.5
    return (hit & (kept.amax(1) > 0)).float()


def temporal_iou(mask: Tensor, inside: Tensor, fraction: float = 0.5) -> Tensor:
    """Intersection over union, in time, of kept frames and the target's.

    Parameters
    ----------
    mask : Tensor [B, F, T]
        In [0, 1].
    inside : Tensor [B, T]
        1 in frames of the target, 0 elsewhere.
    fraction : float
        A frame counts as kept where the mask's mean over frequency exceeds this
        fraction of its maximum over time.

    Returns
    -------
    Tensor [B]
        0 to 1; 0 for an empty mask.
    """
    level = mask.mean(1)
    kept = (level > fraction * level.amax(1, keepdim=True)) & (level > 0)
    real = inside > 0.5
    union = (kept | real).sum(1)
    return torch.where(union > 0, (kept & real).sum(1) / union.clamp_min(1), 0.0)


def _unit_energy(wavs: Tensor) -> Tensor:
    """Remove the mean and scale to energy 1; silence stays silent."""
    # in float32 the rest of a constant would not be quite silent
    centred = wavs.double() - wavs.double().mean(1, keepdim=True)
    return torch.nn.functional.normalize(centred, dim=1)


LOCALISATION: dict[str, dict[str, Metric[LocatedMasks]]] = {
    "sequence": by_name(
        Metric(
            "mass_on_source",
            lambda x: mass_in_region(x.masks, x.power, x.inside),
            better="higher",
            limits=(0, 1),
        ),
        Metric(
            "pointing_game",
            lambda x: pointing_game(x.masks, x.power, x.inside.float()),
            better="higher",
            source='Zhang et al., "Top-down Neural Attention by Excitation Backprop", '
            "ECCV 2016",
            limits=(0, 1),
        ),
        Metric(
            "temporal_iou",
            lambda x: temporal_iou(x.masks, x.inside.float()),
            better="higher",
            limits=(0, 1),
        ),
    ),
    "sum": by_name(
        Metric(
            "mass_on_source",
            lambda x: mass_on_source(x.masks, x.target_power, x.interference_power),
            better="higher",
            limits=(0, 1),
        ),
        Metric(
            "si_sdr_improvement",
            lambda x: si_sdr_improvement(x.explanations, x.mixtures, x.targets),
            better="higher",
            digits=1,
            source='Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019',
            limits=(-2 * MAX_SI_SDR, 2 * MAX_SI_SDR),
        ),
    ),
}
"""For each arrangement of two sources its metrics: columns of localisation.csv."""
