"""Gradient methods against slow loops over their definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.attribution import (
    NOISE,
    carry,
    grad_cam,
    grad_cam_pp,
    gradient_explainer,
    integrated_gradients,
    normalise_attribution,
    similarity_of,
    smooth_grad,
)
from lmaczs.evaluation.explainer import ExplainerInput

METHODS = (grad_cam, grad_cam_pp, smooth_grad, integrated_gradients)


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.fixture(scope="module")
def case(tiny_clap: FrozenClap) -> ExplainerInput:
    """Two clips, a tone and noise, and a prompt for each."""
    time = torch.arange(160000) / 32000
    tone = 0.3 * torch.sin(2 * torch.pi * 1500 * time) * (time % 1 < 0.5)
    noise = 0.1 * torch.randn(160000, generator=_rng())
    front_end = tiny_clap.front_end
    spectrum = front_end.stft(torch.stack([tone, noise]))
    return ExplainerInput(
        tiny_clap,
        spectrum[..., : front_end.n_frames],
        front_end.stft_to_log_mel(spectrum),
        tiny_clap.encode_text(["a tone", "white noise"]),
        torch.tensor([160000, 160000]),
    )


def alone(case: ExplainerInput, row: int) -> ExplainerInput:
    """One clip with its prompt."""
    return case.with_prompts(row, case.text[row : row + 1])


@pytest.mark.parametrize("method", METHODS)
def test_attributions_become_masks(case: ExplainerInput, method: object) -> None:
    """Every method gives a mask in [0, 1] on the STFT; no clip depends on another."""
    front_end = case.clap.front_end
    found = method(case)
    mask = gradient_explainer(lambda batch: found)(case)
    assert mask.shape == (2, front_end.n_freqs, front_end.n_frames)
    assert mask.min() >= 0 and mask.max() <= 1
    assert not mask.requires_grad
    mel = gradient_explainer(lambda batch: found)(replace(case, domain="mel"))
    assert mel.shape == (2, front_end.n_mels, front_end.n_frames)
    assert all(peak in (0, 1) for peak in mel.amax((1, 2)).tolist())
    torch.testing.assert_close(method(alone(case, 1)), found[1:], rtol=1e-3, atol=1e-7)


def test_rule_of_masks(case: ExplainerInput) -> None:
    """Negative is zero, the highest is one, nothing positive is an empty mask."""
    front_end = case.clap.front_end
    grid = torch.full((2, front_end.n_mels, front_end.n_frames), -3.0)
    grid[0, 5, 7], grid[0, 9, 9] = 4.0, 1.0
    mask = normalise_attribution(grid, front_end, mel=True)
    assert mask[0, 5, 7] == 1 and mask[0, 9, 9] == 0.25
    assert int((mask > 0).sum()) == 2
    whole = normalise_attribution(grid, front_end)
    torch.testing.assert_close(whole, front_end.expand_mask(mask))


def test_maps_are_carried_to_the_grid_of_masks(case: ExplainerInput) -> None:
    """Linearly, with their signs; a positive one is the mask before it is scaled."""
    front_end = case.clap.front_end
    coarse = torch.randn(2, 8, 16, generator=_rng())
    for mel in (False, True):
        found, opposite = (carry(sign * coarse, front_end, mel) for sign in (1, -1))
        heard = slice(None) if mel else front_end.visible
        assert torch.equal(found[:, heard], -opposite[:, heard])
        lowest = found.amin((1, 2), keepdim=True)
        assert mel or (found[:, ~front_end.visible] == lowest).all()
        mask = normalise_attribution(coarse.abs(), front_end, mel)
        assert mask.shape == found.shape
        carried = carry(coarse.abs(), front_end, mel)
        peaks = carry(coarse.abs(), front_end, True).amax((1, 2), keepdim=True)
        torch.testing.assert_close(mask[:, heard], (carried / peaks)[:, heard])
    whole = torch.randn(2, front_end.n_freqs, front_end.n_frames, generator=_rng())
    assert carry(whole, front_end) is whole


def _slow_cams(one: ExplainerInput) -> tuple[np.ndarray, ...]:
    """Grad-CAM and Grad-CAM++ of one clip, cell by cell."""
    clap, text = one.clap, one.text
    maps = clap.audio_features(one.log_mel).last[0].detach().double()
    project = clap.model.audio_projection.double()
    leaf = maps.clone().requires_grad_(True)
    embedding = torch.nn.functional.normalize(project(leaf.mean((1, 2))[None]), dim=-1)
    gradient = torch.autograd.grad((embedding @ text[0].double()).sum(), leaf)[0]
    project.float()
    a, g = maps.numpy(), gradient.numpy()
    channels, freqs, frames = a.shape
    cam, cam_pp = np.zeros((freqs, frames)), np.zeros((freqs, frames))
    for c in range(channels):
        weight = g[c].mean()
        weight_pp = 0.0
        for f in range(freqs):
            for t in range(frames):
                below = 2 * g[c, f, t] ** 2 + a[c].sum() * g[c, f, t] ** 3
                weight_pp += g[c, f, t] ** 2 / below * max(0.0, g[c, f, t])
        cam += weight * a[c]
        cam_pp += weight_pp * a[c]
    return np.maximum(cam, 0), np.maximum(cam_pp, 0)


def test_cams_are_their_definitions(case: ExplainerInput) -> None:
    """Weights by the mean gradient, or by eq. 19 of Grad-CAM++, then a sum."""
    one = alone(case, 0)
    slow = _slow_cams(one)
    for method, expected in zip((grad_cam, grad_cam_pp), slow, strict=True):
        found = method(one)[0].numpy()
        scale = max(1e-9, expected.max())
        np.testing.assert_allclose(found, expected, atol=2e-3 * scale)


def test_integrated_gradients_are_a_path_integral(case: ExplainerInput) -> None:
    """Mean gradient on the way from silence, by midpoints, times the way."""
    clip = alone(case, 0)
    clap, one, words = clip.clap, clip.log_mel, clip.text
    found = integrated_gradients(clip)[0]
    silence = torch.full_like(one, -100.0)
    total = torch.zeros_like(one)
    for step in range(50):
        place = silence + (step + 0.5) / 50 * (one - silence)
        place.requires_grad_(True)
        value = similarity_of(clap, place, words).sum()
        total += torch.autograd.grad(value, place)[0]
    slow = ((one - silence) * total / 50)[0, 0].T
    both = torch.stack([found.flatten(), slow.flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.98
    with torch.no_grad():
        gained = similarity_of(clap, one, words) - similarity_of(clap, silence, words)
    assert float(found.sum()) == pytest.approx(float(gained), abs=0.03)


def test_smooth_grad_is_a_mean_over_noise(case: ExplainerInput) -> None:
    """Like a mean over other draws; repeatable; the global generator is left alone."""
    clip = replace(alone(case, 0), seed=3)
    clap, one, words = clip.clap, clip.log_mel, clip.text
    state = torch.random.get_rng_state()
    found = smooth_grad(clip)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(smooth_grad(clip), found)
    assert not torch.equal(smooth_grad(replace(clip, seed=4)), found)
    rng, spread = _rng(), NOISE * (one.max() - one.min())
    total = torch.zeros_like(one)
    for _ in range(50):
        noisy = one + spread * torch.randn(one.shape, generator=rng)
        noisy.requires_grad_(True)
        value = similarity_of(clap, noisy, words).sum()
        total += torch.autograd.grad(value, noisy)[0]
    slow = (total / 50).abs()[:, 0].transpose(1, 2)
    both = torch.stack([found.flatten(), slow.flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.5
    assert float(found.mean() / slow.mean()) == pytest.approx(1, abs=0.25)
