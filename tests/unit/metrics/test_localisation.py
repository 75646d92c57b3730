"""Each metric against a slow loop over its definition, and at its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from speechbrain.nnet.losses import cal_si_snr
from torch import Tensor

from lmaczs.metrics.localisation import (
    LOCALISATION,
    mass_in_region,
    mass_on_source,
    pointing_game,
    si_sdr,
    si_sdr_improvement,
    temporal_iou,
)

BATCH, FREQ, TIME, SAMPLES = 12, 5, 9, 700
KEEP_ALL, NOTHING = torch.ones(1, FREQ, TIME), torch.zeros(1, FREQ, TIME)
EVERYWHERE, NOWHERE = torch.ones(1, TIME), torch.zeros(1, TIME)


def generator(seed: int) -> torch.Generator:
    """Make a random generator of a fixed seed."""
    return torch.Generator().manual_seed(seed)


def noise(seed: int) -> Tensor:
    """Make a batch of white noise around 0.2."""
    return torch.randn(BATCH, SAMPLES, generator=generator(seed)) + 0.2


def masks(seed: int = 0) -> Tensor:
    """Make masks of different mean, each with cells that are exactly 0."""
    cells = torch.rand(BATCH, FREQ, TIME, generator=generator(seed))
    powers = torch.arange(1, BATCH + 1)[:, None, None]
    return torch.where(cells < 0.1, 0.0, cells**powers)


def powers() -> Tensor:
    """Make power spectrograms over six decades."""
    return 10 ** (6 * torch.rand(BATCH, FREQ, TIME, generator=generator(7)) - 3)


def regions() -> Tensor:
    """Make 0 or 1 for each frame."""
    return (torch.rand(BATCH, TIME, generator=generator(8)) < 0.4).float()


def slow_mass_in_region(
    mask: np.ndarray, power: np.ndarray, inside: np.ndarray
) -> float:
    """Add up cells, those of the source apart."""
    own = whole = 0.0
    for f in range(FREQ):
        for t in range(TIME):
            cell = float(mask[f, t]) * float(power[f, t])
            whole += cell
            own += cell * float(inside[t])
    return own / whole


def slow_pointing_game(
    mask: np.ndarray, power: np.ndarray, inside: np.ndarray
) -> float:
    """Look for the loudest frame."""
    kept = [sum(mask[f, t] * power[f, t] for f in range(FREQ)) for t in range(TIME)]
    return float(inside[kept.index(max(kept))] == 1)


def slow_iou(mask: np.ndarray, inside: np.ndarray, share: float) -> float:
    """Compare two sets of frames."""
    level = [sum(mask[f, t] for f in range(FREQ)) / FREQ for t in range(TIME)]
    kept = {t for t in range(TIME) if level[t] > share * max(level)}
    real = {t for t in range(TIME) if inside[t] == 1}
    return len(kept & real) / len(kept | real)


def slow_si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Compute SI-SDR from its definition in float64."""
    estimate, reference = estimate - estimate.mean(), reference - reference.mean()
    target = (estimate @ reference) / (reference @ reference) * reference
    distortion = estimate - target
    return 10 * math.log10((target @ target) / (distortion @ distortion))


# --- waveforms ----------------------------------------------------------------------


def test_si_sdr_equals_the_definition() -> None:
    """Projection on the true source, means removed, in dB."""
    estimate, reference = noise(1) + noise(0), noise(0)
    expected = [
        slow_si_sdr(e, r)
        for e, r in zip(
            estimate.double().numpy(), reference.double().numpy(), strict=True
        )
    ]
    found = si_sdr(estimate, reference).tolist()
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("gain", [1e-4, -1.0, 30.0])
def test_si_sdr_ignores_scale_and_offset(gain: float) -> None:
    """Neither the estimate's level nor a constant in it counts."""
    estimate, reference = noise(1) + noise(0), noise(0)
    torch.testing.assert_close(
        si_sdr(gain * estimate + 2 * gain, reference),
        si_sdr(estimate, reference),
        rtol=0,
        atol=1e-3,
    )


def test_si_sdr_is_bounded() -> None:
    """A perfect estimate has 60 dB; silence on either side has -60 dB."""
    wavs, silence = noise(0), torch.zeros(BATCH, SAMPLES)
    assert si_sdr(wavs, wavs).tolist() == [60.0] * BATCH
    for pair in ((silence, wavs), (wavs, silence), (silence, silence)):
        assert si_sdr(*pair).tolist() == [-60.0] * BATCH


def test_si_sdr_of_unrelated_sounds_is_its_floor() -> None:
    """Two tones without overlap have nothing in common."""
    time = torch.arange(SAMPLES) / SAMPLES
    tones = [torch.sin(2 * torch.pi * cycles * time)[None] for cycles in (5, 40)]
    assert si_sdr(*tones).item() == pytest.approx(-60.0, abs=1e-3)


def test_improvement_is_the_gain_over_the_mixture() -> None:
    """Keeping everything gains 0 dB; removing half of the other's amplitude 6 dB."""
    source, other = noise(0), noise(1)
    other = other - other.mean(1, keepdim=True)
    centred = source - source.mean(1, keepdim=True)
    other -= (other * centred).sum(1, True) / centred.square().sum(1, True) * centred
    mixture = source + other
    assert not si_sdr_improvement(mixture, mixture, source).any()
    better = si_sdr_improvement(source + 0.5 * other, mixture, source)
    assert better.tolist() == pytest.approx([20 * math.log10(2)] * BATCH, abs=1e-3)


def test_waveforms_of_different_length_are_refused() -> None:
    """An explanation is as long as its source."""
    with pytest.raises(ValueError, match="shapes"):
        si_sdr(noise(0)[:, 1:], noise(0))


def test_si_sdr_equals_speechbrains() -> None:
    """Speechbrain's loss is its negative, of [samples, B, sources]."""
    estimate, reference = noise(1) + noise(0), noise(0)
    loss = cal_si_snr(reference.T[..., None], estimate.T[..., None])
    expected = -loss.flatten()
    torch.testing.assert_close(si_sdr(estimate, reference), expected, rtol=0, atol=1e-3)


def test_improvement_with_silence() -> None:
    """Nothing is gained where the source is silent; a silent estimate loses."""
    wavs, nothing = noise(0), torch.zeros(BATCH, SAMPLES)
    assert si_sdr_improvement(noise(1), wavs, nothing).tolist() == [0.0] * BATCH
    lost = si_sdr_improvement(nothing, wavs + noise(1), wavs)
    torch.testing.assert_close(lost, -60 - si_sdr(wavs + noise(1), wavs))


# --- spectrograms -------------------------------------------------------------------


def test_mass_on_source_equals_the_definition() -> None:
    """The share is a ratio of sums over cells."""
    target, other = masks(1), masks(2)
    found = mass_on_source(masks(), target, other)
    for m, t, o, value in zip(masks(), target, other, found, strict=True):
        cells = list(zip(*(x.flatten().tolist() for x in (m, t, o)), strict=True))
        on_target = sum(a * b for a, b, _ in cells)
        assert value.item() == pytest.approx(
            on_target / sum(a * (b + c) for a, b, c in cells), abs=1e-6
        )


def test_mass_on_source_at_its_ends() -> None:
    """The ideal mask has 1, its complement 0, and an empty mask or silence 0."""
    target = NOTHING.clone()
    target[:, :3] = 2.0
    other = 2.0 - target
    ideal = (target > 0).float()
    assert mass_on_source(ideal, target, other).item() == 1.0
    assert mass_on_source(1 - ideal, target, other).item() == 0.0
    assert mass_on_source(NOTHING, target, other).item() == 0.0
    assert mass_on_source(KEEP_ALL, NOTHING, NOTHING).item() == 0.0


def test_regions_of_another_length_are_refused() -> None:
    """A region has the mask's frames."""
    with pytest.raises(ValueError, match="shapes"):
        mass_in_region(KEEP_ALL, KEEP_ALL, torch.ones(1, TIME + 1).bool())


def test_mass_in_region_equals_the_definition() -> None:
    """Masked power in the source's frames, by all masked power."""
    inside = regions()
    found = mass_in_region(masks(), powers(), inside.bool()).tolist()
    rows = zip(masks().numpy(), powers().numpy(), inside.numpy(), strict=True)
    expected = [slow_mass_in_region(*row) for row in rows]
    assert found == pytest.approx(expected, abs=1e-5)
    assert 0 < min(expected) < max(expected) < 1


def test_pointing_game_equals_the_definition() -> None:
    """The loudest masked frame is the source's, or not."""
    rows = zip(masks().numpy(), powers().numpy(), regions().numpy(), strict=True)
    expected = [slow_pointing_game(*row) for row in rows]
    assert pointing_game(masks(), powers(), regions()).tolist() == expected
    assert set(expected) == {0.0, 1.0}


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9])
def test_temporal_iou_equals_the_definition(fraction: float) -> None:
    """Common frames by all frames that the mask or the source has."""
    rows = zip(masks().numpy(), regions().numpy(), strict=True)
    expected = [slow_iou(*row, fraction) for row in rows]
    found = temporal_iou(masks(), regions(), fraction).tolist()
    assert found == pytest.approx(expected, abs=1e-6)
    assert len(set(expected)) > 2


@pytest.mark.parametrize("gain", [1e-6, 0.5, 1e3])
def test_levels_do_not_count(gain: float) -> None:
    """Neither the mask's scale nor the recording's level changes a value."""
    mask, power, inside = masks(), powers(), regions()
    for changed in ((gain * mask, power), (mask, gain * power)):
        for metric in (mass_in_region, pointing_game):
            expected = metric(mask, power, inside.bool())
            torch.testing.assert_close(metric(*changed, inside.bool()), expected)
    assert torch.equal(temporal_iou(gain * mask, inside), temporal_iou(mask, inside))


def test_ends_of_the_scale() -> None:
    """Everything within the source's frames has 1, everything outside them 0."""
    inside = NOWHERE.clone()
    inside[:, 2:5] = 1
    ideal = inside[:, None].expand(-1, FREQ, -1)
    for mask, value in ((ideal, 1.0), (0.3 * ideal, 1.0), (1 - ideal, 0.0)):
        assert mass_in_region(mask, KEEP_ALL, inside.bool()).item() == value
        assert pointing_game(mask, KEEP_ALL, inside).item() == value
        assert temporal_iou(mask, inside).item() == value
    assert temporal_iou(KEEP_ALL, inside).item() == pytest.approx(3 / TIME)


@pytest.mark.parametrize("inside", [EVERYWHERE, NOWHERE])
@pytest.mark.parametrize(("mask", "power"), [(NOTHING, KEEP_ALL), (KEEP_ALL, NOTHING)])
def test_what_keeps_nothing_finds_nothing(
    mask: Tensor, power: Tensor, inside: Tensor
) -> None:
    """An empty mask, or one on silence, has 0, and NaN never."""
    assert mass_in_region(mask, power, inside.bool()).item() == 0.0
    assert pointing_game(mask, power, inside).item() == 0.0
    assert temporal_iou(mask * power, inside).item() == 0.0


def test_a_source_that_is_nowhere() -> None:
    """Nothing of a mask lies on it."""
    assert mass_in_region(KEEP_ALL, KEEP_ALL, NOWHERE.bool()).item() == 0.0
    assert pointing_game(KEEP_ALL, KEEP_ALL, NOWHERE).item() == 0.0
    assert temporal_iou(KEEP_ALL, NOWHERE).item() == 0.0


def test_one_by_one_equals_the_batch() -> None:
    """A sample's values do not depend on who else is in the batch."""
    mask, power, inside = masks(), powers(), regions()
    mask[3], power[5], inside[7] = 0, 0, 0
    whole = (
        mass_in_region(mask, power, inside.bool()),
        pointing_game(mask, power, inside),
        temporal_iou(mask, inside),
    )
    assert all(torch.isfinite(values).all() for values in whole)
    for i in range(BATCH):
        m, p, frames = mask[i : i + 1], power[i : i + 1], inside[i : i + 1]
        alone = (
            mass_in_region(m, p, frames.bool()),
            pointing_game(m, p, frames),
            temporal_iou(m, frames),
        )
        for one, values in zip(alone, whole, strict=True):
            torch.testing.assert_close(one, values[i : i + 1])


def test_metrics_of_an_arrangement() -> None:
    """Time is scored in sequences alone, waveforms in sums alone; more is better."""
    names = {kind: list(metrics) for kind, metrics in LOCALISATION.items()}
    assert names == {
        "sequence": ["mass_on_source", "pointing_game", "temporal_iou"],
        "sum": ["mass_on_source", "si_sdr_improvement"],
    }
    every = [m for metrics in LOCALISATION.values() for m in metrics.values()]
    assert {metric.better for metric in every} == {"higher"}
