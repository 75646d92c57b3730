"""effects.py: each effect by itself, against what it does to tones and clicks."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lmaczs.audio.effects import (
    add_reverb,
    change_speed,
    coloured_noise,
    equalise,
    high_pass,
    low_pass,
    silence_outside,
    tile_or_crop,
)

RATE = 16000


def generator(seed: int = 0) -> np.random.Generator:
    """Random generator of a fixed seed."""
    return np.random.default_rng(seed)


def tone(hertz: float, seconds: float = 1.0) -> Tensor:
    """A sine of amplitude 0.5."""
    time = torch.arange(round(seconds * RATE)) / RATE
    return 0.5 * torch.sin(2 * math.pi * hertz * time)


def noise(samples: int = RATE, seed: int = 0) -> Tensor:
    """White noise of a fixed seed."""
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def gain_db(changed: Tensor, wav: Tensor) -> float:
    """By how much a waveform is louder than another."""
    return 20 * math.log10(float(changed.norm() / wav.norm()))


@pytest.mark.parametrize("speed", [0.75, 1.3, Fraction(4, 5), Fraction(5, 4)])
def test_speed_changes_length_and_pitch(speed: float | Fraction) -> None:
    """A sine of 500 Hz lasts shorter and is higher by the speed, and stays a sine."""
    played = change_speed(tone(500), speed)
    assert len(played) == math.ceil(RATE / speed)
    time = torch.arange(len(played)) / RATE
    expected = 0.5 * torch.sin(2 * math.pi * 500 * float(speed) * time)
    inner = slice(400, -400)
    torch.testing.assert_close(played[inner], expected[inner], atol=1e-3, rtol=0)


def test_speed_one_changes_nothing() -> None:
    """Each sample stays as it is, at the fraction and at the float."""
    assert torch.equal(change_speed(noise(999), Fraction(1)), noise(999))
    assert torch.equal(change_speed(noise(999), 1.001), noise(999))


@given(length=st.integers(1, 40), samples=st.integers(1, 90), seed=st.integers(0, 1000))
def test_tile_or_crop_is_a_contiguous_stretch(
    length: int, samples: int, seed: int
) -> None:
    """It has the length, begins anywhere in a long sound, and repeats a short one."""
    wav = torch.arange(2.0 * length).view(2, length)
    for rng in (None, generator(seed)):
        found = tile_or_crop(wav, samples, rng)
        start = int(found[0, 0])
        assert found.shape == (2, samples)
        expected = [(start + i) % length for i in range(samples)]
        assert found[0].tolist() == expected
        assert found[1].tolist() == [length + place for place in expected]
        assert rng is not None or start == 0


def test_stretches_begin_anywhere() -> None:
    """Every start in a longer sound is drawn, the first and the last one, too."""
    rng = generator()
    starts = {float(tile_or_crop(torch.arange(9.0), 6, rng)[0]) for _ in range(100)}
    assert starts == {0, 1, 2, 3}


def test_silence_outside_a_stretch() -> None:
    """Ends are fractions of the length; beyond the end nothing happens."""
    ones = torch.ones(10)
    assert silence_outside(ones, 0.3, 0.6).tolist() == [0] * 3 + [1] * 3 + [0] * 4
    assert silence_outside(ones, 0.8, 1.7).tolist() == [0] * 8 + [1] * 2


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_noise_has_its_colour(slope: float) -> None:
    """Power falls by 3 dB an octave for each unit of slope."""
    wav = coloured_noise(1 << 18, slope, generator(1))
    power = torch.fft.rfft(wav).abs().square()
    octaves = [power[1 << k : 2 << k].mean().log2().item() for k in range(8, 17)]
    steps = np.diff(octaves)
    assert steps.mean() == pytest.approx(-slope, abs=0.05)
    assert np.abs(steps + slope).max() < 0.5
    assert len(coloured_noise(1001, slope, generator())) == 1001


@pytest.mark.parametrize("octave", [-2, -1, 0, 1, 2])
def test_one_side_of_a_frequency_is_kept(octave: int) -> None:
    """Half the power at the frequency, 24 dB less for every octave beyond it."""
    expected = {-2: 0.0, -1: 0.0, 0: -3.01, 1: -24.1, 2: -48.2}
    wav = tone(1000 * 2.0**octave)
    low, high = low_pass(wav, 1000.0, RATE), high_pass(wav, 1000.0, RATE)
    assert gain_db(low, wav) == pytest.approx(expected[octave], abs=0.05)
    assert gain_db(high, wav) == pytest.approx(expected[-octave], abs=0.05)


def test_equaliser_is_the_gain_of_each_frequency() -> None:
    """Gains are those of the curve, straight lines over log frequency; 0 dB is none."""
    flat = [(100.0, 0.0), (1000.0, 0.0)]
    torch.testing.assert_close(equalise(noise(), RATE, flat), noise())
    curve = [(20.0, -6.0), (400.0, 4.0), (8000.0, -20.0)]
    places = np.log([20, 400, 8000])
    for hertz in (100, 1000, 4000):
        found = gain_db(equalise(tone(hertz), RATE, curve), tone(hertz))
        expected = np.interp(np.log(hertz + 1), places, [-6, 4, -20])
        assert found == pytest.approx(expected, abs=0.1)


def test_reverberation_is_a_convolution() -> None:
    """The sound itself, and after it noise that decays by 60 dB in the time given."""
    click = torch.zeros(RATE)
    click[100] = 1
    dry = add_reverb(click, RATE, 0.5, 0.0, generator())
    torch.testing.assert_close(dry, click)
    tail = add_reverb(click, RATE, 0.5, 0.8, generator()) - click
    assert tail[:100].abs().max() < 1e-5
    assert float(tail.norm()) == pytest.approx(0.8, rel=1e-3)
    early, late = tail[101:901].square().mean(), tail[7101:7901].square().mean()
    assert 10 * float((early / late).log10()) == pytest.approx(60 * 7000 / 8000, abs=3)
    wav = noise(3000)
    response = (tail + click)[100:3100].numpy()
    expected = np.convolve(wav.numpy(), response)[:3000]
    found = add_reverb(wav, RATE, 0.5, 0.8, generator())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_reverberation_has_its_colour() -> None:
    """A curve that falls by 40 dB leaves a dull tail."""
    click = torch.zeros(RATE)
    click[0] = 1
    curve = [(1000.0, 0.0), (1001.0, -40.0)]
    tail = add_reverb(click, RATE, 0.5, 1.0, generator(), curve) - click
    power = torch.fft.rfft(tail).abs().square()
    assert power[:900].mean() > 1000 * power[1100:].mean()
