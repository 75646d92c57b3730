"""Masks that do not depend on the model: everything, random, or the loudest cells.

Random masks and the loudest cells keep as much of each clip as the reference masks,
which are those of the first decoder of a comparison.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lmaczs.evaluation.explainer import ExplainerInput


def keep_all(batch: ExplainerInput) -> Tensor:
    """Keep everything: the upper end of the scale, not an explanation."""
    return torch.ones_like(batch.like)


def random_bins(batch: ExplainerInput) -> Tensor:
    """The reference masks with their cells in random order."""
    return shuffle_bins(batch.like, batch.rng())


def random_patches(batch: ExplainerInput) -> Tensor:
    """The reference masks with their rectangles in random order."""
    return shuffle_patches(batch.like, batch.rng())


def energy(batch: ExplainerInput) -> Tensor:
    """Keep the loudest cells, as many as make the mean of the reference masks."""
    return loudest_cells(batch.cells, batch.like)


def shuffle_bins(masks: Tensor, rng: Generator) -> Tensor:
    """Shuffle the cells of each mask [B, F, T] separately."""
    flat = masks.flatten(1)
    order = torch.rand(flat.shape, generator=rng).argsort(1)
    return flat.gather(1, order.to(flat.device)).reshape(masks.shape)


def shuffle_patches(masks: Tensor, rng: Generator, patches: int = 32) -> Tensor:
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
    order = torch.rand(batch, patches**2, generator=rng).argsort(1).to(masks.device)
    tiles = tiles.gather(1, order[:, :, None, None].expand_as(tiles))
    tiles = tiles.reshape(batch, patches, patches, height, width).transpose(2, 3)
    shuffled = masks.clone()
    shuffled[:, : height * patches, : width * patches] = tiles.reshape(inner.shape)
    return shuffled


def loudest_cells(power: Tensor, masks: Tensor) -> Tensor:
    """1 for the loudest cells of `power` [B, F, T], as many as make a mask's mean."""
    flat = power.flatten(1)
    count = (masks.flatten(1).mean(1) * flat.shape[1]).round().long()
    order = flat.argsort(dim=1, descending=True, stable=True)
    chosen = torch.arange(flat.shape[1], device=flat.device) < count[:, None]
    kept = torch.zeros_like(flat).scatter(1, order, chosen.to(flat.dtype))
    return kept.reshape(masks.shape)
