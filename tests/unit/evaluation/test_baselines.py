"""Masks that know nothing of the model: what they keep of a given mask."""

from __future__ import annotations

import pytest
import torch

from lmaczs.evaluation.baselines import loudest_cells, shuffle_bins, shuffle_patches

MASK = torch.rand(3, 65, 70, generator=torch.Generator().manual_seed(0))


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _rngs(clips: int = 3) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(clip) for clip in range(clips)]


def test_shuffles_keep_each_clips_values() -> None:
    """Histogram, and so the mean, of each clip's mask stay."""
    for shuffle in (shuffle_bins, shuffle_patches):
        shuffled = shuffle(MASK, _rngs())
        assert shuffled.shape == MASK.shape
        assert not torch.equal(shuffled, MASK)
        for before, after in zip(MASK, shuffled, strict=True):
            assert torch.equal(before.flatten().sort()[0], after.flatten().sort()[0])


def test_shuffles_repeat_under_one_seed() -> None:
    """The same random generator gives the same mask."""
    for shuffle in (shuffle_bins, shuffle_patches):
        assert torch.equal(shuffle(MASK, _rngs()), shuffle(MASK, _rngs()))


def test_a_clip_is_shuffled_by_its_own_generator() -> None:
    """Alone it gets what it gets beside others."""
    for shuffle in (shuffle_bins, shuffle_patches):
        both = shuffle(MASK, _rngs())
        assert torch.equal(shuffle(MASK[2:], _rngs()[2:]), both[2:])


def test_shuffle_patches_moves_whole_rectangles() -> None:
    """A mask that is constant in each rectangle still is so afterwards."""
    values = torch.rand(1, 8, 8, generator=_rng())
    mask = values.repeat_interleave(4, 1).repeat_interleave(3, 2)
    shuffled = shuffle_patches(mask, _rngs(1), patches=8)
    tiles = shuffled.reshape(1, 8, 4, 8, 3)
    assert torch.equal(tiles, tiles[:, :, :1, :, :1].expand_as(tiles))
    assert torch.equal(
        tiles[:, :, 0, :, 0].flatten().sort()[0], values.flatten().sort()[0]
    )


def test_loudest_cells_is_a_sort() -> None:
    """The loudest cells of each clip are kept, as many as make the same mean."""
    power = torch.rand(3, 65, 70, generator=_rng())
    kept = loudest_cells(power, MASK)
    for one, own, given in zip(power, kept, MASK, strict=True):
        count = round(float(given.mean()) * given.numel())
        cells = sorted(one.flatten().tolist(), reverse=True)
        assert int(own.sum()) == count
        assert float(one[own == 1].min()) == pytest.approx(cells[count - 1])
