"""ExplainerInput: the grid, the draws and the prompts that explainers get."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.frontend import DOMAINS, Domain

SAMPLES = 40000


@pytest.fixture(scope="module")
def batch(tiny_clap: FrozenClap) -> ExplainerInput:
    """Two clips of 1.25 s, repeated to the encoder's length, with their prompts."""
    front_end = tiny_clap.front_end
    wavs = torch.randn(2, SAMPLES, generator=torch.Generator().manual_seed(0))
    spectrum = front_end.stft(front_end.fit_length(wavs))
    log_mel = front_end.stft_to_log_mel(spectrum)
    text = tiny_clap.encode_text(["a dog", "rain"])
    samples = torch.full((2,), SAMPLES)
    return ExplainerInput(tiny_clap, spectrum, log_mel, text, samples, seed=3)


@pytest.mark.parametrize("domain", DOMAINS)
def test_cells_are_power_on_the_grid_of_the_masks(
    batch: ExplainerInput, domain: Domain
) -> None:
    """|X|^2, cell by cell; in the mel domain summed by the model's filters."""
    power = batch.spectrum.real**2 + batch.spectrum.imag**2
    if domain == "mel":
        power = (10 ** (batch.log_mel[:, 0] / 10)).transpose(1, 2)
    cells = replace(batch, domain=domain).cells
    torch.testing.assert_close(cells, power, rtol=1e-3, atol=1e-8)


def test_draws_depend_on_the_seed_alone(batch: ExplainerInput) -> None:
    """Each generator starts anew, whatever was drawn before."""
    torch.manual_seed(0)
    first = torch.rand(5, generator=batch.rng())
    torch.rand(7)
    assert torch.equal(torch.rand(5, generator=batch.rng()), first)
    other = replace(batch, seed=4).rng()
    assert not torch.equal(torch.rand(5, generator=other), first)


def test_a_clips_own_draws_depend_on_its_id(batch: ExplainerInput) -> None:
    """Neither on its place nor on the clips beside it; another seed draws otherwise."""
    batch = replace(batch, ids=["one", "two"])

    def draws(batch: ExplainerInput) -> list[list[float]]:
        return [torch.rand(3, generator=rng).tolist() for rng in batch.clip_rngs()]

    first, second = draws(batch)
    assert first != second
    assert draws(batch.take([1, 0])) == [second, first]
    assert draws(batch.with_prompts(1, batch.text)) == [second, second]
    assert draws(replace(batch, seed=4))[0] != first


def test_some_clips_of_a_batch(batch: ExplainerInput) -> None:
    """Every part of them, in the given order; all in order are the batch itself."""
    batch = replace(batch, reference=batch.cells)
    (swapped,) = (batch.take([1, 0]),)
    for name in ("spectrum", "log_mel", "text", "samples", "reference"):
        assert torch.equal(getattr(swapped, name), getattr(batch, name).flip(0))
    assert batch.take([0, 1]) is batch
    assert len(batch.take([1]).cells) == 1


def test_masks_of_a_short_clip_repeat_with_it(batch: ExplainerInput) -> None:
    """Cropped to the clip again they are what they were."""
    front_end = batch.clap.front_end
    frames = front_end.clip_frames(SAMPLES)
    mask = torch.rand(2, batch.spectrum.shape[1], frames)
    tiled = batch.tiled(mask)
    assert tiled.shape == batch.spectrum.shape
    torch.testing.assert_close(front_end.crop_mask(tiled, SAMPLES), mask)


def test_a_clip_may_be_given_several_prompts(batch: ExplainerInput) -> None:
    """One row a prompt, each with the clip's own sound and length."""
    text = batch.clap.encode_text(["a dog", "rain", "a bell"])
    several = replace(batch, reference=batch.cells).with_prompts(1, text)
    assert torch.equal(several.text, text)
    assert several.reference is None
    assert (several.seed, several.domain) == (batch.seed, batch.domain)
    for name in ("spectrum", "log_mel", "samples", "cells"):
        for row in getattr(several, name):
            assert torch.equal(row, getattr(batch, name)[1])


def test_reference_masks_must_be_there_to_be_read(batch: ExplainerInput) -> None:
    """An explainer that needs them says so; otherwise they are what was given."""
    with pytest.raises(ValueError, match="masks of a decoder"):
        _ = batch.like
    assert replace(batch, reference=batch.cells).like is batch.cells
