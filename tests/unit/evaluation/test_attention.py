"""Attention's attributions against loops over tokens, one window after the other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.attention import attention_relevance, grad_eclip, legrad
from lmaczs.evaluation.attention_record import BlockRecord, attention_record
from lmaczs.evaluation.attribution import similarity_of
from lmaczs.evaluation.explainer import ExplainerInput

METHODS = (legrad, grad_eclip, attention_relevance)
Method = Callable[[ExplainerInput], Tensor]


@pytest.fixture(scope="module")
def one(one_after_the_other: ExplainerInput) -> ExplainerInput:
    """One clip with one prompt, in double precision."""
    batch = one_after_the_other.with_prompts(0, one_after_the_other.text[:1].double())
    clap = copy.deepcopy(batch.clap).double()
    return replace(batch, clap=clap, log_mel=batch.log_mel.double())


@pytest.fixture(scope="module")
def inside(one: ExplainerInput) -> tuple[list[BlockRecord], list[Tensor]]:
    """Blocks of the clip, and the similarity's gradient in each attention map.

    It is that of zeros which are added to the map.
    """
    with attention_record(one.clap) as blocks:
        one.clap.audio_embedding(one.log_mel)
    zeros = [torch.zeros_like(b.attention, requires_grad=True) for b in blocks]
    return blocks, list(torch.autograd.grad(with_added(one, blocks, zeros), zeros))


def with_added(
    one: ExplainerInput, blocks: list[BlockRecord], added: list[Tensor]
) -> Tensor:
    """Similarity when something is added to the attention of the blocks."""
    with ExitStack() as hooks:
        for b, delta in zip(blocks, added, strict=True):
            dropout = b.block.attention.self.dropout
            handle = dropout.register_forward_hook(lambda m, a, out, d=delta: out + d)
            hooks.callback(handle.remove)
        return similarity_of(one.clap, one.log_mel, one.text).sum()


def windows_of(b: BlockRecord) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Every window, and the grid's row and column of each of its tokens."""
    side, shift = int(b.block.window_size), int(b.block.shift_size)
    rows, columns = b.size
    number = 0
    for high in range(0, rows, side):
        for wide in range(0, columns, side):
            yield (
                number,
                [
                    ((high + i + shift) % rows, (wide + j + shift) % columns)
                    for i in range(side)
                    for j in range(side)
                ],
            )
            number += 1


def unfolded(grid: Tensor) -> Tensor:
    """(frequency, time) of a folded grid: two stretches of time, one above another."""
    rows, columns = grid.shape
    found = grid.new_zeros(rows // 2, columns * 2)
    for row in range(rows):
        for column in range(columns):
            stretch, frequency = divmod(row, rows // 2)
            found[frequency, stretch * columns + column] = grid[row, column]
    return found


def close(found: Tensor, expected: Tensor) -> None:
    """Equal but for rounding, measured against the largest value."""
    size = float(expected.abs().max())
    torch.testing.assert_close(found, expected, atol=1e-8 * size, rtol=0)


def test_gradients_in_attention_are_differences(
    one: ExplainerInput, inside: tuple[list[BlockRecord], list[Tensor]]
) -> None:
    """A little more attention changes the similarity as the gradient says."""
    blocks, gradients = inside
    step = 1e-4
    for number, place in ((0, (5, 1, 3, 7)), (1, (15, 2, 0, 9)), (6, (0, 8, 2, 11))):
        pair = []
        for sign in (1, -1):
            added = [torch.zeros_like(b.attention) for b in blocks]
            added[number][place] = sign * step
            with torch.no_grad():
                pair.append(float(with_added(one, blocks, added)))
        slope = (pair[0] - pair[1]) / (2 * step)
        assert slope == pytest.approx(float(gradients[number][place]), rel=1e-4)


def test_legrad_adds_up_positive_gradients(
    one: ExplainerInput, inside: tuple[list[BlockRecord], list[Tensor]]
) -> None:
    """Mean over heads and queries at each key, block by block, on the first grid."""
    total = torch.zeros(8, 32, dtype=torch.float64)
    for b, gradient in zip(*inside, strict=True):
        grid = torch.zeros(b.size, dtype=torch.float64)
        for window, places in windows_of(b):
            for key, place in enumerate(places):
                column = gradient[window, :, :, key]
                positive = [max(0.0, float(x)) for x in column.flatten()]
                grid[place] += sum(positive) / len(positive)
        total += torch.nn.functional.interpolate(
            unfolded(grid)[None, None], (8, 32), mode="bilinear"
        )[0, 0]
    found = legrad(one)
    assert found.shape == (1, 8, 32) and float(found.min()) >= 0
    close(found[0], total)


def test_grad_eclip_weights_values(
    one: ExplainerInput, inside: tuple[list[BlockRecord], list[Tensor]]
) -> None:
    """Gradient times value for each query, times its cosine with the key in [0, 1]."""
    with attention_record(one.clap) as blocks:
        log_mel = one.log_mel.clone().requires_grad_(True)
        similarity = similarity_of(one.clap, log_mel, one.text).sum()
    b = blocks[-1]
    gradient = torch.autograd.grad(similarity, b.mixed)[0][0]
    project = b.block.attention.output.dense
    query, key = project(b.query[0]).detach(), project(b.key[0]).detach()
    value, grid = b.value[0].detach(), torch.zeros(4, 4, dtype=torch.float64)
    (window,) = windows_of(b)
    for q in range(16):
        cosines = [float(torch.cosine_similarity(query[q], k, dim=0)) for k in key]
        low, high = min(cosines), max(cosines)
        for k, place in enumerate(window[1]):
            loosened = (cosines[k] - low) / (high - low)
            grid[place] += loosened * (gradient[q] * value[k]).sum()
    found = grad_eclip(one)
    close(found[0], unfolded(grid))
    assert found.min() < 0 < found.max()


def test_relevance_is_a_product_of_matrices(
    one: ExplainerInput, inside: tuple[list[BlockRecord], list[Tensor]]
) -> None:
    """R <- R + A R in each block, means of four between stages, then of the rows."""
    scale = one.clap.logit_scale
    relevance, size = torch.eye(256, dtype=torch.float64), (16, 16)
    for b, gradient in zip(*inside, strict=True):
        rows, columns = b.size
        if b.size != size:
            merge = torch.zeros(rows * columns, size[0] * size[1]).double()
            for row in range(size[0]):
                for column in range(size[1]):
                    into = (row // 2) * columns + column // 2
                    merge[into, row * size[1] + column] = 0.25
            relevance, size = merge @ relevance, b.size
        flow = torch.zeros(rows * columns, rows * columns, dtype=torch.float64)
        for window, places in windows_of(b):
            kept = (scale * gradient[window] * b.attention[window]).relu().mean(0)
            numbers = [row * columns + column for row, column in places]
            for q, query in enumerate(numbers):
                for k, key in enumerate(numbers):
                    flow[query, key] = kept[q, k]
        relevance = relevance + flow @ relevance
    expected = unfolded(relevance.mean(0).view(16, 16) - 1 / 256)
    close(attention_relevance(one)[0], expected)


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_those_of_a_clip_alone(
    one_after_the_other: ExplainerInput, method: Method
) -> None:
    """Whatever else is in the batch."""
    found = method(one_after_the_other)
    for row in range(2):
        text = one_after_the_other.text[row : row + 1]
        alone = method(one_after_the_other.with_prompts(row, text))
        size = float(alone.abs().max())
        torch.testing.assert_close(
            found[row : row + 1], alone, atol=1e-4 * size, rtol=0
        )


@pytest.mark.parametrize("method", METHODS)
def test_maps_follow_the_prompt(
    one_after_the_other: ExplainerInput, method: Method
) -> None:
    """The dog lies more in its half than the church bells do."""
    found = method(one_after_the_other).relu()
    half = found.shape[2] // 2
    share = found[..., :half].sum((1, 2)) / found.sum((1, 2))
    assert share[0] > share[1] + 0.05


@pytest.mark.parametrize("method", METHODS)
def test_the_model_stays_as_it_was(
    one_after_the_other: ExplainerInput, method: Method
) -> None:
    """Weights have no gradient and do not change; the similarity is the same."""
    clap = one_after_the_other.clap
    weights = {name: w.clone() for name, w in clap.state_dict().items()}
    given = clap, one_after_the_other.log_mel, one_after_the_other.text
    before = similarity_of(*given)
    method(one_after_the_other)
    assert torch.equal(similarity_of(*given), before)
    assert all(w.grad is None and not w.requires_grad for w in clap.parameters())
    assert all(torch.equal(w, weights[n]) for n, w in clap.state_dict().items())


@pytest.mark.parametrize("method", METHODS)
def test_other_checkpoints(
    tiny_fused_clap: FrozenClap, laion_like_clap: FrozenClap, method: Method
) -> None:
    """Fused ones, and LAION's geometry with grids of 64 x 64 tokens and four stages."""
    rng = torch.Generator().manual_seed(0)
    for clap, grid in ((tiny_fused_clap, (16, 64)), (laion_like_clap, (16, 256))):
        front_end = clap.front_end
        wav = 0.1 * torch.randn(1, front_end.max_samples, generator=rng)
        spectrum = front_end.stft(wav)[..., : front_end.n_frames]
        grids = spectrum, front_end.stft_to_log_mel(spectrum)
        text, samples = clap.encode_text(["a tone"]), torch.tensor([wav.shape[1]])
        found = method(ExplainerInput(clap, *grids, text, samples))
        last = clap.feature_shapes[-1][1:]
        assert found.shape == (1, *(last if method is grad_eclip else grid))
        assert bool(found.isfinite().all())
        assert float(found.std()) > 0
