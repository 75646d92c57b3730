"""M2IB: which tokens keep the similarity when information has a price.

Wang, Rudner and Wilson, "Visual Explanations of Image-Text Representations via
Multi-Modal Information Bottleneck Attribution", NeurIPS 2023, arXiv 2312.17174; the
audio side alone, with the defaults of the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from lmaczs.clap import FrozenClap, unfold
from lmaczs.evaluation.attribution import similarity_of
from lmaczs.evaluation.explainer import ExplainerInput

INITIAL = 5.0  # logit of the kept fraction
STEPS, SAMPLES = 10, 10


def m2ib(
    batch: ExplainerInput,
    beta: float = 0.1,
    steps: int = STEPS,
    samples: int = SAMPLES,
    learning_rate: float = 1.0,
) -> Tensor:
    """M2IB: information in nats that passes each token of a block.

    The output h of the last block but those of the last stage becomes ``k h + (1 - k)
    e``, with noise e of unit variance and a kept fraction k for each token and channel.
    (In LAION's checkpoints two blocks follow, as in the authors' ViT.) Adam lowers
    ``beta * information - similarity``: means over tokens and channels, and over
    `samples` draws of the noise. A token's information, at the last step, is the sum
    over its channels of `divergence`.

    The noise depends on the seed alone and is the same for each clip, and losses are
    summed over clips: no clip's map depends on the others'. [B, f, t] on the grid of
    the block's stage.
    """
    clap, text = batch.clap, batch.text.repeat_interleave(samples, 0)
    encoder = clap.model.audio_model.audio_encoder
    block = encoder.layers[-2].blocks[-1]
    tokens = _output(clap, block, batch.log_mel)
    noise = torch.randn(samples, *tokens.shape[1:], generator=batch.rng()).to(tokens)
    kept = torch.full_like(tokens, INITIAL).requires_grad_(True)
    optimiser = torch.optim.Adam([kept], lr=learning_rate)
    for _ in range(steps):
        mean, deviation = kept.sigmoid() * tokens, (-kept).sigmoid()
        noisy = mean[:, None] + deviation[:, None] * noise
        with _changed(block, noisy.flatten(0, 1)):
            similarity = similarity_of(clap, batch.log_mel, text)
        information = divergence(mean, logsigmoid(-kept))
        fit = similarity.view(-1, samples).mean(1)
        loss = beta * information.mean((1, 2)) - fit
        (kept.grad,) = torch.autograd.grad(loss.sum(), kept)
        optimiser.step()
    rows, columns = block.input_resolution
    grid = information.detach().sum(2).view(-1, 1, rows, columns)
    return unfold(grid, clap.freq_ratio)[:, 0]


def divergence(mean: Tensor, log_deviation: Tensor) -> Tensor:
    """Kullback-Leibler divergence of normal distributions from the standard one."""
    log_variance = 2 * log_deviation
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


@torch.no_grad()
def _output(clap: FrozenClap, block: nn.Module, log_mel: Tensor) -> Tensor:
    """Output tokens [B, N, C] of a block."""
    with _changed(block) as seen:
        clap.audio_embedding(log_mel)
    return seen[0]


@contextmanager
def _changed(block: nn.Module, tokens: Tensor | None = None) -> Iterator[list[Tensor]]:
    """Give `tokens`, if any, to what follows a block; yield the outputs of the block.

    There may be more rows of `tokens` than clips: what precedes the block is computed
    once for all samples of the noise.
    """
    seen: list[Tensor] = []

    def hook(module: nn.Module, given: Any, output: tuple[Any, ...]) -> Any:
        seen.append(output[0])
        return output if tokens is None else (tokens, *output[1:])

    handle = block.register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()
