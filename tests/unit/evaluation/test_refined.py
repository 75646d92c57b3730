"""Refined and fitted masks as explainers: from the batch's own clips and prompts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.explainers import EXPLAINERS
from lmaczs.frontend import DOMAINS, Domain
from lmaczs.presence import reference_text
from lmaczs.refinement import refine


@pytest.fixture(scope="module")
def batch(tiny_clap: FrozenClap) -> ExplainerInput:
    """Two short clips of noise, with masks that keep their lower half."""
    front_end = tiny_clap.front_end
    noise = 0.1 * torch.randn(2, 80000, generator=torch.Generator().manual_seed(0))
    spectrum = front_end.stft(front_end.fit_length(noise))[..., : front_end.n_frames]
    bands = torch.zeros(2, front_end.n_mels, front_end.n_frames)
    bands[:, : front_end.n_mels // 2] = 1
    return ExplainerInput(
        clap=tiny_clap,
        spectrum=spectrum,
        log_mel=front_end.stft_to_log_mel(spectrum),
        text=tiny_clap.encode_text(["white noise", "a dog"]),
        samples=torch.tensor([80000, 80000]),
        reference=front_end.expand_mask(bands),
    )


@pytest.mark.parametrize("domain", DOMAINS)
def test_masks_are_those_of_refinement(batch: ExplainerInput, domain: Domain) -> None:
    """From the reference masks, and from none; among the reference prompts."""
    clap = batch.clap
    start = batch.like[:, :: batch.clap.front_end.n_freqs // 64][:, :64]
    batch = replace(batch, domain=domain)
    if domain == "mel":
        batch = replace(batch, reference=start.round())
    with torch.no_grad():
        encoding = clap.audio_features(batch.log_mel)
    given = clap, batch.spectrum, encoding, batch.text, reference_text(clap)
    for name, first in (("LMAC-ZS+ refined", batch.like), ("fitted", None)):
        expected = refine(*given, batch.samples, first, domain=domain)
        found = EXPLAINERS[name].explained(batch)
        assert torch.equal(found.masks, expected.masks)
        assert torch.equal(found.ranking, expected.soft)
        assert torch.equal(EXPLAINERS[name](batch), expected.masks)


def test_refined_needs_a_decoder(batch: ExplainerInput) -> None:
    """Fitted does not."""
    without = replace(batch, reference=None)
    with pytest.raises(ValueError, match="needs the masks of a decoder"):
        EXPLAINERS["LMAC-ZS+ refined"](without)
    assert EXPLAINERS["fitted"](without).shape == batch.spectrum.shape
