"""RISE and occlusion: slow loops, closed forms, batch mates, and two known sounds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.perturbation import (
    GRID,
    masked_similarities,
    occlusion,
    occlusion_masks,
    rise,
    rise_map,
    rise_masks,
    segments,
)

SIZE = (64, 251)
CLIP = 76  # frames of the fixture's short clip
Attribution = Callable[[ExplainerInput], Tensor]
Slow = Callable[[ExplainerInput, int, Tensor], float]


def rng(seed: int = 1) -> torch.Generator:
    """Random generator of a test."""
    return torch.Generator().manual_seed(seed)


# --- masks of the input -------------------------------------------------------------


def test_similarities_under_masks_are_those_one_by_one(
    short_and_long: ExplainerInput, slow_similarity: Slow
) -> None:
    """In parts of any size, by masks that all clips share or by each clip's own."""
    masks = torch.rand(5, *SIZE, generator=rng())
    masks[1, :, 100:] = 0
    found = masked_similarities(short_and_long, itertools.repeat(masks))
    for row in range(3):
        slow = [slow_similarity(short_and_long, row, mask) for mask in masks]
        np.testing.assert_allclose(found[row], slow, atol=2e-5)
    own = [masks, masks.flip(0), masks]
    found_own = masked_similarities(short_and_long, own, at_once=2)
    torch.testing.assert_close(found_own[0], found[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found_own[1], found[1].flip(0), atol=1e-5, rtol=0)


def test_masks_of_a_short_clip_are_repeated_with_it(
    short_and_long: ExplainerInput,
) -> None:
    """What a mask is beyond the clip's own frames does not count."""
    masks = torch.rand(2, *SIZE, generator=rng())
    masks[1, :, :CLIP] = masks[0, :, :CLIP]
    found = masked_similarities(short_and_long, itertools.repeat(masks))
    assert float(found[2, 0] - found[2, 1]) == pytest.approx(0, abs=1e-6)
    assert abs(float(found[0, 0] - found[0, 1])) > 1e-3


def test_segments_are_the_rectangles_of_a_grid() -> None:
    """Numbered row by row, as equal as whole cells allow."""
    found = segments(SIZE)
    assert found.shape == SIZE
    assert found[:, 0].unique().tolist() == [16 * row for row in range(8)]
    assert found[0].unique().tolist() == list(range(16))
    sizes = torch.bincount(found.flatten())
    assert set(sizes.tolist()) == {8 * 15, 8 * 16}
    assert segments((2, 3), (1, 2)).tolist() == [[0, 0, 1], [0, 0, 1]]


# --- RISE ---------------------------------------------------------------------------


def interpolation(small: int, cell: int, size: int, shift: int) -> np.ndarray:
    """Weights [size, small] of linear interpolation to (small + 1) cells, cropped."""
    weights = np.zeros(((small + 1) * cell, small))
    for place in range(len(weights)):
        source = (place + 0.5) * small / len(weights) - 0.5
        low = int(np.floor(source))
        for index, weight in ((low, low + 1 - source), (low + 1, source - low)):
            weights[place, min(max(index, 0), small - 1)] += weight
    return weights[shift : shift + size]


def test_rise_masks_are_random_grids_interpolated_and_shifted() -> None:
    """Every mask is a grid of zeros and ones at one of the shifts of the paper."""
    masks = rise_masks(40, (6, 10), rng(), grid=(3, 5)).numpy()
    seen, ones = set(), []
    shifts = list(itertools.product(range(2), range(2)))
    for mask in masks:
        fits = []
        for shift in shifts:
            rows = interpolation(3, 2, 6, shift[0])
            columns = interpolation(5, 2, 10, shift[1])
            grid = np.linalg.pinv(rows) @ mask @ np.linalg.pinv(columns).T
            back = rows @ np.round(grid) @ columns.T
            fits.append(np.abs(back - mask).max() < 1e-5)
            if fits[-1]:
                seen.add(shift)
                ones.append(np.round(grid).mean())
        assert any(fits)
    assert seen == set(shifts)
    assert np.mean(ones) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("probability", [0.5, 0.3])
def test_rise_converges_for_a_linear_model(probability: float) -> None:
    """To (1 - p) times the weights, blurred by the interpolation and its shifts."""
    size, grid = (4, 9), (2, 3)
    weight = torch.randn(size, generator=rng(2), dtype=torch.float64)
    masks = rise_masks(60000, size, rng(), grid, probability).double()
    scores = 7 + (masks * weight).sum((1, 2))
    found = rise_map(masks, scores[None], probability)[0].numpy()
    expected = np.zeros(size)
    for top, left in itertools.product(range(2), range(3)):
        rows, columns = interpolation(2, 2, 4, top), interpolation(3, 3, 9, left)
        expected += rows @ (rows.T @ weight.numpy() @ columns) @ columns.T / 6
    np.testing.assert_allclose(found, (1 - probability) * expected, atol=0.03)


def test_rise_is_a_sum_of_masks(
    short_and_long: ExplainerInput, slow_similarity: Slow
) -> None:
    """Weighted by the similarities under them less their mean; repeated with clips."""
    found = rise(short_and_long, count=6)
    masks = rise_masks(6, SIZE, short_and_long.rng())
    for row in range(3):
        scores = [slow_similarity(short_and_long, row, mask) for mask in masks]
        total = torch.zeros(SIZE)
        for mask, score in zip(masks, scores, strict=True):
            total += (score - sum(scores) / 6) * mask / 6 / 0.5
        end = CLIP if row == 2 else SIZE[1]
        np.testing.assert_allclose(found[row, :, :end], total[:, :end], atol=2e-5)
    torch.testing.assert_close(found[2, :, 76:150], found[2, :, 1:75])


def test_seed_decides_the_masks(short_and_long: ExplainerInput) -> None:
    """The same seed gives the same map, another one another; no other draw changes."""
    state = torch.random.get_rng_state()
    found = rise(short_and_long, count=4)
    assert torch.equal(rise(short_and_long, count=4), found)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(rise(replace(short_and_long, seed=4), count=4), found)


# --- occlusion ----------------------------------------------------------------------


def test_occlusion_is_a_drop(
    short_and_long: ExplainerInput, slow_similarity: Slow
) -> None:
    """Similarity less that without each rectangle; zero beyond a short clip."""
    found = occlusion(short_and_long, grid=(2, 4))
    assert found.shape == (3, 2, 4)
    for row in range(3):
        whole = slow_similarity(short_and_long, row, torch.ones(SIZE))
        for f, t in itertools.product(range(2), range(4)):
            mask = torch.ones(SIZE)
            frames = range(t * 251 // 4 + (t > 0), (t + 1) * 251 // 4 + 1)
            for column in frames:
                mask[32 * f : 32 * f + 32, min(column, 250)] = 0
            drop = whole - slow_similarity(short_and_long, row, mask)
            assert float(found[row, f, t]) == pytest.approx(drop, abs=3e-5)
    assert found[2, :, 2:].abs().max() < 1e-6
    assert found[2, :, :2].abs().min() > 1e-4


def test_occlusion_is_exact_for_an_additive_model() -> None:
    """Each mask leaves out one rectangle: the drop is the sum of what lies in it."""
    parts = torch.randn(6, 10, generator=rng(), dtype=torch.float64)
    masks = occlusion_masks((6, 10), (3, 5)).double()
    drops = parts.sum() - (masks * parts).sum((1, 2))
    slow = parts.reshape(3, 2, 5, 2).sum((1, 3))
    torch.testing.assert_close(drops.reshape(3, 5), slow)


# --- both ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [partial(rise, count=8), partial(occlusion, grid=(2, 4))]
)
def test_no_clip_depends_on_another(
    short_and_long: ExplainerInput, method: Attribution
) -> None:
    """A clip alone has the map that it has in a batch, to the bit."""
    found = method(short_and_long)
    for row in (1, 2):
        alone = short_and_long.with_prompts(row, short_and_long.text[row : row + 1])
        assert torch.equal(method(alone)[0], found[row])


@pytest.mark.parametrize("method", [rise, occlusion])
def test_map_lies_on_the_sound_of_its_prompt(
    one_after_the_other: ExplainerInput, method: Attribution
) -> None:
    """More than 0.6 of it on the first half for the first sound, below 0.4 else."""
    found = method(one_after_the_other).relu()
    half = found.shape[-1] // 2
    first, second = (found[..., :half].sum((1, 2)) / found.sum((1, 2))).tolist()
    assert first > 0.6
    assert second < 0.4


def test_grid_is_the_same_for_both() -> None:
    """8 segments in frequency, 16 in time."""
    assert GRID == (8, 16)
    assert occlusion_masks(SIZE).shape == (128, *SIZE)
