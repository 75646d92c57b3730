"""Where sources lie on the masks' grid, against divisions and waveforms taken apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.frontend import DOMAINS, Domain, cell_power
from lmaczs.objectives.source_power import (
    power_fractions,
    relative_power,
    source_power,
)


def test_relative_power_is_a_division(draw: Callable[..., Tensor]) -> None:
    """Of each clip by its own sum; silence stays 0."""
    power = draw(3, 6, 7).square()
    power[1] = 0
    fractions = relative_power(power)
    for row in (0, 2):
        whole = sum(power[row].flatten().tolist())
        torch.testing.assert_close(fractions[row], power[row] / whole)
    assert not fractions[1].any()


def test_power_fractions_are_a_loop_over_prompts(draw: Callable[..., Tensor]) -> None:
    """Of the sum of both; no target where it is alone, 0 in silence."""
    target, rest = (draw(4, 2, 6, 7, seed=seed).square() for seed in (11, 12))
    rest[1], target[2], rest[3], target[3] = 0, 0, 0, 0
    found = power_fractions(target, rest)
    for row in range(4):
        for i in range(2):
            whole = float(target[row, i].sum() + rest[row, i].sum())
            own = target[row, i] / whole if rest[row, i].any() else torch.zeros(6, 7)
            other = rest[row, i] / whole if whole else torch.zeros(6, 7)
            torch.testing.assert_close(found.target[row, i], own)
            torch.testing.assert_close(found.interference[row, i], other)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("prompts", [1, 2, 3])
def test_rest_of_a_clip_is_the_clip_without_the_source(
    tiny_clap: FrozenClap, draw: Callable[..., Tensor], domain: Domain, prompts: int
) -> None:
    """As if the rest had an STFT of its own; 0 beyond the second prompt."""
    front_end = tiny_clap.front_end
    sources = 0.1 * draw(3, 2, front_end.max_samples)
    noise = 0.01 * draw(3, front_end.max_samples, seed=1)
    sources[1, 1], noise[1] = 0, 0  # a clip that is one source alone
    wav = sources.sum(1) + noise
    spectrum = front_end.stft(wav)
    found = source_power(front_end, wav, spectrum, sources, prompts, domain)
    sources = sources[:, :prompts]
    rest = front_end.stft(wav[:, None] - sources)
    powers = [cell_power(front_end, x, domain) for x in (front_end.stft(sources), rest)]
    expected = power_fractions(*powers)
    known = min(prompts, 2)
    for actual, slow in zip(found, expected, strict=True):
        assert actual.shape[1] == prompts
        close = {"atol": 1e-5 * float(slow.max()), "rtol": 1e-3}
        torch.testing.assert_close(actual[:, :known], slow, **close)
        assert not actual[:, 2:].any()
    assert not found.target[1, 0].any()
    assert not found.interference[1, 0].any()
