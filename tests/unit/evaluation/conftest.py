"""Batches that attributions explain, for a random CLAP and for the embedded one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.demo.scenes import render
from lmaczs.evaluation.attribution import similarity_of
from lmaczs.evaluation.explainer import ExplainerInput

EMBEDDED = Path(__file__).parents[3] / "pretrained" / "clap_small"


def _batch(clap: FrozenClap, wavs: list[Tensor], prompts: list[str]) -> ExplainerInput:
    """Clips of any length with a prompt for each."""
    front_end = clap.front_end
    fitted = torch.cat([front_end.fit_length(wav[None]) for wav in wavs])
    spectrum = front_end.stft(fitted)[..., : front_end.n_frames]
    return ExplainerInput(
        clap,
        spectrum,
        front_end.stft_to_log_mel(spectrum),
        clap.encode_text(prompts),
        torch.tensor([min(len(wav), front_end.max_samples) for wav in wavs]),
        seed=3,
    )


@pytest.fixture(scope="session")
def short_and_long(tiny_clap: FrozenClap) -> ExplainerInput:
    """A tone and noise of 5 s, and a click of 1.5 s, which the input repeats."""
    time = torch.arange(160000) / 32000
    noise = 0.1 * torch.randn(160000, generator=torch.Generator().manual_seed(1))
    tone = 0.3 * torch.sin(2 * torch.pi * 1500 * time) * (time % 1 < 0.5)
    click = (noise * 100 ** -(time % 1))[:48000]
    return _batch(tiny_clap, [tone, noise, click], ["a tone", "white noise", "a click"])


@pytest.fixture(scope="session")
def one_after_the_other() -> ExplainerInput:
    """A dog and then church bells, once with each prompt, for the embedded CLAP."""
    clap = FrozenClap.from_pretrained(EMBEDDED)
    halves = [
        render(name, 32000, 3.0, seed=0)[:80000] for name in ("dog", "church_bells")
    ]
    wav = torch.cat(halves).float()
    prompts = [f"This is a sound of {label}." for label in ("dog", "church bells")]
    return _batch(clap, [wav, wav], prompts)


@pytest.fixture(scope="session")
def slow_similarity() -> Callable[[ExplainerInput, int, Tensor], float]:
    """Oracle: similarity of one clip under a mask, by the decibels that it takes."""

    def similarity(batch: ExplainerInput, row: int, mask: Tensor) -> float:
        tiled = batch.clap.front_end.tile_mask(mask[None], batch.samples[row])[0]
        change = 20 * torch.log10(tiled.double()).clamp_min(-1000)
        log_mel = (batch.log_mel[row].double() + change.T).clamp_min(-100).float()
        with torch.no_grad():
            text = batch.text[row : row + 1]
            return float(similarity_of(batch.clap, log_mel[None], text))

    return similarity
