"""KernelSHAP: the kernel, additive games, exact Shapley values, and known sounds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.kernel_shap import (
    draw_coalitions,
    kernel_shap,
    shapley_values,
)
from lmaczs.evaluation.perturbation import segments

SIZE = (64, 251)
Slow = Callable[[ExplainerInput, int, Tensor], float]


def rng(seed: int = 1) -> torch.Generator:
    """Random generator of a test."""
    return torch.Generator().manual_seed(seed)


def coalitions_of(players: int, count: int) -> Tensor:
    """The empty one, that of all, and random ones."""
    bounds = torch.tensor([[0.0], [1.0]]).expand(2, players)
    return torch.cat([bounds, draw_coalitions(count, players, rng())])


def test_coalitions_are_drawn_by_the_shapley_kernel() -> None:
    """Sizes as the kernel weighs all coalitions of a size; no player is preferred."""
    drawn = draw_coalitions(20000, 6, rng())
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    kernel = [
        math.comb(6, k) * 5 / (math.comb(6, k) * k * (6 - k)) if 0 < k < 6 else 0
        for k in range(7)
    ]
    sizes = torch.bincount(drawn.sum(1).long(), minlength=7) / 20000
    np.testing.assert_allclose(sizes, np.array(kernel) / sum(kernel), atol=0.015)
    np.testing.assert_allclose(drawn.mean(0), 0.5, atol=0.015)


def test_additive_game_is_solved_exactly() -> None:
    """The value of each player, whatever the coalitions are, if they suffice."""
    parts = torch.randn(2, 128, generator=rng(2), dtype=torch.float64)
    coalitions = coalitions_of(128, 400).double()
    found = shapley_values(coalitions, 3 + parts @ coalitions.T)
    torch.testing.assert_close(found, parts)


@pytest.mark.parametrize("count", [3, 40, 400])
def test_values_sum_to_what_all_gain(count: int) -> None:
    """f(x) - f(0), for any game and for too few coalitions, too."""
    coalitions = coalitions_of(128, count).double()
    values = torch.randn(2, count + 2, generator=rng(3), dtype=torch.float64)
    found = shapley_values(coalitions, values)
    torch.testing.assert_close(found.sum(1), values[:, 1] - values[:, 0])


def test_players_that_nothing_tells_apart_are_equal() -> None:
    """With one coalition known, its members share its gain, the others the rest."""
    coalitions = coalitions_of(8, 1)
    found = shapley_values(coalitions, torch.tensor([[1.0, 5.0, 2.0]]))[0]
    for side in (0, 1):
        same = found[coalitions[2] == side]
        torch.testing.assert_close(same, same[:1].expand_as(same))
    torch.testing.assert_close((found * coalitions[2]).sum(), torch.tensor(1.0))


def test_all_coalitions_give_the_exact_shapley_values() -> None:
    """Of a game that is not additive: the mean gain over all orders of the players."""
    players = 4
    worth = torch.randn(2**players, generator=rng(4), dtype=torch.float64)

    def index(members: Iterable[int]) -> int:
        return sum(2**member for member in members)

    exact = np.zeros(players)
    orders = list(itertools.permutations(range(players)))
    for order in orders:
        for place, player in enumerate(order):
            gain = worth[index(order[: place + 1])] - worth[index(order[:place])]
            exact[player] += float(gain) / len(orders)
    members = [(), tuple(range(players))]
    for size, times in ((1, 2), (2, 1), (3, 2)):  # the kernel: 1/12, 1/24, 1/12
        members += [*itertools.combinations(range(players), size)] * times
    coalitions = torch.zeros(len(members), players, dtype=torch.float64)
    for row, some in zip(coalitions, members, strict=True):
        row[list(some)] = 1
    values = worth[[index(some) for some in members]]
    found = shapley_values(coalitions, values[None])[0]
    np.testing.assert_allclose(found, exact, atol=1e-6)


def test_kernel_shap_is_a_regression_on_masked_clips(
    short_and_long: ExplainerInput, slow_similarity: Slow
) -> None:
    """With the last player eliminated, on inputs whose other segments are silent."""
    found = kernel_shap(short_and_long, count=14, grid=(2, 2))
    assert found.shape == (3, 2, 2)
    drawn, number = draw_coalitions(12, 4, short_and_long.rng()), segments(SIZE, (2, 2))
    for row in range(3):
        silence = slow_similarity(short_and_long, row, torch.zeros(SIZE))
        whole = slow_similarity(short_and_long, row, torch.ones(SIZE)) - silence
        left = []
        for coalition in drawn:
            mask = coalition[number]
            gained = slow_similarity(short_and_long, row, mask) - silence
            left.append(gained - float(coalition[3]) * whole)
        design = (drawn[:, :3] - drawn[:, 3:]).numpy()
        first = np.linalg.lstsq(design, np.array(left), rcond=None)[0]
        slow = [*first, whole - first.sum()]
        np.testing.assert_allclose(found[row].flatten(), slow, atol=1e-4)


def test_seed_decides_and_no_clip_depends_on_another(
    short_and_long: ExplainerInput,
) -> None:
    """The same seed gives the same values, to the bit, alone and in a batch."""
    method = partial(kernel_shap, count=20, grid=(2, 4))
    found = method(short_and_long)
    assert torch.equal(method(short_and_long), found)
    assert not torch.equal(method(replace(short_and_long, seed=4)), found)
    for row in (1, 2):
        alone = short_and_long.with_prompts(row, short_and_long.text[row : row + 1])
        torch.testing.assert_close(method(alone)[0], found[row], atol=1e-6, rtol=0)


def test_values_lie_on_the_sound_of_the_prompt(
    one_after_the_other: ExplainerInput,
) -> None:
    """Their sum over the first half is larger for the first sound's prompt."""
    found = kernel_shap(one_after_the_other).relu()
    half = found.shape[-1] // 2
    first, second = (found[..., :half].sum((1, 2)) / found.sum((1, 2))).tolist()
    assert first > 0.55
    assert second < 0.45
