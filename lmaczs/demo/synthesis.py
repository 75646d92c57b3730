"""Building blocks of synthetic sounds: noise, pulses, strikes, rooms.

All signals are float64 [samples], all rates in Hz. A spectrum is a `Curve`: points of
(Hz, dB) that are joined by straight lines over log frequency.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Curve = Sequence[tuple[float, float]]

DECAY = 6.9
"""Natural log of the 60 dB that every decay time stands for."""


def shape(samples: np.ndarray, rate: int, curve: Curve) -> np.ndarray:
    """Filter a signal by a frequency response, without any phase shift.

    Parameters
    ----------
    samples : np.ndarray
        Signal, [samples].
    rate : int
        Rate in Hz.
    curve : Curve
        Gain of the filter in dB.

    Returns
    -------
    np.ndarray
        [samples]; what leaves at one end comes in at the other.
    """
    hertz, level = np.array(curve, dtype=float).T
    bins = np.fft.rfftfreq(len(samples), 1 / rate)
    decibel = np.interp(np.log(bins + 1.0), np.log(hertz), level)
    return np.fft.irfft(np.fft.rfft(samples) * 10 ** (decibel / 20), len(samples))


def noise(
    rng: np.random.Generator, samples: int, rate: int, curve: Curve
) -> np.ndarray:
    """Make Gaussian noise of a given spectrum.

    Parameters
    ----------
    rng : np.random.Generator
        Source of chance.
    samples : int
        Length.
    rate : int
        Rate in Hz.
    curve : Curve
        Spectrum in dB.

    Returns
    -------
    np.ndarray
        [samples], standard deviation 1.
    """
    shaped = shape(rng.standard_normal(samples), rate, curve)
    return shaped / shaped.std()


def drift(
    rng: np.random.Generator, samples: int, rate: int, hertz: float
) -> np.ndarray:
    """Make a smooth random curve around zero.

    Parameters
    ----------
    rng : np.random.Generator
        Source of chance.
    samples : int
        Length.
    rate : int
        Rate in Hz.
    hertz : float
        How often a second the curve takes a new, independent value.

    Returns
    -------
    np.ndarray
        [samples]; the values in between which it moves are of standard deviation 1.
    """
    knots = rng.standard_normal(int(np.ceil(samples / rate * hertz)) + 3)
    position = np.arange(samples) / rate * hertz
    left, part = np.floor(position).astype(int), position % 1
    part = (1 - np.cos(np.pi * part)) / 2
    return knots[left] * (1 - part) + knots[left + 1] * part


def contour(
    points: Sequence[tuple[float, float]], samples: int, rate: int
) -> np.ndarray:
    """Draw straight lines through points.

    Parameters
    ----------
    points : Sequence[tuple[float, float]]
        (seconds, value), in order; the first and last value hold beyond them.
    samples : int
        Length.
    rate : int
        Rate in Hz.

    Returns
    -------
    np.ndarray
        [samples].
    """
    seconds, values = np.array(points, dtype=float).T
    return np.interp(np.arange(samples) / rate, seconds, values)


def ring(rate: int, modes: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Strike a resonant body.

    Parameters
    ----------
    rate : int
        Rate in Hz.
    modes : Sequence[tuple[float, float, float]]
        Frequency in Hz, time of decay by 60 dB in s, and amplitude of every resonance;
        those that the rate cannot carry are left out.

    Returns
    -------
    np.ndarray
        [samples], as long as the longest decay.
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
    """Make a click: decaying noise around a frequency.

    Parameters
    ----------
    rng : np.random.Generator
        Source of chance.
    rate : int
        Rate in Hz.
    decay : float
        Time of decay by 60 dB in s, and length.
    hertz : float
        Frequency of the spectrum's peak.
    width : float
        Distance in octaves at which it is 12 dB lower.

    Returns
    -------
    np.ndarray
        [samples].
    """
    samples = max(8, int(rate * decay))
    low, high = hertz / 2**width, hertz * 2**width
    curve = [(low / 4, -36), (low, -12), (hertz, 0), (high, -12), (high * 4, -36)]
    longer = noise(rng, max(samples, 256), rate, curve)[:samples]
    return longer * np.exp(-DECAY * np.arange(samples) / samples)


def place(track: np.ndarray, sound: np.ndarray, start: float) -> None:
    """Add a sound to a track, in place.

    Parameters
    ----------
    track : np.ndarray
        [samples], written to.
    sound : np.ndarray
        Shorter signal; what leaves the track is dropped.
    start : float
        Sample of the track, 0 or later, at which the sound starts.
    """
    first = int(start)
    last = min(len(track), first + len(sound))
    if first < last:
        track[first:last] += sound[: last - first]


def arrivals(rng: np.random.Generator, per_second: float, seconds: float) -> np.ndarray:
    """Draw the times of independent events, a Poisson process.

    Parameters
    ----------
    rng : np.random.Generator
        Source of chance.
    per_second : float
        Mean number of events a second.
    seconds : float
        Length of time.

    Returns
    -------
    np.ndarray
        Times in s, unsorted.
    """
    return rng.uniform(0, seconds, rng.poisson(per_second * seconds))


def harmonics(pitch: np.ndarray, rate: int, tilt: float, count: int) -> np.ndarray:
    """Make a pulse train from its harmonics, without aliases.

    Parameters
    ----------
    pitch : np.ndarray
        Fundamental frequency in Hz at every sample, [samples].
    rate : int
        Rate in Hz.
    tilt : float
        Level of the harmonics in dB an octave.
    count : int
        Number of harmonics.

    Returns
    -------
    np.ndarray
        [samples].
    """
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    total = np.zeros(len(pitch))
    for k in range(1, count + 1):
        audible = k * pitch < 0.45 * rate
        total += audible * k ** (tilt / 6.02) * np.sin(k * phase)
    return total


def room(
    rng: np.random.Generator, samples: np.ndarray, rate: int, decay: float, wet: float
) -> np.ndarray:
    """Add the reverberation of a room, an exponentially decaying noise.

    Parameters
    ----------
    rng : np.random.Generator
        Source of chance.
    samples : np.ndarray
        Signal, [samples].
    rate : int
        Rate in Hz.
    decay : float
        Time of decay by 60 dB in s.
    wet : float
        Level of the reverberation beside the signal.

    Returns
    -------
    np.ndarray
        [samples].
    """
    length = int(rate * decay)
    tail = rng.standard_normal(length) * np.exp(-DECAY * np.arange(length) / length)
    tail = shape(tail, rate, [(50, -6), (500, 0), (2000, -3), (12000, -18)])
    size = len(samples) + length
    wave = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)
    return samples + wet * wave[: len(samples)] / np.sqrt(np.sum(tail**2))
