"""Masks that LMAC-ZS is compared with. Each is [B, F, T] in [0, 1]."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def keep_all(mask: Tensor) -> Tensor:
    """Keep everything: no explanation, but the scale's upper end.

    Parameters
    ----------
    mask : Tensor [B, F, T]
        Gives the shape.

    Returns
    -------
    Tensor [B, F, T]
        Ones.
    """
    return torch.ones_like(mask)


def shuffled_bins(mask: Tensor, rng: Generator) -> Tensor:
    """A random mask with the values, and so the mean, of a given one.

    Parameters
    ----------
    mask : Tensor [B, F, T]
        Whose cells are shuffled, for each clip by itself.
    rng : Generator
        Source of chance.

    Returns
    -------
    Tensor [B, F, T]
    """
    flat = mask.flatten(1)
    order = torch.rand(flat.shape, generator=rng).argsort(1)
    return flat.gather(1, order.to(flat.device)).reshape(mask.shape)


def shuffled_patches(mask: Tensor, rng: Generator, patches: int = 32) -> Tensor:
    """A random mask that is coarse: a given one's rectangles in another order.

    Cell by cell, chance averages out within a mel band and amounts to a gain;
    rectangles as large as those that a decoder draws do not.

    Parameters
    ----------
    mask : Tensor [B, F, T]
        Whose rectangles are shuffled, for each clip by itself.
    rng : Generator
        Source of chance.
    patches : int
        Rectangles along each axis. Rows and columns that do not fill one stay.

    Returns
    -------
    Tensor [B, F, T]
        Same values, same mean.
    """
    batch, freqs, frames = mask.shape
    height, width = freqs // patches, frames // patches
    inner = mask[:, : height * patches, : width * patches]
    tiles = inner.reshape(batch, patches, height, patches, width).transpose(2, 3)
    tiles = tiles.reshape(batch, patches**2, height, width)
    order = torch.rand(batch, patches**2, generator=rng).argsort(1).to(mask.device)
    tiles = tiles.gather(1, order[:, :, None, None].expand_as(tiles))
    tiles = tiles.reshape(batch, patches, patches, height, width).transpose(2, 3)
    shuffled = mask.clone()
    shuffled[:, : height * patches, : width * patches] = tiles.reshape(inner.shape)
    return shuffled
