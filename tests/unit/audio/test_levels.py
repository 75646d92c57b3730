"""levels.py: levels that cannot be meant."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmaczs.audio.levels import Levels, level_warnings

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (50_000, 2)).astype(np.float32)
TONE = np.sin(np.arange(50_000) * 0.1).astype(np.float32)[:, None]
SQUARE = np.sign(TONE)


def said(frames: np.ndarray, channel: int | None = None) -> tuple[str, ...]:
    """What is doubtful about frames that come in two blocks."""
    levels = Levels()
    mix = frames.mean(1) if channel is None else frames[:, channel - 1]
    for part in (slice(0, 30_000), slice(30_000, None)):
        levels.add(np.ascontiguousarray(frames[part].T), mix[part])
    assert levels.count == len(frames)
    assert levels.power == pytest.approx(float((mix.astype(float) ** 2).mean()))
    return levels.warnings(channel)


@pytest.mark.parametrize(
    "frames", [NOISE, TONE, 4 * TONE, 1e-3 * NOISE, NOISE * [1, 0.01], NOISE + 0.4]
)
def test_usual_levels_are_not_doubtful(frames: np.ndarray) -> None:
    """Full scale, some overs, quiet ones, channels of which one is quieter, offsets."""
    assert said(frames.astype(np.float32)) == ()


@pytest.mark.parametrize(
    "frames, text",
    [
        (26214 * TONE, "its peak is 26214, and full scale is 1: divide by 32768"),
        (100 * TONE, "divide by 128"),
        (2e9 * TONE, "divide by 2147483648"),
        (1e30 * TONE, "scale it"),
        (0 * NOISE, "the recording is digital silence"),
        (0 * NOISE + 0.25, "it is constant, 0.25"),
        (5e-5 * TONE, "it is faint: its peak is -86 dB of full scale"),
        (np.clip(3 * TONE, -1, 1), "75 % of its samples are clipped"),
        (SQUARE, "clipped at full scale"),
        (NOISE * [0, 1], "channel 1 is silent, of 2"),
        (NOISE[:, [0, 1, 1]] * [0, 1, 1e-6], "channels 1, 3 are silent, of 3"),
        (NOISE[:, :1] * [1, -1], "cancel each other entirely"),
        (NOISE[:, :1] * [1, -0.9], "cancel each other by 26 dB"),
    ],
)
def test_levels_that_cannot_be_meant_are_said(frames: np.ndarray, text: str) -> None:
    """One sentence each, with the way out where there is one."""
    (found,) = said(frames.astype(np.float32))
    assert text in found
    if "channel" in text or "cancel" in text:
        assert "--channel" in found


def test_of_one_channel_only_its_own_level_counts() -> None:
    """The other may be dead, or its opposite, or far too loud."""
    assert said(NOISE * np.float32([1, 0]), 1) == ()
    assert said(NOISE[:, :1] * np.float32([1, -1]), 2) == ()
    assert said(NOISE * np.float32([1e5, 1]), 2) == ()
    assert said(NOISE * np.float32([1, 0]), 2) == ("the recording is digital silence",)


def test_nothing_is_said_of_nothing() -> None:
    """Before anything was added, and for no frames."""
    levels = Levels()
    levels.add(np.zeros((2, 0), np.float32), np.zeros(0, np.float32))
    assert levels.warnings() == () and levels.power == 0


def test_parts_with_other_channels_add_to_the_power() -> None:
    """Joined recordings: what is said of channels is of the first layout."""
    levels = Levels()
    levels.add(NOISE.T, NOISE.mean(1))
    levels.add(TONE.T, TONE[:, 0])
    expected = np.concatenate([NOISE.mean(1), TONE[:, 0]]).astype(float)
    assert levels.power == pytest.approx((expected**2).mean())
    assert levels.warnings() == ()


def test_a_waveform_alone() -> None:
    """As one channel."""
    assert level_warnings(torch.from_numpy(TONE[:, 0])) == ()
    assert "is faint" in level_warnings(1e-5 * torch.from_numpy(TONE[:, 0]))[0]
