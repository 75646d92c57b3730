"""Attributions from HTS-AT's attention: LeGrad, Grad-ECLIP, attention relevance.

All three were published for vision transformers with a class token and attention
between all tokens. HTS-AT has neither: its embedding is made of the *mean* of the last
stage's tokens, tokens attend within (shifted) windows, and a stage has a quarter of the
tokens of the one before. Each function says what takes the class token's place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lmaczs.clap import unfold
from lmaczs.evaluation.attention_record import BlockRecord, attention_record
from lmaczs.evaluation.attribution import similarity_of
from lmaczs.evaluation.explainer import ExplainerInput


def legrad(batch: ExplainerInput) -> Tensor:
    """LeGrad: positive part of the similarity's gradient in each attention map.

    Bousselham et al., "LeGrad: An Explainability Method for Vision Transformers via
    Feature Formation Sensitivity", ICCV 2025, arXiv 2404.03214. A key's relevance in a
    block is the mean over heads and queries of that part; blocks are added up.

    The queries are those of the key's window. As published, the similarity is in each
    block that of the block's own tokens, pooled and projected as the last ones are.
    Here it is that of the whole encoder in all blocks, because tokens of earlier stages
    have other widths and cannot be projected. [B, f, t] on the first stage's grid.
    """
    blocks, similarity = _recorded(batch)
    gradients = torch.autograd.grad(similarity, [b.attention for b in blocks])
    maps = [
        block.to_grid(gradient.relu().mean((1, 2)))
        for block, gradient in zip(blocks, gradients, strict=True)
    ]
    return _added_up(maps, batch.clap.freq_ratio)


def grad_eclip(batch: ExplainerInput) -> Tensor:
    """Grad-ECLIP: values of the last block, weighted by channel and by place.

    Zhao et al., "Gradient-based Visual Explanation for Transformer-based CLIP", ICML
    2024 (journal version: arXiv 2502.18816). With the gradient ``g`` of the similarity
    in the class token's attention output, value ``v_i`` of token i has the relevance
    ``sum over channels of g v_i``, times a *loosened* attention: the cosine of query
    and key, after the output projection as in the authors' code, scaled to [0, 1] over
    the keys.

    Without a class token, the similarity depends on the attention outputs of all
    tokens, and to first order it is the sum over them; so relevances are summed over
    the queries, each with its own gradient and its own loosened attention. With one
    query, this is the published rule. Signed, before the final relu. [B, f, t] on the
    last stage's grid.
    """
    blocks, similarity = _recorded(batch)
    last = blocks[-1]
    (gradient,) = torch.autograd.grad(similarity, last.mixed)
    project = last.block.attention.output.dense
    query, key = (
        nn.functional.normalize(project(x.detach()), dim=-1)
        for x in (last.query, last.key)
    )
    loosened = query @ key.transpose(1, 2)
    low, high = (f(loosened, dim=2, keepdim=True) for f in (torch.amin, torch.amax))
    loosened = (loosened - low) / (high - low).clamp_min(1e-12)
    relevance = (loosened * (gradient @ last.value.detach().transpose(1, 2))).sum(1)
    return _added_up([last.to_grid(relevance)], batch.clap.freq_ratio)


def attention_relevance(batch: ExplainerInput) -> Tensor:
    """Relevance carried through attention from the pooled tokens to the first ones.

    Chefer et al., "Generic Attention-model Explainability for Interpreting Bi-Modal and
    Encoder-Decoder Transformers", ICCV 2021, with gradients of the similarity times the
    checkpoint's logit scale, as in the authors' code for CLIP: each block does ``R <- R
    + A R``, where A is the mean over heads of the positive part of attention times its
    gradient, and R begins as the identity.

    Chosen because its rules are products of matrices between tokens, which HTS-AT's
    structure leaves intact: a windowed block is a block-diagonal A, and patch merging a
    matrix in which a token is the mean of the four that it is made of (as Nguyen et
    al., arXiv 2311.11378, do for Swin). Attention rollout knows no prompt, and the
    relevance propagation of Chefer et al., CVPR 2021, needs a rule for each operation.

    The mean of the last tokens takes the place of the class token's row. That row, of
    a matrix product, is computed from its left, so that no matrix is larger than a
    window. The residual path alone gives all tokens the same relevance, which is
    subtracted. [B, f, t] on the first stage's grid.
    """
    blocks, similarity = _recorded(batch)
    logit = batch.clap.logit_scale * similarity
    gradients = torch.autograd.grad(logit, [b.attention for b in blocks])
    row = torch.ones(len(batch.text), *blocks[-1].size).to(batch.text)
    row = row / row[0].numel()
    for block, gradient in zip(reversed(blocks), reversed(gradients), strict=True):
        if row.shape[1:] != block.size:  # back through patch merging
            row = _split(row, block.size)
        flow = (block.attention.detach() * gradient).relu().mean(1)
        windows = block.to_windows(row)[:, None]
        row = row + block.to_grid((windows @ flow)[:, 0])
    return _added_up([row - 1 / row[0].numel()], batch.clap.freq_ratio)


def _recorded(batch: ExplainerInput) -> tuple[list[BlockRecord], Tensor]:
    """Blocks of the encoder for a batch, and the sum of its similarities."""
    log_mel = batch.log_mel.detach().requires_grad_(True)
    with attention_record(batch.clap) as blocks:
        similarity = similarity_of(batch.clap, log_mel, batch.text)
    return blocks, similarity.sum()


def _split(row: Tensor, size: tuple[int, int]) -> Tensor:
    """Give each of the four tokens that were merged a quarter of the relevance."""
    row = row.repeat_interleave(2, 1).repeat_interleave(2, 2) / 4
    return row[:, : size[0], : size[1]]


def _added_up(maps: Sequence[Tensor], freq_ratio: int) -> Tensor:
    """Sum on the first map's grid of maps [B, rows, columns], unfolded [B, f, t]."""
    unfolded = [unfold(m[:, None], freq_ratio) for m in maps]
    size = unfolded[0].shape[2:]
    resized = [nn.functional.interpolate(m, size, mode="bilinear") for m in unfolded]
    return torch.stack(resized).sum(0)[:, 0]
