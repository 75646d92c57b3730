"""Disturbances: each by itself against what it should do to tones, then all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lmaczs.data.augment import (
    SPEEDS,
    Disturbance,
    at_speed,
    coloured_noise,
    cut_off,
)

RATE = 32000
EVERY = Disturbance(speed_share=1.0, noise_share=1.0, band_share=1.0)


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE) -> Tensor:
    """A sine at half of full scale."""
    time = torch.arange(round(seconds * rate)) / rate
    return 0.5 * torch.sin(2 * math.pi * hertz * time)


def loudest_hertz(wav: Tensor, rate: int = RATE) -> float:
    """Frequency of the strongest bin."""
    spectrum = torch.fft.rfft(wav * torch.hann_window(len(wav))).abs()
    return float(spectrum.argmax()) * rate / len(wav)


@pytest.mark.parametrize(("up", "down"), SPEEDS)
def test_another_speed_is_another_pitch(up: int, down: int) -> None:
    """Of the same length: the end is cut, or the clip begins again without a gap."""
    wav = tone(1000)
    played = at_speed(wav, up, down)
    assert len(played) == len(wav)
    assert loudest_hertz(played[:8000]) == pytest.approx(1000 * up / down, abs=5)
    assert played[-4000:].square().mean().sqrt() == pytest.approx(0.354, abs=0.01)


def test_speeds_are_as_often_slow_as_fast() -> None:
    """For every speed there is its inverse, so that clips do not drift in pitch."""
    assert {(down, up) for up, down in SPEEDS} == set(SPEEDS)


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_noise_has_its_colour(slope: float) -> None:
    """Power falls by 3 dB an octave for each unit of slope."""
    noise = coloured_noise(1 << 18, slope, np.random.default_rng(1))
    power = torch.fft.rfft(noise).abs().square()
    octaves = [power[1 << k : 2 << k].mean().log2().item() for k in range(8, 17)]
    steps = np.diff(octaves)
    assert steps.mean() == pytest.approx(-slope, abs=0.05)
    assert np.abs(steps + slope).max() < 0.5


def test_silence_stays_silent() -> None:
    """Noise at a level below nothing is nothing."""
    silence = torch.zeros(2, RATE)
    for seed in range(5):
        disturbed = EVERY(silence, RATE, np.random.default_rng(seed))
        assert disturbed.shape == (3, RATE)
        assert not disturbed.any()


@pytest.mark.parametrize("above", [False, True])
def test_one_side_of_a_frequency_is_kept(above: bool) -> None:
    """Half the power at the frequency, 24 dB less for every octave beyond it."""
    for octave in (-2, -1, 0, 1, 2):
        wav = tone(1000 * 2.0**octave)
        kept = cut_off(wav, 1000.0, RATE, above)
        gain = 20 * math.log10(float(kept.norm() / wav.norm()))
        beyond = -octave if above else octave
        expected = {-2: 0.0, -1: 0.0, 0: -3.01, 1: -24.1, 2: -48.2}[beyond]
        assert gain == pytest.approx(expected, abs=0.05)


def test_a_clip_is_left_alone_unless_told_otherwise() -> None:
    """The default does nothing, whatever is drawn."""
    sources = tone(440)[None]
    for seed in range(5):
        assert Disturbance()(sources, RATE, np.random.default_rng(seed)) is sources


@pytest.mark.parametrize("kind", ["speed_share", "noise_share", "band_share"])
def test_share_of_the_clips_is_disturbed(kind: str) -> None:
    """About 40 of 100 for a share of 0.4, each kind by itself."""
    sources = tone(440, 0.1)[None]
    disturb = Disturbance(**{kind: 0.4})
    rng = np.random.default_rng(2)
    changed = sum(disturb(sources, RATE, rng) is not sources for _ in range(100))
    assert 30 <= changed <= 50


def test_disturbed_clips_repeat_and_do_not_clip() -> None:
    """The same source of chance gives the same; full scale is the most there is."""
    sources = torch.stack([tone(3000), tone(200)])
    for seed in range(20):
        once, again = (
            EVERY(sources, RATE, np.random.default_rng(seed)) for _ in range(2)
        )
        assert torch.equal(once, again)
        assert once.shape == (3, RATE)
        assert once.sum(0).abs().max() <= 1.000001


@pytest.mark.parametrize("kind", ["speed_share", "band_share"])
def test_a_sum_is_disturbed_as_its_parts_are(kind: str) -> None:
    """What was drawn is done to each sound, so that their sum is the disturbed clip."""
    sources = 0.4 * torch.stack([tone(3000), tone(200)])
    disturb = Disturbance(**{kind: 1.0})
    for seed in range(5):
        parts = disturb(sources, RATE, np.random.default_rng(seed))
        whole = disturb(sources.sum(0)[None], RATE, np.random.default_rng(seed))[0]
        torch.testing.assert_close(parts.sum(0), whole, atol=1e-6, rtol=0)
        assert (parts - sources).abs().max() > 0.1


def test_levels_and_frequencies_lie_where_they_should() -> None:
    """Noise between the two levels, cuts between the two frequencies."""
    wav = tone(440)
    noisy = Disturbance(noise_share=1.0, noise_db=(10.0, 12.0))
    for seed in range(10):
        same, added = noisy(wav[None], RATE, np.random.default_rng(seed))
        assert torch.equal(same, wav)
        level = 10 * math.log10(float(wav.square().sum() / added.square().sum()))
        assert 9.9 < level < 12.1
    impulse = torch.zeros(RATE)
    impulse[RATE // 2] = 0.5
    narrow = Disturbance(band_share=1.0, band_hz=(1000.0, 2000.0))
    for seed in range(10):
        cut = narrow(impulse[None], RATE, np.random.default_rng(seed))[0]
        gain = torch.fft.rfft(cut).abs() / 0.5
        assert min(gain[250], gain[8000]) < 0.01
        assert max(gain[250], gain[8000]) == pytest.approx(1, abs=0.01)
        assert ((gain[1000:2000] - 0.5**0.5).abs() < 0.01).any()
