"""sound_models.py: each source has what makes its model recognisable to the ear."""

from __future__ import annotations

import numpy as np
import pytest

from lmaczs.demo.scenes import render

RATE = 32000


def spectrogram(name: str, seed: int) -> np.ndarray:
    """Return the power of 5 s in Hann windows of 2048, hop 320, [frames, 1025]."""
    samples = render(name, RATE, 5.0, seed).numpy()
    frames = np.lib.stride_tricks.sliding_window_view(samples, 2048)[::320]
    return np.abs(np.fft.rfft(frames * np.hanning(2048))) ** 2


def share(power: np.ndarray, low: float, high: float) -> float:
    """Return the share of the energy between two frequencies in Hz."""
    hertz = np.fft.rfftfreq(2048, 1 / RATE)
    return power[:, (hertz >= low) & (hertz < high)].sum() / power.sum()


def period(envelope: np.ndarray, shortest: float, longest: float) -> float:
    """Return the lag in s of the strongest repetition of an envelope at 100 Hz."""
    centred = envelope - envelope.mean()
    lags = np.arange(int(100 * shortest), int(100 * longest) + 1)
    return lags[np.argmax([centred[:-lag] @ centred[lag:] for lag in lags])] / 100


@pytest.mark.parametrize("seed", range(3))
def test_clock_ticks_two_and_a_half_times_a_second(seed: int) -> None:
    """Clicks come back after 0.4 s, tick like tock."""
    envelope = np.sqrt(spectrogram("clock_tick", seed)[:, 64:].sum(1))
    assert period(envelope, 0.2, 0.6) == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_siren_sweeps_more_than_an_octave(seed: int) -> None:
    """The fundamental rises and falls between 560 and 1350 Hz."""
    power = spectrogram("siren", seed)
    hertz = np.fft.rfftfreq(2048, 1 / RATE)
    fundamental = hertz[power[:, :96].argmax(1)]
    low, high = np.quantile(fundamental, [0.03, 0.97])
    assert 500 < low < 700 and 1100 < high < 1450


def test_bells_ring_on() -> None:
    """Energy is left long after a strike; a tick is gone by then."""

    def left_after(name: str) -> float:
        energy = np.sort(spectrogram(name, 0).sum(1))
        return energy[len(energy) // 2] / energy[-len(energy) // 50]

    assert left_after("church_bells") > 0.05 > 5 * left_after("clock_tick")


def test_spectra_differ_as_in_nature() -> None:
    """Barks are a band of the voice, rain is wide."""
    assert share(spectrogram("dog", 0), 400, 2000) > 0.8
    assert share(spectrogram("rain", 0), 2000, 16000) > 0.4


def test_fire_crackles_and_rain_does_not() -> None:
    """Single crackles tower over the draught: a high crest factor."""

    def crest(name: str) -> float:
        samples = render(name, RATE, 5.0, 0).numpy()
        return np.abs(samples).max() / samples.std()

    assert crest("crackling_fire") > 18 > crest("rain")
