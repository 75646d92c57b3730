"""Effects on waveforms, along the last axis: speed, filters, reverberation, length.

They draw from a random generator that is passed in, so that training is reproducible.
Augmentation libraries draw from global generators and mix a clip's sources, which stay
apart here.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from lmaczs.audio.resampling import resample

Curve = Sequence[tuple[float, float]]
"""A spectrum: points of (Hz, dB), joined by straight lines over log frequency."""

DECAY = 6.9
"""Natural logarithm of the 60 dB that a decay time stands for."""

FINEST_SPEED = 32
"""Largest denominator of a speed: each ratio of rates has a filter of its own."""


def change_speed(wav: Tensor, speed: Fraction | float) -> Tensor:
    """Play waveforms faster (above 1) or slower, pitch included.

    [..., samples] to [..., ceil(samples / speed)]. A float is rounded to a fraction
    with a denominator of 32 at most, an error of 5e-4 or less.
    """
    if not isinstance(speed, Fraction):
        speed = Fraction(speed).limit_denominator(FINEST_SPEED)
    return resample(wav, speed.numerator, speed.denominator)


def tile_or_crop(
    wav: Tensor, samples: int, rng: np.random.Generator | None = None
) -> Tensor:
    """A stretch of waveforms, [..., n] to [..., samples]; short ones are repeated.

    `rng` draws where the stretch begins; without it, at the first sample.
    """
    tiled = torch.cat([wav] * -(-samples // wav.shape[-1]), -1)
    surplus = tiled.shape[-1] - samples
    start = 0 if rng is None else int(rng.integers(surplus + 1))
    return tiled[..., start : start + samples]


def silence_outside(wav: Tensor, start: float, stop: float) -> Tensor:
    """Silence waveforms outside a stretch, given in fractions of their length."""
    place = torch.arange(wav.shape[-1]) / wav.shape[-1]
    return wav * ((place >= start) & (place < stop))


def coloured_noise(samples: int, slope: float, rng: np.random.Generator) -> Tensor:
    """Gaussian noise, [samples], whose power falls as ``1 / frequency ** slope``.

    A slope of 0 is white, 1 pink, 2 brown noise.
    """
    white = torch.from_numpy(rng.standard_normal(samples, dtype=np.float32))
    bins = torch.arange(samples // 2 + 1).clamp_min(1)
    return apply_gain(white, bins ** (-slope / 2))


def low_pass(wav: Tensor, hertz: float, sample_rate: int) -> Tensor:
    """Attenuate frequencies above `hertz` of waveforms [..., samples].

    Magnitude response of a fourth-order Butterworth filter, without its phase: half the
    power at `hertz`, and 24 dB less per octave above it.
    """
    return apply_gain(wav, _butterworth(_bins(wav, sample_rate) / hertz))


def high_pass(wav: Tensor, hertz: float, sample_rate: int) -> Tensor:
    """Remove what is below a frequency; the counterpart of `low_pass`."""
    bins = _bins(wav, sample_rate).clamp_min(1e-3)
    return apply_gain(wav, _butterworth(hertz / bins))


def equalise(wav: Tensor, sample_rate: int, curve: Curve) -> Tensor:
    """Filter waveforms [..., samples] by a gain in dB, without phase shift.

    The curve's first and last value hold beyond them. The filter is circular: what
    leaves at one end comes in at the other.
    """
    hertz, levels = np.array(curve, dtype=float).T
    bins = np.fft.rfftfreq(wav.shape[-1], 1 / sample_rate)
    decibels = np.interp(np.log(bins + 1.0), np.log(hertz), levels)
    return apply_gain(wav, torch.from_numpy(10 ** (decibels / 20)))


def apply_gain(wav: Tensor, gain: Tensor) -> Tensor:
    """Multiply spectra of waveforms [..., samples] by a gain [samples // 2 + 1]."""
    return torch.fft.irfft(torch.fft.rfft(wav) * gain.to(wav), n=wav.shape[-1])


def add_reverb(
    wav: Tensor,
    sample_rate: int,
    seconds: float,
    level: float,
    rng: np.random.Generator,
    curve: Curve | None = None,
) -> Tensor:
    """Add the reverberation of a room: noise that decays exponentially.

    `seconds` is the time of decay by 60 dB, `level` the reverberation's amplitude
    relative to the sound, and `curve` its spectrum (default: white).
    """
    count = max(1, int(sample_rate * seconds))
    decay = np.exp(-DECAY * np.arange(count) / count)
    tail = torch.from_numpy(rng.standard_normal(count) * decay)
    tail = (tail if curve is None else equalise(tail, sample_rate, curve)).to(wav)
    samples = wav.shape[-1]
    size = 1 << (samples + count).bit_length()  # others can take ten times as long
    spectrum = torch.fft.rfft(wav, size) * torch.fft.rfft(tail / tail.norm(), size)
    return wav + level * torch.fft.irfft(spectrum, size)[..., :samples]


def _bins(wav: Tensor, sample_rate: int) -> Tensor:
    """Frequencies of the bins of a waveform's spectrum, Hz."""
    return torch.fft.rfftfreq(wav.shape[-1], 1 / sample_rate)


def _butterworth(ratio: Tensor) -> Tensor:
    """Gain of a fourth-order Butterworth filter at multiples of its frequency."""
    return (1 + ratio**8).rsqrt()
