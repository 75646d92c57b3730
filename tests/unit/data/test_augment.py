"""Augmentation of waveforms: each effect by itself, then all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lmaczs.data.augment import SPEEDS, WaveformAugment

RATE = 32000
EVERY = WaveformAugment(speed_prob=1.0, noise_prob=1.0, band_prob=1.0)


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE) -> Tensor:
    """A sine at half of full scale."""
    time = torch.arange(round(seconds * rate)) / rate
    return 0.5 * torch.sin(2 * math.pi * hertz * time)


def loudest_hertz(wav: Tensor, rate: int = RATE) -> float:
    """Frequency of the strongest bin."""
    spectrum = torch.fft.rfft(wav * torch.hann_window(len(wav))).abs()
    return float(spectrum.argmax()) * rate / len(wav)


@pytest.mark.parametrize("seed", range(6))
def test_another_speed_is_another_pitch(seed: int) -> None:
    """Of the same length: the end is cut, or the clip begins again without a gap."""
    wav = tone(1000)
    augment = WaveformAugment(speed_prob=1.0)
    played = augment(wav[None], RATE, np.random.default_rng(seed))[0]
    assert len(played) == len(wav)
    speeds = [float(speed) for speed in SPEEDS]
    assert loudest_hertz(played[:8000]) / 1000 in [
        pytest.approx(speed, abs=0.005) for speed in speeds
    ]
    assert played[-4000:].square().mean().sqrt() == pytest.approx(0.354, abs=0.01)


def test_speeds_are_as_often_slow_as_fast() -> None:
    """For every speed there is its inverse, so that clips do not drift in pitch."""
    assert {1 / speed for speed in SPEEDS} == set(SPEEDS)


def test_silence_stays_silent() -> None:
    """Noise at a level below nothing is nothing."""
    silence = torch.zeros(2, RATE)
    for seed in range(5):
        augmented = EVERY(silence, RATE, np.random.default_rng(seed))
        assert augmented.shape == (3, RATE)
        assert not augmented.any()


def test_a_clip_is_left_alone_by_default() -> None:
    """The default does nothing, whatever is drawn."""
    sources = tone(440)[None]
    for seed in range(5):
        assert WaveformAugment()(sources, RATE, np.random.default_rng(seed)) is sources


@pytest.mark.parametrize("kind", ["speed_prob", "noise_prob", "band_prob"])
def test_prob_of_the_clips_is_augmented(kind: str) -> None:
    """About 40 of 100 for a probability of 0.4, each kind by itself."""
    sources = tone(440, 0.1)[None]
    augment = WaveformAugment(**{kind: 0.4})
    rng = np.random.default_rng(2)
    changed = sum(augment(sources, RATE, rng) is not sources for _ in range(100))
    assert 30 <= changed <= 50


def test_augmented_clips_repeat_and_do_not_clip() -> None:
    """The same seed gives the same; full scale is the most there is."""
    sources = torch.stack([tone(3000), tone(200)])
    for seed in range(20):
        once, again = (
            EVERY(sources, RATE, np.random.default_rng(seed)) for _ in range(2)
        )
        assert torch.equal(once, again)
        assert once.shape == (3, RATE)
        assert once.sum(0).abs().max() <= 1.000001


@pytest.mark.parametrize("kind", ["speed_prob", "band_prob"])
def test_a_sum_is_augmented_as_its_parts_are(kind: str) -> None:
    """What was drawn is done to each sound, so that their sum is the augmented clip."""
    sources = 0.4 * torch.stack([tone(3000), tone(200)])
    augment = WaveformAugment(**{kind: 1.0})
    for seed in range(5):
        parts = augment(sources, RATE, np.random.default_rng(seed))
        whole = augment(sources.sum(0)[None], RATE, np.random.default_rng(seed))[0]
        torch.testing.assert_close(parts.sum(0), whole, atol=1e-6, rtol=0)
        assert (parts - sources).abs().max() > 0.1


def test_levels_and_frequencies_lie_where_they_should() -> None:
    """Noise between the two levels, cuts between the two frequencies."""
    wav = tone(440)
    noisy = WaveformAugment(noise_prob=1.0, noise_snr_db=(10.0, 12.0))
    for seed in range(10):
        same, added = noisy(wav[None], RATE, np.random.default_rng(seed))
        assert torch.equal(same, wav)
        level = 10 * math.log10(float(wav.square().sum() / added.square().sum()))
        assert 9.9 < level < 12.1
    impulse = torch.zeros(RATE)
    impulse[RATE // 2] = 0.5
    narrow = WaveformAugment(band_prob=1.0, band_hz=(1000.0, 2000.0))
    for seed in range(10):
        cut = narrow(impulse[None], RATE, np.random.default_rng(seed))[0]
        gain = torch.fft.rfft(cut).abs() / 0.5
        assert min(gain[250], gain[8000]) < 0.01
        assert max(gain[250], gain[8000]) == pytest.approx(1, abs=0.01)
        assert ((gain[1000:2000] - 0.5**0.5).abs() < 0.01).any()


def test_a_crop_is_a_stretch_of_the_clip() -> None:
    """Of at least the shortest length, anywhere; some clips, and short ones, stay."""
    wav, augment = torch.arange(4000.0), WaveformAugment(0.5, shortest_crop=0.1)
    rng = np.random.default_rng(0)
    crops = [augment.crop(wav, 10_000, rng) for _ in range(200)]
    for crop in crops:
        start = int(crop[0])
        assert torch.equal(crop, wav[start : start + len(crop)])
    lengths = np.array([len(crop) for crop in crops])
    assert 0.4 < (lengths < 4000).mean() < 0.6
    assert 1000 <= lengths.min() < 1200
    assert max(int(crop[0]) for crop in crops) > 2000
    assert min(int(crop[-1]) for crop in crops) < 2000
    short = wav[:1000]
    assert WaveformAugment(1.0, shortest_crop=0.1).crop(short, 10_000, rng) is short
