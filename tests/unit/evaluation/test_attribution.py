"""Masks that LMAC-ZS+ is compared with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.attribution import (
    NOISE,
    SALIENCIES,
    grad_cam,
    grad_cam_pp,
    integrated_gradients,
    keep_all,
    loudest_bins,
    mask_of,
    shuffled_bins,
    shuffled_patches,
    similarity_of,
    smooth_grad,
)

MASK = torch.rand(3, 65, 70, generator=torch.Generator().manual_seed(0))


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_keep_all_leaves_a_spectrogram_as_it_is() -> None:
    """Multiplying by it changes nothing."""
    assert torch.equal(keep_all(MASK) * MASK, MASK)


def test_shuffles_keep_each_clips_values() -> None:
    """Histogram, and so the mean, of each clip's mask stay."""
    for shuffle in (shuffled_bins, shuffled_patches):
        shuffled = shuffle(MASK, _rng())
        assert shuffled.shape == MASK.shape
        assert not torch.equal(shuffled, MASK)
        for before, after in zip(MASK, shuffled, strict=True):
            assert torch.equal(before.flatten().sort()[0], after.flatten().sort()[0])


def test_shuffles_repeat_under_one_seed() -> None:
    """The same source of chance gives the same mask."""
    for shuffle in (shuffled_bins, shuffled_patches):
        assert torch.equal(shuffle(MASK, _rng()), shuffle(MASK, _rng()))


def test_shuffled_patches_moves_whole_rectangles() -> None:
    """A mask that is constant in each rectangle still is so afterwards."""
    values = torch.rand(1, 8, 8, generator=_rng())
    mask = values.repeat_interleave(4, 1).repeat_interleave(3, 2)
    shuffled = shuffled_patches(mask, _rng(), patches=8)
    tiles = shuffled.reshape(1, 8, 4, 8, 3)
    assert torch.equal(tiles, tiles[:, :, :1, :, :1].expand_as(tiles))
    assert torch.equal(
        tiles[:, :, 0, :, 0].flatten().sort()[0], values.flatten().sort()[0]
    )


def test_loudest_bins_is_a_sort() -> None:
    """The loudest cells of each clip are kept, as many as make the same mean."""
    power = torch.rand(3, 65, 70, generator=_rng())
    kept = loudest_bins(power, MASK)
    for one, own, given in zip(power, kept, MASK, strict=True):
        count = round(float(given.mean()) * given.numel())
        cells = sorted(one.flatten().tolist(), reverse=True)
        assert int(own.sum()) == count
        assert float(one[own == 1].min()) == pytest.approx(cells[count - 1])


# --- gradient methods ---------------------------------------------------------------


@pytest.fixture(scope="module")
def case(tiny_clap: FrozenClap) -> tuple[FrozenClap, Tensor, Tensor]:
    """A CLAP, the log-mel of two clips of noise and tone, and a prompt for each."""
    time = torch.arange(160000) / 32000
    tone = 0.3 * torch.sin(2 * torch.pi * 1500 * time) * (time % 1 < 0.5)
    noise = 0.1 * torch.randn(160000, generator=_rng())
    log_mel = tiny_clap.front_end.log_mel(torch.stack([tone, noise]))
    return tiny_clap, log_mel, tiny_clap.encode_text(["a tone", "white noise"])


@pytest.mark.parametrize("name", SALIENCIES)
def test_saliencies_become_masks(
    case: tuple[FrozenClap, Tensor, Tensor], name: str
) -> None:
    """Every method gives a mask in [0, 1] on the STFT; no clip depends on another."""
    clap, log_mel, text = case
    saliency = SALIENCIES[name](clap, log_mel, text, 0)
    mask = mask_of(saliency, clap.front_end)
    front_end = clap.front_end
    assert mask.shape == (2, front_end.n_freqs, front_end.n_frames)
    assert mask.min() >= 0 and mask.max() <= 1
    assert not mask.requires_grad
    mel = mask_of(saliency, front_end, mel=True)
    assert mel.shape == (2, front_end.n_mels, front_end.n_frames)
    assert all(peak in (0, 1) for peak in mel.amax((1, 2)).tolist())
    if name != "SmoothGrad":  # its noise is drawn for the batch
        alone = SALIENCIES[name](clap, log_mel[1:], text[1:], 0)
        torch.testing.assert_close(alone, saliency[1:], rtol=1e-3, atol=1e-7)


def test_mask_of_its_rule(case: tuple[FrozenClap, Tensor, Tensor]) -> None:
    """Negative is zero, the highest is one, nothing positive is an empty mask."""
    front_end = case[0].front_end
    grid = torch.full((2, front_end.n_mels, front_end.n_frames), -3.0)
    grid[0, 5, 7], grid[0, 9, 9] = 4.0, 1.0
    mask = mask_of(grid, front_end, mel=True)
    assert mask[0, 5, 7] == 1 and mask[0, 9, 9] == 0.25
    assert int((mask > 0).sum()) == 2
    whole = mask_of(grid, front_end)
    torch.testing.assert_close(whole, front_end.expand_mask(mask))


def _slow_cams(
    clap: FrozenClap, log_mel: Tensor, text: Tensor
) -> tuple[np.ndarray, ...]:
    """Grad-CAM and Grad-CAM++ of one clip, cell by cell."""
    maps = clap.audio_features(log_mel).last[0].detach().double()
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


def test_cams_are_their_definitions(case: tuple[FrozenClap, Tensor, Tensor]) -> None:
    """Weights by the mean gradient, or by eq. 19 of Grad-CAM++, then a sum."""
    clap, log_mel, text = case
    slow = _slow_cams(clap, log_mel[:1], text[:1])
    for method, expected in zip((grad_cam, grad_cam_pp), slow, strict=True):
        found = method(clap, log_mel[:1], text[:1])[0].numpy()
        scale = max(1e-9, expected.max())
        np.testing.assert_allclose(found, expected, atol=2e-3 * scale)


def test_integrated_gradients_are_a_path_integral(
    case: tuple[FrozenClap, Tensor, Tensor],
) -> None:
    """Mean gradient on the way from silence, by midpoints, times the way."""
    clap, log_mel, text = case
    one, words = log_mel[:1], text[:1]
    found = integrated_gradients(clap, one, words)[0]
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


def test_smooth_grad_is_a_mean_over_noise(
    case: tuple[FrozenClap, Tensor, Tensor],
) -> None:
    """Like a mean over other draws; repeatable; the global generator is left alone."""
    clap, log_mel, text = case
    one, words = log_mel[:1], text[:1]
    state = torch.random.get_rng_state()
    found = smooth_grad(clap, one, words, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(smooth_grad(clap, one, words, seed=3), found)
    assert not torch.equal(smooth_grad(clap, one, words, seed=4), found)
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
