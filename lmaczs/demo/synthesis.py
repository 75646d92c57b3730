"""Building blocks of synthetic sounds: noise, pulses, strikes.

Signals are float64 [samples], rates in Hz. A spectrum is a `Curve`: points of (Hz, dB),
joined by straight lines over log frequency.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lmaczs.audio.effects import DECAY, Curve, add_reverb, equalise

ROOM = ((50, -6), (500, 0), (2000, -3), (12000, -18))
"""Spectrum of the reverberation."""


def shape(samples: np.ndarray, rate: int, curve: Curve) -> np.ndarray:
    """Filter a signal by a frequency response, see `equalise`."""
    return equalise(torch.from_numpy(samples), rate, curve).numpy()


def room(
    rng: np.random.Generator, samples: np.ndarray, rate: int, decay: float, wet: float
) -> np.ndarray:
    """Add reverberation, see `add_reverb`."""
    wav = torch.from_numpy(samples)
    return add_reverb(wav, rate, decay, wet, rng, ROOM).numpy()


def noise(
    rng: np.random.Generator, samples: int, rate: int, curve: Curve
) -> np.ndarray:
    """Gaussian noise with a spectrum, of standard deviation 1."""
    shaped = shape(rng.standard_normal(samples), rate, curve)
    return shaped / shaped.std()


def drift(
    rng: np.random.Generator, samples: int, rate: int, hertz: float
) -> np.ndarray:
    """A smooth random curve through `hertz` standard normal values a second."""
    knots = rng.standard_normal(int(np.ceil(samples / rate * hertz)) + 3)
    position = np.arange(samples) / rate * hertz
    left, part = np.floor(position).astype(int), position % 1
    part = (1 - np.cos(np.pi * part)) / 2
    return knots[left] * (1 - part) + knots[left + 1] * part


def ring(rate: int, modes: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Strike a resonant body; as long as the longest decay.

    Every mode is a frequency in Hz, a time of decay by 60 dB in s, and an amplitude;
    modes that the rate cannot carry are left out.
    """
    time = np.arange(int(rate * max(decay for _, decay, _ in modes))) / rate
    parts = [
        gain * np.exp(-DECAY * time / decay) * np.sin(2 * np.pi * hertz * time)
        for hertz, decay, gain in modes
        if hertz < 0.47 * rate
    ]
    return np.sum(parts, axis=0)


def burst(
    rng: np.random.Generator, rate: int, decay: float, hertz: float, width: float
) -> np.ndarray:
    """A click: noise that decays by 60 dB within `decay` seconds, its length.

    Its spectrum peaks at `hertz` and is 12 dB lower `width` octaves away.
    """
    samples = max(8, int(rate * decay))
    low, high = hertz / 2**width, hertz * 2**width
    curve = [(low / 4, -36), (low, -12), (hertz, 0), (high, -12), (high * 4, -36)]
    longer = noise(rng, max(samples, 256), rate, curve)[:samples]
    return longer * np.exp(-DECAY * np.arange(samples) / samples)


def place(track: np.ndarray, sound: np.ndarray, start: float) -> None:
    """Add a sound to a track in place, from a sample on; what exceeds it is cut."""
    first = int(start)
    last = min(len(track), first + len(sound))
    if first < last:
        track[first:last] += sound[: last - first]


def arrivals(rng: np.random.Generator, per_second: float, seconds: float) -> np.ndarray:
    """Times in s, unsorted, of independent events: a Poisson process."""
    return rng.uniform(0, seconds, rng.poisson(per_second * seconds))


def harmonics(pitch: np.ndarray, rate: int, tilt: float, count: int) -> np.ndarray:
    """A pulse train from `count` harmonics, without aliases.

    `pitch` is the fundamental in Hz at every sample, `tilt` the slope of the harmonics'
    levels in dB an octave.
    """
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    total = np.zeros(len(pitch))
    for k in range(1, count + 1):
        audible = k * pitch < 0.45 * rate
        total += audible * k ** (tilt / 6.02) * np.sin(k * phase)
    return total
