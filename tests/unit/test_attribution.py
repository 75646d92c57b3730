"""Masks that LMAC-ZS is compared with."""

from __future__ import annotations

import torch

from lmaczs.attribution import keep_all, shuffled_bins, shuffled_patches

MASK = torch.rand(3, 65, 70, generator=torch.Generator().manual_seed(0))


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_keep_all_leaves_a_spectrogram_as_it_is() -> None:
    """Multiplying by it changes nothing."""
    assert torch.equal(keep_all(MASK) * MASK, MASK)


def test_shuffles_keep_each_clips_values() -> None:
    """Histogram, and so the mean, of each clip's mask stay."""
    for shuffle in (shuffled_bins, shuffled_patches):
        shuffled = shuffle(MASK, _rng())
        assert shuffled.shape == MASK.shape
        assert not torch.equal(shuffled, MASK)
        for before, after in zip(MASK, shuffled, strict=True):
            assert torch.equal(before.flatten().sort()[0], after.flatten().sort()[0])


def test_shuffles_repeat_under_one_seed() -> None:
    """The same source of chance gives the same mask."""
    for shuffle in (shuffled_bins, shuffled_patches):
        assert torch.equal(shuffle(MASK, _rng()), shuffle(MASK, _rng()))


def test_shuffled_patches_moves_whole_rectangles() -> None:
    """A mask that is constant in each rectangle still is so afterwards."""
    values = torch.rand(1, 8, 8, generator=_rng())
    mask = values.repeat_interleave(4, 1).repeat_interleave(3, 2)
    shuffled = shuffled_patches(mask, _rng(), patches=8)
    tiles = shuffled.reshape(1, 8, 4, 8, 3)
    assert torch.equal(tiles, tiles[:, :, :1, :, :1].expand_as(tiles))
    assert torch.equal(
        tiles[:, :, 0, :, 0].flatten().sort()[0], values.flatten().sort()[0]
    )
