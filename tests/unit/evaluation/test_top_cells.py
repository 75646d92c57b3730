"""The first cells of a map against a sort of the cells."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lmaczs.evaluation.top_cells import top_cells

COUNTS = torch.tensor([0, 1, 8, 28, 39, 76, 77])


def draw(*shape: int, levels: int = 0, seed: int = 0) -> Tensor:
    """Random values in [0, 1), quantised to `levels` if given."""
    values = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return (values * levels).floor() / levels if levels else values


def slow_top(values: Tensor, power: Tensor, count: int) -> Tensor:
    """Sort cells of one clip: by value, then by power, then by place."""
    first, second = values.flatten().tolist(), power.flatten().tolist()
    order = sorted(range(len(first)), key=lambda i: (-first[i], -second[i], i))
    kept = [0.0] * len(first)
    for cell in order[:count]:
        kept[cell] = 1.0
    return torch.tensor(kept).reshape(values.shape)


@pytest.mark.parametrize(("levels", "power_levels"), [(0, 0), (3, 0), (1, 4)])
def test_top_cells_is_a_sort(levels: int, power_levels: int) -> None:
    """The map decides, between equal cells the louder, between those the first."""
    values = draw(3, 7, 11, levels=levels) - 0.5
    power = draw(3, 7, 11, levels=power_levels, seed=1)
    kept = top_cells(values, COUNTS.expand(3, -1), power)
    assert kept.shape == (3, len(COUNTS), 7, 11)
    assert kept.dtype == torch.float32
    for row in range(3):
        for mask, count in zip(kept[row], COUNTS.tolist(), strict=True):
            assert torch.equal(mask, slow_top(values[row], power[row], count))


def test_every_clip_has_its_own_number() -> None:
    """Whatever the maps are, as many cells are kept as were wanted."""
    values = torch.stack([torch.zeros(5, 8), torch.ones(5, 8), draw(5, 8)])
    counts = torch.tensor([[10, 0], [3, 40], [7, 7]])
    kept = top_cells(values, counts, draw(3, 5, 8, seed=1))
    assert torch.equal(kept.sum((2, 3)).long(), counts)
