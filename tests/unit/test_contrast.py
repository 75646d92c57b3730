"""Contrast against slow second implementations, and what it promises of its masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lmaczs.clap import AudioEncoding, FrozenClap
from lmaczs.contrast import (
    ContrastOptions,
    contrast_masks,
    factorise,
    margins,
    relative_masks,
    rivals_of,
)
from lmaczs.frontend import DOMAINS, Domain

RATE, SIZE = 32000, 160000  # of the tiny CLAP
PROMPTS = ["a tone", "white noise", "a click"]
QUICK = ContrastOptions(components=(2, 3), iterations=10, steps=3)


def unit(count: int, size: int, seed: int) -> Tensor:
    """Random embeddings."""
    rng = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, size, generator=rng), dim=1)


def slow_factors(given: np.ndarray, count: int, iterations: int) -> np.ndarray:
    """Lee and Seung's updates, cell by cell."""
    random = torch.Generator().manual_seed(count)
    rows, columns = given.shape
    w = torch.rand(rows, count, generator=random).double().numpy() + 0.1
    h = torch.rand(count, columns, generator=random).double().numpy() + 0.1
    for _ in range(iterations):
        v = w @ h
        h = np.array(
            [
                [
                    h[k, t]
                    * sum(w[i, k] * given[i, t] / v[i, t] for i in range(rows))
                    / sum(w[i, k] for i in range(rows))
                    for t in range(columns)
                ]
                for k in range(count)
            ]
        )
        v = w @ h
        w = np.array(
            [
                [
                    w[i, k]
                    * sum(h[k, t] * given[i, t] / v[i, t] for t in range(columns))
                    / sum(h[k, t] for t in range(columns))
                    for k in range(count)
                ]
                for i in range(rows)
            ]
        )
    return np.stack([np.outer(w[:, k], h[k]) for k in range(count)]) / (w @ h)


def test_factorisation_is_lee_and_seungs() -> None:
    """Each component's share of every cell, for each spectrogram as if alone."""
    given = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(1)).double()
    found = factorise(given, 3, 6)
    for one, shares in zip(given, found, strict=True):
        assert shares.numpy() == pytest.approx(
            slow_factors(one.numpy(), 3, 6), abs=1e-6
        )


def test_factorisation_finds_sounds_that_do_not_overlap() -> None:
    """Two spectra with courses of their own become two components."""
    low, high = torch.zeros(2, 8, 20)
    low[:3, :12], high[5:, 9:] = 1.0, 2.0
    shares = factorise((low + high)[None], 2, 100)[0]
    of_low = [(shares[k] * low).sum() / low.sum() for k in range(2)]
    of_high = [(shares[k] * high).sum() / high.sum() for k in range(2)]
    assert sorted(map(float, of_low)) == pytest.approx([0, 1], abs=1e-3)
    assert [float(x) for x in of_high] == pytest.approx(
        [1 - float(x) for x in of_low], abs=2e-3
    )


def test_silence_has_shares_too() -> None:
    """Finite ones that sum to 1."""
    shares = factorise(torch.zeros(1, 4, 6), 3, 20)
    assert shares.sum(1) == pytest.approx(torch.ones(1, 4, 6))


@given(st.integers(0, 9999), st.integers(1, 4), st.integers(2, 5))
def test_margin_is_that_to_the_most_similar_rival(
    seed: int, prompts: int, k: int
) -> None:
    """A contrast that is the prompt itself does not count."""
    text, contrast = unit(prompts, 6, seed), unit(k, 6, seed + 1)
    contrast[0] = text[0]
    sound = unit(1, 6, seed + 2)[0]
    for row, found in enumerate(margins(text, contrast, sound).tolist()):
        others = [
            float(one @ sound)
            for number, one in enumerate(contrast)
            if not (row == 0 and number == 0)
        ]
        assert found == pytest.approx(float(text[row] @ sound) - max(others), abs=1e-5)


def test_relative_masks_are_lower_where_a_rival_is_high() -> None:
    """Unchanged where none is; never of a rival that is the prompt itself."""
    rng = torch.Generator().manual_seed(0)
    masks = torch.rand(2, 3, 4, 5, generator=rng)
    others = torch.rand(2, 2, 4, 5, generator=rng)
    rivals = torch.tensor([[[True, True], [False, True], [True, False]]] * 2)
    found = relative_masks(masks, others, rivals)
    for n, p, f, t in np.ndindex(*masks.shape):
        against = max(float(others[n, k, f, t]) for k in range(2) if rivals[n, p, k])
        mask = float(masks[n, p, f, t])
        assert float(found[n, p, f, t]) == pytest.approx(mask**2 / (mask + against))
    assert torch.allclose(relative_masks(masks, 0 * others, rivals), masks)
    assert not relative_masks(0 * masks, 0 * others, rivals).any()


class Case:
    """A tone in noise, noise alone and noise that fades, each for its prompt."""

    def __init__(
        self, clap: FrozenClap, samples: int = SIZE, domain: Domain = "stft"
    ) -> None:
        front_end = clap.front_end
        time = torch.arange(samples) / RATE
        rng = torch.Generator().manual_seed(0)
        noise = 0.1 * torch.randn(2, samples, generator=rng)
        tone = 0.3 * torch.sin(2 * torch.pi * 1500 * time) * (time % 1 < 0.5)
        wavs = torch.stack([tone + 0.1 * noise[0], noise[0], noise[1] * 10**-time])
        self.clap, self.domain, self.samples = clap, domain, torch.full((3,), samples)
        spectrum = front_end.stft(front_end.fit_length(wavs))
        self.spectrum = spectrum[..., : front_end.n_frames]
        with torch.no_grad():
            log_mel = front_end.stft_to_log_mel(self.spectrum)
            self.encoding = clap.audio_features(log_mel)
        self.text = clap.encode_text(PROMPTS)

    def masks(
        self,
        options: ContrastOptions = QUICK,
        start: Tensor | None = None,
        **more: Tensor,
    ) -> Tensor:
        """Masks of each prompt against all."""
        given = self.spectrum, self.encoding, self.text, self.text, self.samples
        asked = more.get("asked")
        return contrast_masks(self.clap, *given, start, asked, self.domain, options)

    @torch.no_grad()
    def gain(self, masks: Tensor) -> Tensor:
        """Lead over the others in the masked-in sound, less that in the rest."""
        scores = []
        for part in (masks, 1 - masks):
            log_mel = self.clap.front_end.input_tf(self.spectrum, part, self.domain)
            cosines = self.clap.audio_embedding(log_mel) @ self.text.T
            logits = self.clap.logit_scale * cosines
            others = torch.tensor(
                [
                    np.log(np.mean([float(row[k].exp()) for k in range(3) if k != n]))
                    for n, row in enumerate(logits)
                ]
            )
            scores.append(logits.diagonal() - others)
        return scores[0] - scores[1]


@pytest.mark.parametrize("domain", DOMAINS)
def test_steps_never_lose(tiny_clap: FrozenClap, domain: Domain) -> None:
    """Of one factorisation the best mask is taken; masks are in [0, 1]."""
    case = Case(tiny_clap, domain=domain)
    gains = []
    for steps in (0, 2, 6):
        masks = case.masks(ContrastOptions((3,), iterations=10, steps=steps))
        assert masks.min() >= 0 and masks.max() <= 1 and not masks.requires_grad
        gains.append(case.gain(masks))
    assert (gains[1] >= gains[0] - 1e-3).all() and (gains[2] >= gains[1] - 1e-3).all()
    assert (gains[2] > gains[0]).any()
    assert all(weight.grad is None for weight in tiny_clap.parameters())


def test_a_mask_does_not_depend_on_its_batch(tiny_clap: FrozenClap) -> None:
    """Nor on the run."""
    case = Case(tiny_clap)
    together = case.masks()
    assert torch.equal(case.masks(), together)
    alone = ContrastOptions(
        QUICK.components, QUICK.iterations, QUICK.steps, batch_size=1
    )
    assert torch.allclose(case.masks(alone), together, atol=1e-3)


def test_masks_are_a_mean_over_factorisations(tiny_clap: FrozenClap) -> None:
    """Each of which is a mask as it would be alone."""
    case = Case(tiny_clap)
    each = [case.masks(ContrastOptions((k,), 10, 3)) for k in QUICK.components]
    assert torch.allclose(case.masks(), sum(each) / 2, atol=1e-5)


def test_start_decides_without_a_step(tiny_clap: FrozenClap) -> None:
    """A start that keeps all keeps nearly all, one that keeps nothing very little."""
    case = Case(tiny_clap)
    still = ContrastOptions((3,), 10, steps=0)
    ones = torch.ones_like(case.spectrum.real)
    visible = tiny_clap.front_end.visible
    assert case.masks(still, ones)[:, visible].min() > 0.9
    assert case.masks(still, 0 * ones).max() < 0.1


def test_what_is_not_asked_for_is_empty(tiny_clap: FrozenClap) -> None:
    """The others are as without it."""
    case = Case(tiny_clap)
    masks = case.masks(asked=torch.tensor([1.0, 0.0, 1.0]))
    assert not masks[1].any() and torch.equal(masks[::2], case.masks()[::2])


def test_masks_repeat_with_a_short_clip(tiny_clap: FrozenClap) -> None:
    """A clip of half the input's length is repeated, and so is its mask."""
    front_end = tiny_clap.front_end
    case = Case(tiny_clap, samples=SIZE // 2)
    masks = case.masks()
    clip = front_end.crop_mask(masks, SIZE // 2)
    assert torch.equal(front_end.tile_mask(clip, case.samples), masks)


def test_a_rival_is_of_another_embedding(tiny_clap: FrozenClap) -> None:
    """Whatever it is called."""
    text = tiny_clap.encode_text(PROMPTS)
    assert torch.equal(rivals_of(text, text), ~torch.eye(3, dtype=torch.bool))


def test_encoding_is_not_changed(tiny_clap: FrozenClap) -> None:
    """Inputs may be tensors of inference mode."""
    case = Case(tiny_clap)
    with torch.inference_mode():
        encoding = AudioEncoding(
            case.encoding.embedding.clone(),
            tuple(one.clone() for one in case.encoding.features),
            case.encoding.last.clone(),
        )
    case.encoding = encoding
    assert case.masks(ContrastOptions((2,), 5, 1)).shape == case.spectrum.shape
