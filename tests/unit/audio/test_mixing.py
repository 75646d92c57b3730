"""Two sounds in one clip: levels, silence, clipping, and which stretches are taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.audio.mixing import (
    concatenate,
    limit_peak,
    loudest_stretch,
    mix_at_snr,
    rms,
    scale_to_peak,
    scale_to_rms,
    scale_to_snr,
)

RATE = 32000


@pytest.mark.parametrize("level_db", [-12.0, -5.0, 0.0, 3.3, 20.0])
@pytest.mark.parametrize("gain", [0.01, 1.0, 10.0])
def test_mixture_level(level_db: float, gain: float) -> None:
    """First and second are in the mixture at the SNR given."""
    rng = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 20000, generator=rng)
    second = second * gain
    parts = mix_at_snr(first, second, level_db)
    mixture = parts.sum(0)
    assert (torch.cosine_similarity(parts, torch.stack([first, second])) > 0.999).all()
    sources = torch.stack([first, second], 1).double()
    share = torch.linalg.lstsq(sources, mixture.double()[:, None]).solution
    energies = (sources * share.T).square().sum(0)
    torch.testing.assert_close(sources @ share, mixture.double()[:, None])
    assert float(10 * (energies[0] / energies[1]).log10()) == pytest.approx(
        level_db, abs=1e-3
    )


@pytest.mark.parametrize("level", [-10.0, 0.0, 20.0])
def test_snr_is_by_mean_power(level: float) -> None:
    """The level of the noise does not matter; below silence is silence."""
    rng = torch.Generator().manual_seed(0)
    sound, other = 7 * torch.randn(2000, generator=rng), torch.rand(2000) - 0.5
    brought = scale_to_snr(sound, other, level)
    found = 10 * (other.square().sum() / brought.square().sum()).log10()
    assert float(found) == pytest.approx(level, abs=1e-3)
    assert float(torch.cosine_similarity(brought, sound, 0)) == pytest.approx(1)
    assert not scale_to_snr(sound, torch.zeros(2000), level).any()


def test_mixture_does_not_clip() -> None:
    """A mixture that would clip is turned down as a whole, another is not."""
    time = torch.arange(3200) / RATE
    first, second = (torch.sin(2 * torch.pi * f * time) for f in (500, 1100))
    loud = mix_at_snr(first, second, 0).sum(0)
    assert loud.abs().max() == pytest.approx(1)
    weak = mix_at_snr(0.1 * first, second, 0).sum(0)
    torch.testing.assert_close(weak, 0.1 * (first + second), atol=1e-3, rtol=0)


def test_mixture_with_silence() -> None:
    """Silence has no level: both come out as they are."""
    sound, silence = torch.rand(100) - 0.5, torch.zeros(100)
    for pair in ((sound, silence), (silence, sound), (silence, silence)):
        assert torch.equal(mix_at_snr(*pair, 3), torch.stack(pair))


@pytest.mark.parametrize("samples", [1, 7, 39, 40])
def test_loudest_stretch_is_a_search(samples: int) -> None:
    """No other stretch of this length has more energy."""
    wav = torch.randn(40, generator=torch.Generator().manual_seed(3))
    energies = [
        float(wav[i : i + samples].double().square().sum()) for i in range(41 - samples)
    ]
    best = int(np.argmax(energies))
    assert torch.equal(loudest_stretch(wav, samples), wav[best : best + samples])


@pytest.mark.parametrize("first_leads", [True, False])
def test_sequence(first_leads: bool) -> None:
    """Each sound has its fraction of the time, at the SNR given."""
    rng = torch.Generator().manual_seed(0)
    first, second = 0.01 * torch.randn(2, 1000, generator=rng)
    joined = concatenate(first, 3 * second, 0.4, 6.0, first_leads)
    assert joined.shape == (2, 1000)
    cut = 400 if first_leads else 600
    places = (slice(cut), slice(cut, None))
    own, other = places if first_leads else places[::-1]
    assert not joined[0, other].any()
    assert not joined[1, own].any()
    own, other = joined[0, own], joined[1, other]
    assert torch.equal(own, loudest_stretch(first, 400))
    level = 10 * (own.square().mean() / other.square().mean()).log10()
    assert float(level) == pytest.approx(6, abs=1e-3)
    cosine = torch.cosine_similarity(other, loudest_stretch(second, 600), dim=0)
    assert float(cosine) == pytest.approx(1, abs=1e-5)


def test_sequence_with_silence() -> None:
    """A silent sound stays silent, the other keeps its level."""
    sound, silence = torch.rand(100) - 0.5, torch.zeros(100)
    joined = concatenate(sound, silence, 0.5, 3.0, True).sum(0)
    assert torch.equal(joined[:50], loudest_stretch(sound, 50))
    assert not joined[50:].any()
    loud = concatenate(4 * sound, sound, 0.5, -20.0, True)
    assert loud.sum(0).abs().max() > 1
    assert limit_peak(loud).sum(0).abs().max() == 1


@given(
    size=st.integers(2, 60),
    fraction=st.floats(0.001, 0.999),
    snr_db=st.floats(-40, 40),
    first_leads=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_joining_keeps_length_and_sources_apart(
    size: int, fraction: float, snr_db: float, first_leads: bool, seed: int
) -> None:
    """A sequence is as long as its parts, never two at once; a mixture never clips."""
    first, second = torch.randn(2, size, generator=torch.Generator().manual_seed(seed))
    joined = concatenate(first, second, fraction, snr_db, first_leads)
    assert joined.shape == (2, size)
    assert not (joined[0] * joined[1]).any()
    assert joined[0].any() and joined[1].any()
    assert bool(joined[0, 0] != 0) == first_leads
    mixed = mix_at_snr(first, second, snr_db)
    assert mixed.sum(0).abs().max() <= 1.00001
    level = 20 * (rms(mixed[0]) / rms(mixed[1])).log10()
    assert float(level) == pytest.approx(snr_db, abs=1e-3)


def test_levels_of_waveforms() -> None:
    """Each waveform of a batch gets the RMS, and silence is never amplified."""
    wavs = torch.tensor([[3.0, -3.0], [0.1, 0.1], [0.0, 0.0], [1e-12, 1e-12]])
    assert rms(wavs).tolist() == pytest.approx([3.0, 0.1, 0.0, 1e-12])
    scaled = scale_to_rms(wavs, 0.5)
    assert scaled.flatten().tolist() == [0.5, -0.5, 0.5, 0.5, 0, 0, 0, 0]
    assert not scale_to_rms(wavs, 0.5, silence=0.2)[1].any()


def test_peak_is_that_of_the_sum() -> None:
    """Sources are scaled together; silence stays silent."""
    sources = torch.tensor([[0.1, 0.2], [0.3, -0.2]])
    scaled = scale_to_peak(sources, 0.8)
    torch.testing.assert_close(scaled, 2 * sources)
    assert not scale_to_peak(torch.zeros(2, 4)).any()
    torch.testing.assert_close(limit_peak(5 * sources), 2.5 * sources)
    assert torch.equal(limit_peak(sources), sources)
