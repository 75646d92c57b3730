"""Everyday sounds, each made the way the real thing makes its sound.

A bell is a strike of the partials that founders tune, rain is noise and many small
impacts, a bark is a pulse train through the resonances of a throat. A source is a
function of a random generator, a rate in Hz and a length in seconds, and returns
float64 [samples] of arbitrary level; the generator decides what is left to chance.

The recipes are tuned until an AudioSet tagger (YAMNet) that was trained on real
recordings names them rightly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lmaczs.demo.synthesis import (
    arrivals,
    burst,
    contour,
    drift,
    harmonics,
    noise,
    place,
    ring,
    room,
    shape,
)

Source = Callable[[np.random.Generator, int, float], np.ndarray]


# --- weather and water --------------------------------------------------------------

_RAIN = [(31, 0), (500, -3), (1000, -5), (4000, -9), (8000, -12), (16000, -22)]


def _rain(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Steady rain: the wash of far drops and the patter of near ones."""
    n = int(rate * seconds)
    track = noise(rng, n, rate, _RAIN) * (1 + 0.06 * drift(rng, n, rate, 3))
    for start in arrivals(rng, 350, seconds):
        drop = burst(rng, rate, rng.uniform(0.002, 0.008), rng.uniform(1500, 7000), 0.8)
        place(track, drop * rng.lognormal(-0.3, 0.7), start * rate)
    return track


def _sea_waves(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Surf: a rumble that swells, breaks into hiss and runs out."""
    n = int(rate * seconds)
    time = np.arange(n) / rate
    swell = (1 + np.sin(2 * np.pi * time / rng.uniform(3.5, 4.5) - 1)) / 2
    wash = np.clip(swell + 0.12 * drift(rng, n, rate, 2), 0.05, None)
    rumble = noise(rng, n, rate, [(40, -6), (120, 0), (500, -2), (1200, -16)])
    hiss = noise(
        rng, n, rate, [(150, -20), (500, -3), (1500, 0), (5000, -10), (15000, -26)]
    )
    return rumble * (0.35 + 0.5 * wash) + hiss * (0.12 + 1.3 * wash**2)


def _wind(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Gusts: low turbulence and a howl whose pitch follows the strength."""
    n = int(rate * seconds)
    gust = np.clip(0.6 + 0.35 * drift(rng, n, rate, 1.2), 0.1, None)
    rumble = noise(rng, n, rate, [(20, 0), (90, -3), (400, -22), (2000, -46)])
    pitch = 260 + 330 * gust + 12 * drift(rng, n, rate, 9)
    howl = np.sin(2 * np.pi * np.cumsum(pitch) / rate) * np.abs(drift(rng, n, rate, 70))
    air = noise(
        rng, n, rate, [(200, -12), (500, 0), (900, -6), (3000, -24), (9000, -50)]
    )
    return rumble * gust + 0.6 * gust**2 * howl + 0.35 * gust**1.5 * air


def _thunder(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """A clap that rolls away, with a little rain."""
    n = int(rate * seconds)
    low = [(20, -2), (60, 0), (140, -2), (350, -12), (900, -24), (3000, -46)]
    roll = [(0, 0), (0.3, 0), (0.5, 0.8), (0.9, 1), (1.6, 0.7), (2.4, 0.85), (5, 0.1)]
    snap = [(0, 0), (0.3, 0), (0.33, 0.4), (0.8, 0.12), (1.1, 0.24), (1.8, 0)]
    track = noise(rng, n, rate, low) * contour(roll, n, rate)
    crack = [(60, 0), (400, -4), (1500, -14), (5000, -34)]
    track += noise(rng, n, rate, crack) * contour(snap, n, rate)
    flutter = 1 + 0.6 * drift(rng, n, rate, 14) + 0.4 * drift(rng, n, rate, 2)
    track = room(rng, track * np.clip(flutter, 0.03, None), rate, 2.5, 0.7)
    return track + 0.05 * noise(rng, n, rate, _RAIN)


def _water_drops(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Drips into a basin: each a bubble whose pitch rises as it closes."""
    track = np.zeros(int(rate * seconds))
    start = 0.15
    while start < seconds - 0.1:
        for delay, share in ((0.0, 1.0), (rng.uniform(0.05, 0.11), 0.5)):
            time = np.arange(int(0.09 * rate)) / rate
            pitch = rng.uniform(700, 1500) * (1 + 4.0 * time)
            bubble = np.sin(2 * np.pi * np.cumsum(pitch) / rate) * np.exp(-60 * time)
            bubble *= np.minimum(1, time / 0.002)
            place(track, share * rng.uniform(0.5, 1) * bubble, (start + delay) * rate)
        place(track, 0.08 * burst(rng, rate, 0.006, 3500, 1), start * rate)
        start += rng.uniform(0.3, 0.55)
    return room(rng, track, rate, 0.5, 0.25)


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


# --- machines -----------------------------------------------------------------------


def _helicopter(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Rotor blades that slap the air, over the roar of the turbine."""
    n = int(rate * seconds)
    beat = rng.uniform(16, 19) * (1 + 0.004 * drift(rng, n, rate, 2))
    phase = np.cumsum(beat) / rate % 1
    chop = np.exp(-3 * phase) * np.minimum(1, phase / 0.06) + 0.12
    slap = noise(rng, n, rate, [(30, 0), (120, 0), (400, -5), (1200, -20), (6000, -45)])
    jet = [(100, -6), (400, 0), (1500, -9), (5000, -26), (14000, -46)]
    roar = noise(rng, n, rate, jet) * (0.8 + chop)
    thump = np.sin(6 * np.pi * np.sqrt(phase)) * np.exp(-6 * phase)
    return 0.9 * slap * chop + roar + 0.9 * thump


def _vacuum_cleaner(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """The whine of a commutator motor and of its fan in a rush of air."""
    n = int(rate * seconds)
    speed = 233 * (1 + 0.003 * drift(rng, n, rate, 1.5))
    body = [(100, -8), (250, 0), (1500, 0), (4000, -8), (12000, -24)]
    motor = shape(harmonics(speed, rate, -4, 40), rate, body)
    fan = harmonics(9.3 * speed, rate, -6, 4)
    duct = [(60, -24), (250, -8), (700, 0), (1500, -2), (3500, -8), (14000, -30)]
    air = noise(rng, n, rate, duct)
    return 0.45 * motor / motor.std() + 0.3 * fan / fan.std() + air


def _siren(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """An emergency siren that wails between two pitches, heard in a street."""
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


def _keyboard_typing(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Keys that hit bottom and spring back, in a typist's uneven rhythm."""
    n = int(rate * seconds)
    track = 0.004 * noise(rng, n, rate, [(60, 0), (500, -10), (4000, -26)])
    start = 0.1
    while start < seconds - 0.2:
        force = rng.uniform(0.5, 1.0)
        for delay, share in ((0.0, 1.0), (rng.uniform(0.06, 0.1), 0.45)):
            modes = [
                (rng.uniform(170, 240), 0.02, 0.25),
                (rng.uniform(900, 1300), 0.012, 0.3),
            ]
            key = ring(rate, modes)
            click = burst(
                rng, rate, rng.uniform(0.01, 0.02), rng.uniform(2200, 4200), 1.2
            )
            place(track, force * share * key, (start + delay) * rate)
            place(track, 0.5 * force * share * click, (start + delay) * rate)
        start += rng.choice([0.09, 0.13, 0.19, 0.32], p=[0.3, 0.4, 0.2, 0.1])
    return room(rng, track, rate, 0.2, 0.12)


# --- struck things ------------------------------------------------------------------


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
        for delay, share in ((0.0, 0.3), (0.009, 0.35), (0.02, 1.0)):
            click = 0.6 * burst(rng, rate, 0.05, 3000, 2)
            place(track, share * click, (start + delay) * rate)
            case = ring(rate, (tick, tock)[beat % 2])
            place(track, share * case, (start + delay) * rate)
    return room(rng, track, rate, 0.25, 0.1)


_DOOR = [(88, 0.054, 0.6), (151, 0.063, 1.0), (238, 0.05, 0.8), (397, 0.036, 0.5),
        (655, 0.022, 0.35), (1120, 0.014, 0.2)]  # fmt: skip


def _door_knock(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Knuckles on a wooden door, four at a time."""
    track = np.zeros(int(rate * seconds))
    start, count = 0.25, 0
    while start < seconds - 0.3:
        modes = [(hertz * rng.uniform(0.98, 1.02), *rest) for hertz, *rest in _DOOR]
        knock = ring(rate, modes)
        place(track, rng.uniform(0.8, 1.0) * knock, start * rate)
        place(track, 0.25 * burst(rng, rate, 0.012, 900, 1.5), start * rate)
        count += 1
        start += rng.normal(0.17, 0.008) if count % 4 else 1.1
    return room(rng, track, rate, 0.35, 0.3)


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


def _clapping(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """An audience: some sixty pairs of hands, each at a pace of its own."""
    track = np.zeros(int(rate * seconds))
    for _ in range(60):
        hertz, pace, gain = (
            rng.uniform(700, 2200),
            rng.uniform(0.2, 0.3),
            rng.lognormal(-0.5, 0.6),
        )
        start = rng.uniform(0, pace)
        while start < seconds:
            clap = burst(rng, rate, rng.uniform(0.015, 0.03), hertz, 0.9)
            place(track, gain * clap, start * rate)
            start += pace * rng.normal(1, 0.05)
    return room(rng, track, rate, 1.0, 0.5)


# --- animals ------------------------------------------------------------------------


def _crickets(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Field crickets: chirps of three or four pulses a little above 5 kHz."""
    n = int(rate * seconds)
    track = 0.03 * noise(rng, n, rate, [(60, 0), (500, -8), (4000, -10), (14000, -16)])
    for gain in (1.0, 0.5, 0.35, 0.2):
        hertz, period, start = (
            rng.uniform(5000, 5600),
            rng.uniform(0.33, 0.5),
            rng.uniform(0, 0.4),
        )
        while start < seconds:
            for pulse in range(4):
                time = np.arange(int(0.019 * rate)) / rate
                tone = np.sin(2 * np.pi * hertz * (1 - 0.8 * time) * time)
                tone = (tone + 0.1 * np.sin(4 * np.pi * hertz * time)) * np.sin(
                    np.pi * time / 0.019
                )
                place(track, gain * tone, (start + 0.033 * pulse) * rate)
            start += period * rng.normal(1, 0.03)
    return track


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
    "sea_waves": _sea_waves,
    "wind": _wind,
    "thunder": _thunder,
    "water_drops": _water_drops,
    "crackling_fire": _crackling_fire,
    "helicopter": _helicopter,
    "vacuum_cleaner": _vacuum_cleaner,
    "siren": _siren,
    "keyboard_typing": _keyboard_typing,
    "clock_tick": _clock_tick,
    "door_knock": _door_knock,
    "church_bells": _church_bells,
    "clapping": _clapping,
    "crickets": _crickets,
    "dog": _dog,
}
"""Every source under its name; its calling convention stands at the top."""
