"""Random clips, prompts and masks for the tests of the objectives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lmaczs.objectives.guidance import LogMagnitude
from lmaczs.objectives.source_power import SourcePower, relative_power
from lmaczs.objectives.terms import MaskedPairs

BATCH, PROMPTS, DIM, CLASSES, FREQ, TIME = 5, 3, 8, 4, 6, 7


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    """Function that draws normal values of a fixed seed."""

    def normal(*shape: int, seed: int = 0) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

    return normal


@pytest.fixture
def unit(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Function that draws unit vectors of a fixed seed."""

    def vectors(*shape: int, seed: int = 0) -> Tensor:
        return nn.functional.normalize(draw(*shape, seed=seed), dim=-1)

    return vectors


@pytest.fixture
def pairs(draw: Callable[..., Tensor], unit: Callable[..., Tensor]) -> MaskedPairs:
    """Five clips with three prompts each; the first is present, others now and then."""
    present = draw(BATCH, PROMPTS, seed=9) > 0.3
    present[:, 0] = True
    cells = BATCH, PROMPTS, FREQ, TIME
    sources = (draw(*cells, seed=seed).square() / 1000 for seed in (8, 7))
    clean, added = (draw(BATCH, FREQ, TIME, seed=seed).abs() for seed in (10, 11))
    return MaskedPairs(
        text=unit(BATCH, PROMPTS, DIM, seed=1),
        present=present,
        masks=draw(*cells, seed=2).sigmoid(),
        power=relative_power(draw(BATCH, FREQ, TIME, seed=9).square()),
        presence=draw(BATCH, PROMPTS, seed=12).sigmoid(),
        sources=SourcePower(*sources),
        magnitude=LogMagnitude(clip=(clean + added).log1p(), clean=clean.log1p()),
        embedding=unit(BATCH, DIM, seed=3),
        masked_in=unit(BATCH, PROMPTS, DIM, seed=4),
        masked_out=unit(BATCH, DIM, seed=5),
        classes=unit(CLASSES, DIM, seed=6),
        logit_scale=10.0,
    )
