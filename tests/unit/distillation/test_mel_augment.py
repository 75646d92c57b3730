"""What each augmentation keeps, what it changes, and that it can be repeated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from lmaczs.distillation.mel_augment import (
    mix,
    random_band,
    random_filter,
    random_gain,
    random_gate,
    random_stripes,
    rotate,
    rotate_scores,
)

BATCH, BANDS, FRAMES = 24, 16, 20
AUGMENTATIONS = {
    "gain": partial(random_gain, low=-25.0, high=5.0),
    "filter": partial(random_filter, depth=8.0),
    "bands": partial(random_stripes, axis=1, width=0.5),
    "frames": partial(random_stripes, axis=2, width=0.5),
    "band": partial(random_band, probability=0.5),
    "gate": partial(random_gate, probability=0.5),
}
ANY = pytest.mark.parametrize("name", AUGMENTATIONS)
Augmentation = Callable[[Tensor, Generator], Tensor]


def rng(seed: int = 0) -> Generator:
    """Make a generator of a fixed seed."""
    return Generator().manual_seed(seed)


def mel_power(seed: int = 5) -> Tensor:
    """Draw mel power [B, n_mels, T], no cell twice, all above zero."""
    return torch.rand(BATCH, BANDS, FRAMES, generator=rng(seed)) + 1e-3


def change_db(before: Tensor, after: Tensor) -> Tensor:
    """Gain of every cell, dB."""
    return 10 * (after / before).log10()


@ANY
def test_chance_comes_from_the_generator_alone(name: str) -> None:
    """The same seed repeats it, another does not, and the input stays as it is."""
    augmentation: Augmentation = AUGMENTATIONS[name]
    mel = mel_power()
    kept = mel.clone()
    torch.manual_seed(0)
    first = augmentation(mel, rng())
    torch.manual_seed(1)
    assert torch.equal(first, augmentation(mel, rng()))
    assert not torch.equal(first, augmentation(mel, rng(1)))
    assert not torch.equal(first, mel)
    assert torch.equal(mel, kept)
    assert first.shape == mel.shape


@ANY
def test_silence_stays_silent(name: str) -> None:
    """Zeros stay zeros, without NaN."""
    silent = torch.zeros(BATCH, BANDS, FRAMES)
    assert (AUGMENTATIONS[name](silent, rng()) == 0).all()


@ANY
def test_clips_are_drawn_for_one_by_one(name: str) -> None:
    """Equal clips in one batch come out different."""
    mel = mel_power()[:1].expand(BATCH, -1, -1)
    augmented = AUGMENTATIONS[name](mel, rng())
    assert len({tuple(clip.flatten().tolist()) for clip in augmented}) > BATCH // 3


def test_gain_is_one_number_for_a_clip() -> None:
    """Every cell of a clip changes alike, within the limits, which are approached."""
    mel = mel_power()
    gain = change_db(mel, random_gain(mel, rng(), -25.0, 5.0))
    assert torch.allclose(gain, gain[:, :1, :1].expand_as(gain), atol=1e-4)
    assert -25 <= gain.min() < -20
    assert 0 < gain.max() <= 5


def slow_rotate_scores(
    scores: list[list[float]], centres: list[float], shift: float, steps: int
) -> list[list[float]]:
    """Interpolate one clip's scores, time by time and class by class."""
    rows = []
    for step in range(steps):
        time = ((step + 0.5) / steps + shift) % 1
        columns = list(zip(*scores, strict=True))
        rows.append([float(np.interp(time, centres, column)) for column in columns])
    return rows


def test_rotate_is_a_roll_of_each_clip() -> None:
    """The frame that is named comes first, bands stay together, nothing is lost."""
    mel = mel_power()
    shift = torch.randint(FRAMES, (BATCH,), generator=rng())
    rotated = rotate(mel, shift)
    for before, after, first in zip(mel, rotated, shift.tolist(), strict=True):
        assert torch.equal(before.roll(-first, -1), after)


def test_no_rotation() -> None:
    """From the first frame on, or a whole turn later, it is the clip itself."""
    mel = mel_power()
    whole = torch.full((BATCH,), FRAMES)
    assert torch.equal(rotate(mel, torch.zeros_like(whole)), mel)
    assert torch.equal(rotate(mel, whole), mel)


@pytest.mark.parametrize("steps", [1, 5, 8])
def test_rotate_scores_is_a_loop(steps: int) -> None:
    """Linear between the patches' middles, constant beyond the outer ones."""
    scores = mel_power()[:, :7, :4]
    centres = 0.09 + 0.13 * torch.arange(7)
    shift = torch.rand(BATCH, generator=rng())
    shift[0] = 0
    actual = rotate_scores(scores, centres, shift, steps)
    expected = [
        slow_rotate_scores(clip.tolist(), centres.tolist(), first, steps)
        for clip, first in zip(scores, shift.tolist(), strict=True)
    ]
    torch.testing.assert_close(actual, torch.tensor(expected), atol=1e-4, rtol=0)


def test_scores_of_one_patch_last_all_along() -> None:
    """A clip of one patch, or of none that was scored, has the same in every step."""
    scores = mel_power()[:, :1, :4]
    steps = rotate_scores(scores, torch.tensor([0.5]), torch.rand(BATCH), 8)
    assert torch.equal(steps, scores.expand(-1, 8, -1))
    nothing = rotate_scores(scores[..., :0], torch.tensor([0.5]), torch.rand(BATCH), 8)
    assert nothing.shape == (BATCH, 8, 0)


def test_sound_and_scores_are_rotated_alike() -> None:
    """An event is where its scores are, wherever the clip begins."""
    steps, length = 8, 5  # frames of a step
    frames = steps * length
    event = torch.arange(BATCH) % steps
    in_event = torch.arange(frames) // length == event[:, None]
    mel = in_event[:, None].expand(-1, BANDS, -1).float()
    centres = (torch.arange(steps) + 0.5) / steps
    scores = nn.functional.one_hot(event, steps).float()[..., None]
    shift = length * torch.randint(steps, (BATCH,), generator=rng())
    sound = rotate(mel, shift).mean(1).view(BATCH, steps, length).mean(-1)
    found = rotate_scores(scores, centres, shift / frames, steps)[..., 0]
    torch.testing.assert_close(sound, found, atol=1e-4, rtol=0)
    assert torch.equal(sound.argmax(1), (event - shift // length) % steps)


def test_filter_is_a_smooth_curve_over_bands() -> None:
    """All frames alike, within the depth, bent at no more than three inner points."""
    mel = mel_power()
    gain = change_db(mel, random_filter(mel, rng(), 8.0))
    assert torch.allclose(gain, gain[..., :1].expand_as(gain), atol=1e-4)
    assert 5 < gain.abs().max() <= 8
    # bands lie 4 / 15 of a piece apart: slopes are constant but at the joints
    bends = gain[..., 0].diff(n=2).abs() > 1e-3
    assert bends.sum(1).max() <= 6


@pytest.mark.parametrize("axis", [1, 2])
def test_stripes_are_turned_down_by_one_factor(axis: int) -> None:
    """One stripe, no wider than its share; the rest of the clip is untouched."""
    mel = mel_power()
    share = 0.4
    gain = change_db(mel, random_stripes(mel, rng(), axis, share))
    across = 3 - axis
    profile = gain.select(across, 0)
    assert torch.allclose(gain, profile.unsqueeze(across).expand_as(gain), atol=1e-4)
    widths, starts = [], set()
    for clip in profile:
        inside = clip.abs() > 1e-3
        starts.add(int(inside.int().argmax()))
        widths.append(int(inside.sum()))
        assert inside.int().diff().abs().sum() <= 2  # in one piece
        assert widths[-1] <= share * mel.shape[axis] + 1
        if widths[-1]:
            assert clip[inside].max() - clip[inside].min() < 1e-3
            assert -120.1 < clip[inside][0] < -4.9
    assert max(widths) > share * mel.shape[axis] / 2
    assert len(starts) > mel.shape[axis] / 3


def test_band_keeps_one_band_of_some_clips() -> None:
    """Inside nothing changes; outside all is below the floor; others are whole."""
    mel = mel_power()
    gain = change_db(mel, random_band(mel, rng(), 0.5))
    chosen = gain.flatten(1).min(1).values < -1
    assert 0.2 * BATCH < chosen.sum() < 0.8 * BATCH
    assert (gain[~chosen] == 0).all()
    for clip in gain[chosen]:
        kept = clip[:, 0] == 0
        assert kept.int().diff().abs().sum() <= 2
        assert kept[int(0.35 * BANDS) + 1 : int(0.55 * BANDS)].all()
        assert (clip[~kept] < -100).all()
        assert (clip[kept] == 0).all()


def test_gate_keeps_the_strongest_cells() -> None:
    """10 to 90 % are turned down alike; none of them is above one that is kept."""
    mel = mel_power()
    gain = change_db(mel, random_gate(mel, rng(), 1.0))
    shares = []
    for before, clip in zip(mel, gain, strict=True):
        below = clip < -1
        shares.append(float(below.float().mean()))
        assert before[below].max() < before[~below].min()
        assert (clip[~below] == 0).all()
        assert clip[below].max() - clip[below].min() < 1e-3
    assert 0.08 < min(shares) < 0.3
    assert 0.7 < max(shares) < 0.92


@pytest.mark.parametrize("augmentation", [random_band, random_gate])
def test_chance_is_the_share_that_is_changed(
    augmentation: Callable[[Tensor, Generator, float], Tensor],
) -> None:
    """None at 0, all at 1."""
    mel = mel_power()
    assert torch.equal(augmentation(mel, rng(), 0.0), mel)
    changed = (augmentation(mel, rng(), 1.0) != mel).flatten(1).any(1)
    assert changed.all()


def test_mix_adds_the_partner_at_its_level() -> None:
    """The first is whole; the rest is the second, so many dB weaker on average."""
    first, second = mel_power(), 40 * mel_power(6)
    level = torch.linspace(-6, 6, BATCH)
    rest = mix(first, second, level) - first
    ratio = 10 * (first.mean((1, 2)) / rest.mean((1, 2))).log10()
    assert torch.allclose(ratio, level, atol=1e-3)
    scale = rest / second
    assert torch.allclose(scale, scale[:, :1, :1].expand_as(scale), rtol=1e-3)


def test_mix_with_silence() -> None:
    """A silent partner adds nothing; to silence nothing is added. No NaN."""
    sound, silence, level = (
        mel_power(),
        torch.zeros(BATCH, BANDS, FRAMES),
        torch.zeros(1),
    )
    assert torch.equal(mix(sound, silence, level), sound)
    assert torch.equal(mix(silence, sound, level), silence)
    assert torch.equal(mix(silence, silence, level), silence)
