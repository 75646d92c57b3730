"""synthesis.py: building blocks that do what their parameters say."""

from __future__ import annotations

import numpy as np
import pytest

from lmaczs.demo import synthesis

RATE = 16000


def level(samples: np.ndarray, low: float, high: float) -> float:
    """Return the mean power density between two frequencies in dB."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    return 10 * np.log10(power[(hertz > low) & (hertz < high)].mean())


def test_noise_follows_its_curve() -> None:
    """A drop of 20 dB between two frequencies is a drop of 20 dB."""
    curve = [(1000, 0), (1001, -20), (8000, -20)]
    samples = synthesis.noise(np.random.default_rng(0), 1 << 15, RATE, curve)
    assert samples.std() == pytest.approx(1)
    fall = level(samples, 100, 990) - level(samples, 1010, 7000)
    assert fall == pytest.approx(20, abs=1)


def test_a_flat_curve_changes_nothing() -> None:
    """A filter of 0 dB everywhere is the identity."""
    samples = np.random.default_rng(0).standard_normal(1001)
    np.testing.assert_allclose(
        synthesis.shape(samples, RATE, [(100, 0), (1000, 0)]), samples, atol=1e-12
    )


def test_drift_is_smooth_and_centred() -> None:
    """It moves little from one sample to the next and stays around zero."""
    curve = synthesis.drift(np.random.default_rng(0), 400 * RATE // 10, RATE, 50)
    assert np.abs(np.diff(curve)).max() < 0.05
    assert abs(curve.mean()) < 0.1 and 0.5 < curve.std() < 1.1


def test_strikes_decay_by_60_db() -> None:
    """At the end of the decay time a thousandth of the amplitude is left."""
    strike = synthesis.ring(RATE, [(1000, 0.5, 1.0), (9000, 1.0, 1.0)])
    late = strike[int(0.49 * RATE) : RATE // 2]
    assert np.abs(late).max() == pytest.approx(1e-3, rel=0.2)


@pytest.mark.parametrize("start", [0, 7.9, 95, 100, 1000])
def test_sounds_are_placed_within_the_track(start: float) -> None:
    """What leaves the track is dropped, the rest is added."""
    track, expected = np.ones(100), np.ones(200)
    synthesis.place(track, np.ones(10), start)
    if start < 100:
        expected[int(start) : int(start) + 10] += 1
    np.testing.assert_array_equal(track, expected[:100])


def test_harmonics_make_no_aliases() -> None:
    """A pitch of 3 kHz leaves only multiples that the rate can carry."""
    tone = synthesis.harmonics(np.full(RATE, 3000.0), RATE, 0.0, 10)
    assert level(tone, 2900, 3100) - level(tone, 100, 2800) > 80
    assert level(tone, 5900, 6100) - level(tone, 6200, 7900) > 80


def test_events_arrive_at_their_rate() -> None:
    """A Poisson process: as many events as expected, spread evenly."""
    times = synthesis.arrivals(np.random.default_rng(0), 100, 50)
    assert len(times) == pytest.approx(5000, rel=0.05)
    assert times.min() >= 0 and times.max() < 50
    assert times.mean() == pytest.approx(25, rel=0.05)


def test_rooms_add_what_comes_later() -> None:
    """The direct sound is kept; the tail has the level given, and no past."""
    impulse = np.zeros(RATE)
    impulse[100] = 1.0
    reverberant = synthesis.room(np.random.default_rng(0), impulse, RATE, 0.3, 0.5)
    tail = reverberant - impulse
    assert np.abs(tail[:100]).max() < 1e-9
    assert np.sqrt(np.sum(tail**2)) == pytest.approx(0.5, rel=1e-6)


def test_bursts_are_centred_on_their_frequency() -> None:
    """A click around 3 kHz has its energy there."""
    clicks = [
        synthesis.burst(np.random.default_rng(seed), RATE, 0.05, 3000, 0.5)
        for seed in range(20)
    ]
    around = np.mean([level(click, 2200, 4000) for click in clicks])
    below = np.mean([level(click, 200, 800) for click in clicks])
    assert around - below > 15
