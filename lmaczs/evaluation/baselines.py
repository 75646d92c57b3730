"""Masks that do not depend on the model: everything, random, or the loudest cells.

Random masks and the loudest cells keep as much of each clip as the reference masks,
which are those of the first decoder of a comparison.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.top_cells import top_cells


def keep_all(batch: ExplainerInput) -> Tensor:
    """Keep everything: the upper end of the scale, not an explanation."""
    return torch.ones_like(batch.like)


def random_bins(batch: ExplainerInput) -> Tensor:
    """The reference masks with their cells in random order."""
    return shuffle_bins(batch.like, batch.clip_rngs())


def random_patches(batch: ExplainerInput) -> Tensor:
    """The reference masks with their rectangles in random order."""
    return shuffle_patches(batch.like, batch.clip_rngs())


def energy(batch: ExplainerInput) -> Tensor:
    """Keep the loudest cells, as many as make the mean of the reference masks."""
    return loudest_cells(batch.cells, batch.like)


def shuffle_bins(masks: Tensor, rngs: Sequence[Generator]) -> Tensor:
    """Shuffle the cells of each mask [B, F, T] with the clip's generator."""
    flat = masks.flatten(1)
    order = _random_orders(flat.shape[1], rngs).to(flat.device)
    return flat.gather(1, order).reshape(masks.shape)


def _random_orders(cells: int, rngs: Sequence[Generator]) -> Tensor:
    """A random permutation of the numbers of cells for each clip: [B, cells]."""
    return torch.stack([torch.randperm(cells, generator=rng) for rng in rngs])


def shuffle_patches(
    masks: Tensor, rngs: Sequence[Generator], patches: int = 32
) -> Tensor:
    """Shuffle the rectangles of each mask [B, F, T], `patches` along each axis.

    Cell by cell, a random mask averages out within a mel band and amounts to a gain;
    rectangles as large as those of a decoder's masks do not. Rows and columns that do
    not fill a rectangle stay.
    """
    batch, freqs, frames = masks.shape
    height, width = freqs // patches, frames // patches
    inner = masks[:, : height * patches, : width * patches]
    tiles = inner.reshape(batch, patches, height, patches, width).transpose(2, 3)
    tiles = tiles.reshape(batch, patches**2, height, width)
    order = _random_orders(patches**2, rngs).to(masks.device)
    tiles = tiles.gather(1, order[:, :, None, None].expand_as(tiles))
    tiles = tiles.reshape(batch, patches, patches, height, width).transpose(2, 3)
    shuffled = masks.clone()
    shuffled[:, : height * patches, : width * patches] = tiles.reshape(inner.shape)
    return shuffled


def loudest_cells(power: Tensor, masks: Tensor) -> Tensor:
    """1 for the loudest cells of `power` [B, F, T], as many as make a mask's mean."""
    return top_cells(power, cells_kept(masks)[:, None], power)[:, 0]


def cells_kept(masks: Tensor) -> Tensor:
    """Number of cells, int64 [B], that make the mean of each mask [B, F, T]."""
    return masks.double().sum((1, 2)).round().long()
