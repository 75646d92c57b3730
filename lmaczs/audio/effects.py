"""Effects on waveforms: speed, filters, reverberation, length.

Each acts on the last axis and draws from the generator that is passed to it, so that
training clips repeat themselves. Libraries of augmentations draw from global generators
and mix the sources of a clip, which stay apart here.
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
    """Play waveforms faster or slower, pitch included.

    Parameters
    ----------
    wav : Tensor [..., samples]
        Waveforms.
    speed : Fraction or float
        Above one: shorter and higher. A float is rounded to a fraction whose
        denominator is 32 at most, an error of 5e-4 or less.

    Returns
    -------
    Tensor [..., ceil(samples / speed)]
    """
    if not isinstance(speed, Fraction):
        speed = Fraction(speed).limit_denominator(FINEST_SPEED)
    return resample(wav, speed.numerator, speed.denominator)


def tile_or_crop(
    wav: Tensor, samples: int, rng: np.random.Generator | None = None
) -> Tensor:
    """A stretch of waveforms of a given length; what is too short is repeated.

    Parameters
    ----------
    wav : Tensor [..., n]
        Waveforms, not empty.
    samples : int
        The length.
    rng : numpy.random.Generator, optional
        Draws where the stretch begins; without it, it begins at the first sample.

    Returns
    -------
    Tensor [..., samples]
    """
    tiled = torch.cat([wav] * -(-samples // wav.shape[-1]), -1)
    surplus = tiled.shape[-1] - samples
    start = 0 if rng is None else int(rng.integers(surplus + 1))
    return tiled[..., start : start + samples]


def silence_outside(wav: Tensor, start: float, stop: float) -> Tensor:
    """Silence waveforms but for a stretch, given in fractions of their length."""
    place = torch.arange(wav.shape[-1]) / wav.shape[-1]
    return wav * ((place >= start) & (place < stop))


def coloured_noise(samples: int, slope: float, rng: np.random.Generator) -> Tensor:
    """Gaussian noise, ``[samples]``, whose power falls as ``1 / frequency ** slope``.

    A slope of 0 is white, 1 pink, 2 brown noise.
    """
    white = torch.from_numpy(rng.standard_normal(samples, dtype=np.float32))
    bins = torch.arange(samples // 2 + 1).clamp_min(1)
    return apply_gain(white, bins ** (-slope / 2))


def low_pass(wav: Tensor, hertz: float, sample_rate: int) -> Tensor:
    """Remove what is above a frequency.

    The response is that of a Butterworth filter of fourth order without its phase: half
    the power at the frequency, and 24 dB less an octave beyond it.

    Parameters
    ----------
    wav : Tensor [..., samples]
        Waveforms.
    hertz : float
        The frequency, above 0.
    sample_rate : int
        Hz.

    Returns
    -------
    Tensor [..., samples]
    """
    return apply_gain(wav, _butterworth(_bins(wav, sample_rate) / hertz))


def high_pass(wav: Tensor, hertz: float, sample_rate: int) -> Tensor:
    """Remove what is below a frequency; the counterpart of `low_pass`."""
    bins = _bins(wav, sample_rate).clamp_min(1e-3)
    return apply_gain(wav, _butterworth(hertz / bins))


def equalise(wav: Tensor, sample_rate: int, curve: Curve) -> Tensor:
    """Filter waveforms by a frequency response, without any phase shift.

    Parameters
    ----------
    wav : Tensor [..., samples]
        Waveforms.
    sample_rate : int
        Hz.
    curve : Curve
        Gain in dB; the first and last value hold beyond them.

    Returns
    -------
    Tensor [..., samples]
        The filter is circular: what leaves at one end comes in at the other.
    """
    hertz, levels = np.array(curve, dtype=float).T
    bins = np.fft.rfftfreq(wav.shape[-1], 1 / sample_rate)
    decibels = np.interp(np.log(bins + 1.0), np.log(hertz), levels)
    return apply_gain(wav, torch.from_numpy(10 ** (decibels / 20)))


def apply_gain(wav: Tensor, gain: Tensor) -> Tensor:
    """Multiply the spectrum of waveforms by a gain for each of its bins.

    Parameters
    ----------
    wav : Tensor [..., samples]
        Waveforms.
    gain : Tensor [samples // 2 + 1]
        Factors on the amplitude.

    Returns
    -------
    Tensor [..., samples]
    """
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

    Parameters
    ----------
    wav : Tensor [..., samples]
        Waveforms.
    sample_rate : int
        Hz.
    seconds : float
        Until the reverberation has fallen by 60 dB.
    level : float
        Its amplitude, that of the sound itself being 1.
    rng : numpy.random.Generator
        Draws the reverberation.
    curve : Curve, optional
        Its spectrum; white without one.

    Returns
    -------
    Tensor [..., samples]
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
