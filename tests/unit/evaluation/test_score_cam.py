"""Score-CAM and gScoreCAM against slow loops, batch mates, and two known sounds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.score_cam import (
    gscore_cam,
    score_cam,
    stretched,
    weighted_maps,
)

SIZE = (64, 251)
CLIP = 76  # frames of the fixture's short clip
Attribution = Callable[[ExplainerInput], Tensor]
Slow = Callable[[ExplainerInput, int, Tensor], float]


def maps_of(batch: ExplainerInput) -> Tensor:
    """Maps of the last stage [B, C, f, t]."""
    with torch.no_grad():
        return batch.clap.audio_features(batch.log_mel).last


def slow_mask(map_: Tensor, frames: int) -> Tensor:
    """Interpolate a map linearly, then scale its first frames to [0, 1]."""
    f, t = map_.shape
    rows = (np.arange(64) + 0.5) * f / 64 - 0.5
    columns = (np.arange(251) + 0.5) * t / 251 - 0.5
    tall = [np.interp(rows, np.arange(f), map_[:, j].numpy()) for j in range(t)]
    large = [np.interp(columns, np.arange(t), row) for row in np.stack(tall, 1)]
    clip = np.stack(large)
    low, high = clip[:, :frames].min(), clip[:, :frames].max()
    return torch.from_numpy((clip - low) / (high - low)).clamp(0, 1).float()


def slow_sum(
    batch: ExplainerInput, row: int, maps: Tensor, slow_similarity: Slow
) -> np.ndarray:
    """Algorithm 1 of Score-CAM on maps [C, f, t] of a clip, with its baseline."""
    frames = CLIP if row == 2 else SIZE[1]
    scale = batch.clap.logit_scale
    baseline = scale * slow_similarity(batch, row, torch.zeros(SIZE))
    weights = []
    for one in maps:
        score = scale * slow_similarity(batch, row, slow_mask(one, frames)) - baseline
        weights.append(np.exp(score))
    total = np.zeros(maps.shape[1:])
    for weight, one in zip(weights, maps, strict=True):
        total += weight / sum(weights) * one.numpy()
    return total


def test_score_cam_is_algorithm_1(
    short_and_long: ExplainerInput, slow_similarity: Slow
) -> None:
    """All maps of the last stage, of a long clip and of a short one."""
    found, maps = score_cam(short_and_long), maps_of(short_and_long)
    for row in (0, 2):
        slow = slow_sum(short_and_long, row, maps[row], slow_similarity)
        np.testing.assert_allclose(found[row], slow, atol=2e-4)


def test_gscore_cam_takes_the_maps_of_the_highest_gradient(
    short_and_long: ExplainerInput, slow_similarity: Slow
) -> None:
    """Signed mean over the map; the others have no weight. All of them: Score-CAM."""
    clap, top = short_and_long.clap, 5
    found, maps = gscore_cam(short_and_long, top=top), maps_of(short_and_long)
    assert not found.requires_grad
    for row in (0, 2):
        leaf = maps[row].clone().requires_grad_(True)
        projected = clap.model.audio_projection(leaf.mean((1, 2))[None])
        similarity = torch.cosine_similarity(projected, short_and_long.text[row][None])
        (gradient,) = torch.autograd.grad(similarity.sum(), leaf)
        order = sorted(range(len(leaf)), key=lambda c: -float(gradient[c].mean()))
        chosen = maps[row][order[:top]]
        slow = slow_sum(short_and_long, row, chosen, slow_similarity)
        np.testing.assert_allclose(found[row], slow, atol=2e-4)
    whole = gscore_cam(short_and_long, top=10000)
    torch.testing.assert_close(whole, score_cam(short_and_long), atol=1e-5, rtol=0)


def test_masks_are_stretched_maps(short_and_long: ExplainerInput) -> None:
    """From 0 to 1 over the clip's own frames, and repeated; a constant is empty."""
    maps = torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(0))
    maps[3] = 0.7
    for samples, frames in ((160000, 251), (48000, CLIP)):
        masks = stretched(short_and_long, maps, samples)
        assert masks.shape == (4, *SIZE)
        for mask, map_ in zip(masks[:3], maps, strict=False):
            slow = slow_mask(map_, frames)[:, :frames]
            np.testing.assert_allclose(mask[:, :frames], slow, atol=1e-5)
            assert float(mask.min()) == 0 and float(mask.max()) == pytest.approx(1)
        assert (masks[3] == 0).all()
    torch.testing.assert_close(masks[:3, :, 76:150], masks[:3, :, 1:75])


def test_map_that_masks_the_sound_in_weighs_most(
    one_after_the_other: ExplainerInput,
) -> None:
    """Of two maps, each on one half, that of the prompt's half has more weight."""
    halves = torch.zeros(2, 2, 1, 8)
    halves[:, 0, :, :4], halves[:, 1, :, 4:] = 1, 1
    first, second = weighted_maps(one_after_the_other, halves)
    assert first[0, 0] > 0.8 and second[0, 7] > 0.8
    torch.testing.assert_close(first[0, 0] + first[0, 7], torch.tensor(1.0))


@pytest.mark.parametrize("method", [score_cam, gscore_cam])
def test_no_clip_depends_on_another(
    short_and_long: ExplainerInput, method: Attribution
) -> None:
    """A clip alone has the map that it has in a batch; twice the same, the same."""
    found = method(short_and_long)
    assert torch.equal(method(short_and_long), found)
    for row in (1, 2):
        alone = short_and_long.with_prompts(row, short_and_long.text[row : row + 1])
        torch.testing.assert_close(method(alone)[0], found[row], atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", [score_cam, gscore_cam])
def test_map_lies_on_the_sound_of_its_prompt(
    one_after_the_other: ExplainerInput, method: Attribution
) -> None:
    """More than 0.8 of it on the first half for the first sound, below 0.2 else."""
    found = method(one_after_the_other).relu()
    first, second = (found[..., :4].sum((1, 2)) / found.sum((1, 2))).tolist()
    assert first > 0.8
    assert second < 0.2
