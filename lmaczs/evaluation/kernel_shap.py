"""KernelSHAP: Shapley values of segments of the spectrogram, by weighted regression.

Lundberg & Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017.
"""

from __future__ import annotations

from itertools import repeat

import torch
from torch import Generator, Tensor

from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.perturbation import input_size, masked_similarities, segments

GRID = (4, 8)  # coarser than the others': 150 inputs do not determine 128 values


def kernel_shap(
    batch: ExplainerInput, count: int = 150, grid: tuple[int, int] = GRID
) -> Tensor:
    """Shapley values [B, *grid] of the rectangles of a grid, from `count` inputs.

    Two of them are the clip and silence. The coalitions depend on the seed alone, and
    are the same for all clips.
    """
    players = grid[0] * grid[1]
    drawn = draw_coalitions(count - 2, players, batch.rng())
    bounds = torch.tensor([[0.0], [1.0]]).expand(2, players)
    coalitions = torch.cat([bounds, drawn])
    masks = coalitions[:, segments(input_size(batch), grid)].to(batch.log_mel.device)
    values = masked_similarities(batch, repeat(masks))
    found = shapley_values(coalitions, values.cpu())  # float64, which MPS lacks
    return found.unflatten(1, grid).to(values.device)


def draw_coalitions(count: int, players: int, rng: Generator) -> Tensor:
    """Coalitions [count, players] of zeros and ones, drawn by the Shapley kernel.

    A size k between 1 and players - 1 has a probability proportional to
    1 / (k (players - k)), and all coalitions of one size are as probable.
    """
    size = torch.arange(1, players)
    kernel = 1 / (size * (players - size)).double()
    drawn = 1 + torch.multinomial(kernel, count, replacement=True, generator=rng)
    rank = torch.rand(count, players, generator=rng).argsort(1).argsort(1)
    return (rank < drawn[:, None]).float()


def shapley_values(coalitions: Tensor, values: Tensor) -> Tensor:
    """Least squares from coalitions [N, P] and their values [B, N]: [B, P].

    The first coalition is empty, the second is of all; the Shapley values sum to the
    difference of their values. Where the others do not determine them, they are as
    equal as possible.
    """
    gained = values - values[:, :1]
    equal = gained[:, 1:2] / coalitions.shape[1]
    others = coalitions[2:]
    left = gained[:, 2:] - equal * others.sum(1)
    centred = (others - others.mean(1, keepdim=True)).double()
    return equal + (left.double() @ torch.linalg.pinv(centred).T).to(values.dtype)
