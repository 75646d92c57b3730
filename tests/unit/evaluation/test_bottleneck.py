"""M2IB against its steps, one sample of the noise at a time, and at its limits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from lmaczs.evaluation.attribution import similarity_of
from lmaczs.evaluation.bottleneck import divergence, m2ib
from lmaczs.evaluation.explainer import ExplainerInput

ROWS = COLUMNS = 16  # of the last stage but one of the tiny CLAP


def alone(batch: ExplainerInput, row: int) -> ExplainerInput:
    """One clip with its prompt."""
    return batch.with_prompts(row, batch.text[row : row + 1])


def unfolded(tokens: Tensor) -> Tensor:
    """(frequency, time) of folded tokens [N]: two stretches, one above another."""
    stretches = tokens.view(2, ROWS // 2, COLUMNS)
    return torch.cat([stretches[0], stretches[1]], 1)


def output_of(
    batch: ExplainerInput, put: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The block's tokens [N, C] and the similarity, also with tokens `put` in place."""
    block = batch.clap.model.audio_model.audio_encoder.layers[1].blocks[0]
    seen = []

    def hook(module: object, given: object, output: tuple[Tensor]) -> tuple[Tensor]:
        seen.append(output[0])
        return output if put is None else (put[None],)

    handle = block.register_forward_hook(hook)
    similarity = similarity_of(batch.clap, batch.log_mel, batch.text)
    handle.remove()
    return seen[0][0].detach(), similarity[0]


def slow_m2ib(batch: ExplainerInput, beta: float, steps: int, samples: int) -> Tensor:
    """Adam written out, on one clip."""
    tokens, _ = output_of(batch)
    draws = torch.randn(samples, *tokens.shape, generator=batch.rng())
    kept = torch.full_like(tokens, 5.0)
    first, second = torch.zeros_like(kept), torch.zeros_like(kept)
    for step in range(1, steps + 1):
        kept.requires_grad_(True)
        part = torch.sigmoid(kept)
        fit = torch.tensor(0.0)
        for noise in draws:
            _, similarity = output_of(batch, part * tokens + (1 - part) * noise)
            fit = fit + similarity / samples
        spread = Normal(part * tokens, 1 - part)
        information = kl_divergence(spread, Normal(0.0, 1.0))
        loss = beta * information.mean() - fit
        (gradient,) = torch.autograd.grad(loss, kept)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        change = first / (1 - 0.9**step)
        change = change / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        kept = (kept - change).detach()
    return unfolded(information.detach().sum(1))


def test_divergence_is_that_of_normal_distributions() -> None:
    """From the standard one: zero there, positive elsewhere; no infinity near zero."""
    rng = torch.Generator().manual_seed(0)
    mean, log_deviation = torch.randn(2, 50, generator=rng)
    expected = kl_divergence(Normal(mean, log_deviation.exp()), Normal(0.0, 1.0))
    found = divergence(mean, log_deviation)
    torch.testing.assert_close(found, expected)
    assert float(found.min()) > 0
    assert float(divergence(torch.zeros(1), torch.zeros(1))) == 0
    kept_all = divergence(torch.ones(1), torch.tensor([-200.0]))
    assert float(kept_all) == pytest.approx(200.0)


def test_m2ib_is_its_definition(short_and_long: ExplainerInput) -> None:
    """A price on information and the mean similarity, lowered by Adam."""
    for row in range(2):
        one = alone(short_and_long, row)
        expected = slow_m2ib(one, beta=0.1, steps=4, samples=2)
        found = m2ib(one, beta=0.1, steps=4, samples=2)
        assert found.shape == (1, 8, 32)
        torch.testing.assert_close(found[0], expected, rtol=2e-3, atol=0)


def test_all_is_kept_at_first(short_and_long: ExplainerInput) -> None:
    """Before the first step, information is that of a kept fraction of .993."""
    kept = 1 / (1 + math.exp(-5))
    for row in range(2):
        tokens, _ = output_of(alone(short_and_long, row))
        variance = (1 - kept) ** 2
        each = 0.5 * ((kept * tokens) ** 2 + variance - 1 - math.log(variance))
        found = m2ib(short_and_long, steps=1)[row]
        torch.testing.assert_close(found, unfolded(each.sum(1)), rtol=1e-4, atol=0)


def test_price_decides_how_much_passes(short_and_long: ExplainerInput) -> None:
    """Without a price everything may pass, with a high one hardly anything does."""
    free, usual, dear = (
        m2ib(short_and_long, beta=beta, steps=20, samples=2) for beta in (0.0, 0.1, 1e3)
    )
    for found in (free, usual, dear):
        assert bool((found >= 0).all())
        assert bool(found.isfinite().all())
    assert float(dear.mean()) < 0.05 * float(usual.mean()) < 0.05 * float(free.mean())


def test_maps_are_those_of_a_clip_alone(short_and_long: ExplainerInput) -> None:
    """Whatever else is in the batch: all clips have the same noise."""
    found = m2ib(short_and_long, steps=4, samples=2)
    for row in range(2):
        one = m2ib(alone(short_and_long, row), steps=4, samples=2)
        torch.testing.assert_close(found[row : row + 1], one, rtol=1e-2, atol=0)


def test_seed_decides_the_noise(short_and_long: ExplainerInput) -> None:
    """The global generator is left alone."""
    state = torch.random.get_rng_state()
    first = m2ib(short_and_long, steps=3, samples=2)
    assert torch.equal(m2ib(short_and_long, steps=3, samples=2), first)
    assert not torch.equal(
        m2ib(replace(short_and_long, seed=1), steps=3, samples=2), first
    )
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_model_stays_as_it_was(short_and_long: ExplainerInput) -> None:
    """Also after an error, here of a prompt of another size."""
    given = short_and_long.clap, short_and_long.log_mel, short_and_long.text
    before = similarity_of(*given)
    m2ib(short_and_long, steps=2, samples=2)
    assert torch.equal(similarity_of(*given), before)
    with pytest.raises(RuntimeError):
        m2ib(
            replace(short_and_long, text=short_and_long.text[:, :5]), steps=2, samples=2
        )
    assert torch.equal(similarity_of(*given), before)
    weights = short_and_long.clap.parameters()
    assert all(w.grad is None and not w.requires_grad for w in weights)


def test_maps_follow_the_prompt(one_after_the_other: ExplainerInput) -> None:
    """The dog lies more in its half than the church bells do."""
    found = m2ib(one_after_the_other, steps=20, samples=5)
    assert found.shape == (2, 4, 16)
    share = found[..., :8].sum((1, 2)) / found.sum((1, 2))
    assert share[0] > share[1]
