"""Levels of waveforms, and mixtures of two: at once, or one after the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SILENCE = 1e-9
"""RMS up to which a waveform counts as silent and is never amplified."""


def rms(wav: Tensor) -> Tensor:
    """Root mean square of waveforms, ``[..., samples]`` to ``[...]``."""
    return wav.square().mean(-1).sqrt()


def scale_to_rms(
    wav: Tensor, level: Tensor | float, silence: float = SILENCE
) -> Tensor:
    """Scale waveforms, ``[..., samples]``, to an RMS; silent ones become zeros."""
    own = rms(wav)[..., None]
    return level * wav / own.clamp_min(silence) * (own > silence)


def scale_to_snr(noise: Tensor, signal: Tensor, snr_db: float) -> Tensor:
    """Scale a waveform [n] to `snr_db` below the mean power of another [m].

    If either is silent, the result is zeros.
    """
    return scale_to_rms(noise, rms(signal) * 10 ** (-snr_db / 20))


def mix_at_snr(first: Tensor, second: Tensor, snr_db: float) -> Tensor:
    """Mix two waveforms at once: [2, samples], whose sum is the mixture.

    The first is `snr_db` above the second in mean power and keeps its level, unless the
    sum would clip: then both are turned down. If one is silent, both stay as they are.
    """
    if min(rms(first), rms(second)) <= SILENCE:
        return torch.stack([first, second])
    return limit_peak(torch.stack([first, scale_to_snr(second, first, snr_db)]))


def concatenate(
    first: Tensor, second: Tensor, fraction: float, snr_db: float, first_leads: bool
) -> Tensor:
    """Join two waveforms one after the other, of each its loudest stretch.

    Parameters
    ----------
    first : Tensor [samples]
        At least two samples.
    second : Tensor [samples]
        As long.
    fraction : float
        Fraction of the time that the first gets, in (0, 1); each has a sample at least.
    snr_db : float
        Level of the first above the second in dB, by mean power, unless one is silent.
    first_leads : bool
        Whether the first comes first.

    Returns
    -------
    Tensor [2, samples]
        Both, each silent while the other sounds; the first at its own level.
    """
    cut = min(max(1, round(fraction * len(first))), len(first) - 1)
    parts = [loudest_stretch(first, cut), loudest_stretch(second, len(first) - cut)]
    if min(map(rms, parts)) > SILENCE:
        parts[1] = scale_to_snr(parts[1], parts[0], snr_db)
    size, rest = len(parts[0]), len(parts[1])
    pads = [(0, rest), (size, 0)] if first_leads else [(rest, 0), (0, size)]
    joined = [nn.functional.pad(p, pad) for p, pad in zip(parts, pads, strict=True)]
    return torch.stack(joined)


def limit_peak(sources: Tensor) -> Tensor:
    """Turn sources, ``[S, samples]``, down together where their sum exceeds 1."""
    return sources / sources.sum(0).abs().max().clamp_min(1.0)


def scale_to_peak(sources: Tensor, peak: float = 1.0) -> Tensor:
    """Scale sources, ``[S, samples]``, together until their sum has a peak."""
    return sources * (peak / sources.sum(0).abs().max().clamp_min(SILENCE))


def loudest_stretch(wav: Tensor, samples: int) -> Tensor:
    """First of the stretches of a waveform ``[n]`` that have the most energy."""
    before = nn.functional.pad(wav.double().square().cumsum(0), (1, 0))
    start = int((before[samples:] - before[:-samples]).argmax())
    return wav[start : start + samples]
