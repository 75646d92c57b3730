"""Everyday sounds, synthesised by simple physical models.

A bell is a strike of the partials that founders tune, rain is noise and many small
impacts, a bark is a pulse train through the resonances of a throat. Each model takes a
random generator, a rate in Hz and a length in seconds, and returns float64 [samples] of
arbitrary level. The models are tuned until an AudioSet tagger (YAMNet), trained on real
recordings, names them correctly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lmaczs.demo.synthesis import (
    arrivals,
    burst,
    drift,
    harmonics,
    noise,
    place,
    ring,
    room,
    shape,
)

Source = Callable[[np.random.Generator, int, float], np.ndarray]


def _rain(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Steady rain: the wash of far drops and the patter of near ones."""
    n = int(rate * seconds)
    wash = [(31, 0), (500, -3), (1000, -5), (4000, -9), (8000, -12), (16000, -22)]
    track = noise(rng, n, rate, wash) * (1 + 0.06 * drift(rng, n, rate, 3))
    for start in arrivals(rng, 350, seconds):
        drop = burst(rng, rate, rng.uniform(0.002, 0.008), rng.uniform(1500, 7000), 0.8)
        place(track, drop * rng.lognormal(-0.3, 0.7), start * rate)
    return track


def _crackling_fire(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """A log fire: a low draught and crackles of very different strength."""
    n = int(rate * seconds)
    track = 0.12 * noise(rng, n, rate, [(25, 0), (90, -2), (300, -16), (2000, -30)])
    track *= 1 + 0.35 * drift(rng, n, rate, 6)
    track += 0.012 * noise(rng, n, rate, [(500, -3), (3000, 0), (14000, -9)])
    for start in arrivals(rng, 80, seconds):
        decay, hertz = rng.uniform(0.002, 0.012), rng.uniform(900, 6500)
        snap = burst(rng, rate, decay, hertz, 1.0)
        place(track, snap * min(2.5, rng.lognormal(-1.9, 1.2)), start * rate)
    return track


def _siren(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """An emergency siren that wails between two pitches, in a street."""
    n = int(rate * seconds)
    time = np.arange(n) / rate
    sweep = (1 - np.cos(2 * np.pi * time / 1.9 + rng.uniform(0, 1))) / 2
    pitch = 560 * (1350 / 560) ** (sweep**0.8)
    horn = shape(
        harmonics(pitch, rate, -5, 16),
        rate,
        [(300, -8), (900, 0), (3200, -6), (9000, -26)],
    )
    street = 0.03 * noise(rng, n, rate, [(60, 0), (400, -10), (4000, -30)])
    return room(rng, horn / horn.std(), rate, 1.2, 0.45) + street


def _clock_tick(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """A clock on a shelf: the three clicks of its escapement, tick and tock."""
    n = int(rate * seconds)
    track = 0.02 * noise(rng, n, rate, [(40, 0), (300, -8), (3000, -18), (12000, -30)])
    tick = [(430, 0.08, 0.2), (1650, 0.05, 0.3), (2900, 0.04, 0.4), (5100, 0.03, 0.3)]
    tock = [
        (390, 0.08, 0.25),
        (1240, 0.06, 0.35),
        (2650, 0.04, 0.35),
        (4300, 0.03, 0.25),
    ]
    for beat, start in enumerate(np.arange(0.1, seconds, 0.4)):
        start += 0.006 * (-1) ** beat
        for delay, gain in ((0.0, 0.3), (0.009, 0.35), (0.02, 1.0)):
            click = 0.6 * burst(rng, rate, 0.05, 3000, 2)
            place(track, gain * click, (start + delay) * rate)
            case = ring(rate, (tick, tock)[beat % 2])
            place(track, gain * case, (start + delay) * rate)
    return room(rng, track, rate, 0.25, 0.1)


_BELL = [(0.5, 5, 0.4), (1, 4, 0.6), (1.19, 3.4, 0.9), (1.5, 2.4, 0.35), (2, 3.2, 1),
        (2.52, 1.8, 0.6), (2.63, 1.8, 0.7), (3.01, 1.8, 0.9), (4.1, 1.3, 0.75),
        (5.35, 1, 0.6), (6.7, 0.8, 0.45), (8.2, 0.6, 0.33), (9.7, 0.5, 0.27),
        (11.3, 0.4, 0.2), (13.1, 0.3, 0.15)]  # fmt: skip


def _church_bells(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Two bells in turn, with the partials that founders tune, each a beating pair."""
    track = np.zeros(int(rate * seconds))
    for beat, start in enumerate(np.arange(0.05, seconds, 1.25)):
        modes = [
            ((262, 311)[beat % 2] * ratio * split, decay, gain)
            for ratio, decay, gain in _BELL
            for split in (1.0, rng.uniform(1.0008, 1.004))
        ]
        bell = ring(rate, modes)
        attack = np.minimum(1, np.arange(len(bell)) / (0.012 * rate))
        place(track, bell * attack, start * rate)
        place(track, 0.5 * burst(rng, rate, 0.03, 3000, 1.5), start * rate)
    return room(rng, track, rate, 2.5, 0.8)


def _dog(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Barks: a hoarse pitch that jumps up and falls, through an open mouth."""
    track = np.zeros(int(rate * seconds))
    throat = [(150, -26), (500, -8), (750, 0), (1150, 0), (1700, -8), (2600, -14),
              (5000, -34), (12000, -50)]  # fmt: skip
    start = 0.2
    while start < seconds - 0.3:
        length, top = 0.18 * rng.uniform(0.9, 1.1), rng.uniform(620, 700)
        n = int(rate * length)
        place_in_bark = np.linspace(0, 1, n)
        pitch = top * np.interp(place_in_bark, [0, 0.2, 0.5, 1], [0.62, 1, 0.9, 0.65])
        pitch *= 1 + 0.06 * drift(rng, n, rate, 120)
        gain = np.interp(place_in_bark, [0, 0.07, 0.5, 0.8, 1], [0, 1, 0.8, 0.2, 0])
        voice = shape(harmonics(pitch, rate, -3, 30), rate, throat)
        bark = voice / voice.std() + 0.5 * noise(rng, n, rate, throat)
        place(track, gain * bark, start * rate)
        start += rng.choice([0.5, 0.6, 0.9])
    return room(rng, track, rate, 0.4, 0.25)


SOURCES: dict[str, Source] = {
    "rain": _rain,
    "crackling_fire": _crackling_fire,
    "siren": _siren,
    "clock_tick": _clock_tick,
    "church_bells": _church_bells,
    "dog": _dog,
}
"""Every source by its name."""
