"""Methods that perturb the input: RISE and occlusion, and what others share with them.

All perturb the encoder's input in one way: a mask on its grid of mel bands and frames
multiplies the magnitude, by `FrontEnd.input_tf`, and what it leaves out is silence.
The masks' grid spans the encoder's input; a shorter clip is masked once and repeated
with its mask, so that only the part of the grid over its first copy acts.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat

import torch
from torch import Generator, Tensor, nn

from lmaczs.evaluation.explainer import ExplainerInput

GRID = (8, 16)  # segments in frequency and in time


@torch.no_grad()
def masked_similarities(
    batch: ExplainerInput, masks: Iterable[Tensor], at_once: int = 64
) -> Tensor:
    """Similarity of each clip and its prompt under masks of its mel magnitude.

    Parameters
    ----------
    batch : ExplainerInput
        Clips and prompts.
    masks : iterable of Tensor [N, n_mels, n_frames]
        Each clip's own, in [0, 1]; `itertools.repeat` gives all clips the same. They
        are repeated with short clips.
    at_once : int
        Inputs encoded together. They are of one clip: no result depends on another's.

    Returns
    -------
    Tensor [B, N]
    """
    clap, front_end = batch.clap, batch.clap.front_end
    clips = zip(batch.spectrum.split(1), batch.samples, batch.text, masks, strict=False)
    rows = []
    for spectrum, samples, text, own in clips:
        parts = front_end.tile_mask(own, samples).split(at_once)
        inputs = (front_end.input_tf(spectrum, part[None], "mel") for part in parts)
        rows.append(torch.cat([clap.audio_embedding(x) @ text for x in inputs]))
    return torch.stack(rows)


def input_size(batch: ExplainerInput) -> tuple[int, int]:
    """Mel bands and frames of the encoder's input."""
    return batch.clap.front_end.n_mels, batch.clap.front_end.n_frames


def segments(size: tuple[int, int], grid: tuple[int, int] = GRID) -> Tensor:
    """Number of the rectangle of `grid` in which each cell lies, row by row."""
    row, column = (torch.arange(n) * g // n for n, g in zip(size, grid, strict=True))
    return row[:, None] * grid[1] + column


# --- RISE ---------------------------------------------------------------------------


def rise(batch: ExplainerInput, count: int = 150) -> Tensor:
    """RISE with `count` masks: attributions [B, n_mels, n_frames].

    Petsiuk et al., "RISE", BMVC 2018. The masks depend on the seed alone, and are the
    same for all clips.
    """
    masks = rise_masks(count, input_size(batch), batch.rng()).to(batch.log_mel.device)
    return batch.tiled(rise_map(masks, masked_similarities(batch, repeat(masks))))


def rise_masks(
    count: int,
    size: tuple[int, int],
    rng: Generator,
    grid: tuple[int, int] = GRID,
    probability: float = 0.5,
) -> Tensor:
    """RISE's random masks [count, *size]: section 3.2 of the paper.

    Cells of the grid are 1 with a probability; they are interpolated linearly to one
    cell more than the input along each axis, and cropped at a random place.
    """
    cells = [-(-n // g) for n, g in zip(size, grid, strict=True)]
    small = (torch.rand(count, 1, *grid, generator=rng) < probability).float()
    large = tuple((g + 1) * c for g, c in zip(grid, cells, strict=True))
    large_masks = nn.functional.interpolate(small, large, mode="bilinear")[:, 0]
    top, left = (torch.randint(c, (count, 1), generator=rng) for c in cells)
    rows, columns = top + torch.arange(size[0]), left + torch.arange(size[1])
    clip = torch.arange(count)[:, None, None]
    return large_masks[clip, rows[:, :, None], columns[:, None, :]]


def rise_map(masks: Tensor, scores: Tensor, probability: float = 0.5) -> Tensor:
    """RISE's eq. 6, from scores [B, N] under masks [N, ...]: [B, ...].

    The mean score is subtracted before: in the expectation, the paper's map less that
    mean. Without it the map of few masks is mostly the number of masks over a cell,
    and no cell is below zero.
    """
    centred = scores - scores.mean(1, keepdim=True)
    weighted = torch.einsum("bn,n...->b...", centred, masks)
    return weighted / (len(masks) * probability)


# --- occlusion ----------------------------------------------------------------------


def occlusion(batch: ExplainerInput, grid: tuple[int, int] = GRID) -> Tensor:
    """Drop of the similarity [B, *grid] when one rectangle after another is silent.

    Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014,
    with silence for their grey square, and without overlap.
    """
    left_out = occlusion_masks(input_size(batch), grid).to(batch.log_mel.device)
    whole = torch.ones_like(left_out[:1])
    found = masked_similarities(batch, repeat(torch.cat([whole, left_out])))
    return (found[:, :1] - found[:, 1:]).unflatten(1, grid)


def occlusion_masks(size: tuple[int, int], grid: tuple[int, int] = GRID) -> Tensor:
    """Masks [N, *size], each without one of the N rectangles of `grid`, row by row."""
    number = torch.arange(grid[0] * grid[1])[:, None, None]
    return (segments(size, grid) != number).float()
