"""Augmentations of sound that keep its meaning, on mel power.

All of them act on mel power ``[B, n_mels, T]`` (not on dB), where gain is a product and
a mixture is a sum. What is drawn comes from the generator that is passed in, so that a
run can be repeated and resumed.

Cells at the extractor's floor, band-limited and gated versions are part of the set: an
encoder that is to be explained by masks has to know what masked sound looks like.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lmaczs.audio.scales import db_to_power

SILENT = 1e-12  # factor that brings any cell of real sound to the extractor's floor


def _uniform(shape: tuple[int, ...], low: float, high: float, rng: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=rng)


def random_gain(mel: Tensor, rng: Generator, low: float, high: float) -> Tensor:
    """Change each clip's level by a gain drawn between two values.

    Parameters
    ----------
    mel : Tensor [B, n_mels, T]
        Mel power.
    rng : Generator
        Source of chance.
    low : float
        Lowest gain, dB.
    high : float
        Highest gain, dB.

    Returns
    -------
    Tensor [B, n_mels, T]
    """
    return mel * db_to_power(_uniform((len(mel), 1, 1), low, high, rng))


def rotate(mel: Tensor, shift: Tensor) -> Tensor:
    """Rotate each clip in time, as if it had been looped.

    Parameters
    ----------
    mel : Tensor [B, n_mels, T]
        Mel power.
    shift : Tensor [B]
        Frame that comes first.

    Returns
    -------
    Tensor [B, n_mels, T]
    """
    frames = mel.shape[-1]
    index = (torch.arange(frames) + shift[:, None]) % frames
    return mel.gather(-1, index[:, None].expand_as(mel))


def rotate_scores(scores: Tensor, centres: Tensor, shift: Tensor, steps: int) -> Tensor:
    """Scores of patches of a rotated clip, at equal steps of time.

    Parameters
    ----------
    scores : Tensor [B, P, K]
        Scores of P patches of a clip before it was rotated.
    centres : Tensor [P]
        Middle of each patch, in lengths of the clip, equally spaced.
    shift : Tensor [B]
        What comes first, in lengths of the clip.
    steps : int
        Number S of stretches that the clip is divided into.

    Returns
    -------
    Tensor [B, S, K]
        Interpolated linearly at the middles of the stretches.
    """
    if len(centres) == 1:
        return scores.expand(-1, steps, -1)
    time = ((torch.arange(steps) + 0.5) / steps + shift[:, None]) % 1
    place = (time - centres[0]) / (centres[1] - centres[0])
    place = place.clamp(0, len(centres) - 1)
    low = place.floor().long().clamp(max=len(centres) - 2)
    weight = (place - low)[..., None]
    low = low[..., None].expand(-1, -1, scores.shape[-1])
    return scores.gather(1, low) * (1 - weight) + scores.gather(1, low + 1) * weight


def random_filter(mel: Tensor, rng: Generator, depth: float) -> Tensor:
    """Colour each clip by a smooth random equaliser, as another microphone would.

    Parameters
    ----------
    mel : Tensor [B, n_mels, T]
        Mel power.
    rng : Generator
        Source of chance.
    depth : float
        Gains are drawn within plus or minus this many dB at five points.

    Returns
    -------
    Tensor [B, n_mels, T]
    """
    points = _uniform((len(mel), 1, 5), -depth, depth, rng)
    curve = torch.nn.functional.interpolate(
        points, size=mel.shape[1], mode="linear", align_corners=True
    )
    return mel * db_to_power(curve.transpose(1, 2))


def random_stripes(mel: Tensor, rng: Generator, axis: int, share: float) -> Tensor:
    """Attenuate a stripe of bands or frames (SpecAugment, Park et al., 2019).

    The stripe is not filled with a constant but turned down by 5 to 120 dB: a mask
    that is not quite zero, or zero.

    Parameters
    ----------
    mel : Tensor [B, n_mels, T]
        Mel power.
    rng : Generator
        Source of chance.
    axis : int
        1 for bands, 2 for frames.
    share : float
        The widest stripe, as a share of the axis.

    Returns
    -------
    Tensor [B, n_mels, T]
    """
    size = mel.shape[axis]
    width = _uniform((len(mel), 1), 0, share * size, rng)
    start = _uniform((len(mel), 1), 0, 1, rng) * (size - width)
    cell = torch.arange(size)
    inside = (cell >= start) & (cell < start + width)
    inside = inside[:, :, None] if axis == 1 else inside[:, None, :]
    return mel * torch.where(inside, _random_attenuation(len(mel), rng), 1.0)


def random_band(mel: Tensor, rng: Generator, chance: float) -> Tensor:
    """Keep one band of some clips, as telephones and small speakers do.

    Parameters
    ----------
    mel : Tensor [B, n_mels, T]
        Mel power.
    rng : Generator
        Source of chance.
    chance : float
        Share of the clips that are filtered so.

    Returns
    -------
    Tensor [B, n_mels, T]
    """
    bands = mel.shape[1]
    low = _uniform((len(mel), 1), 0, 0.35 * bands, rng)
    high = _uniform((len(mel), 1), 0.55 * bands, bands, rng)
    cell = torch.arange(bands)
    outside = ((cell < low) | (cell > high))[:, :, None]
    return _on_some(mel, mel * torch.where(outside, SILENT, 1.0), rng, chance)


def random_gate(mel: Tensor, rng: Generator, chance: float) -> Tensor:
    """Keep only the strongest cells of some clips, at any share from 10 to 90 %.

    This is what a good mask leaves, so the encoder must know it.

    Parameters
    ----------
    mel : Tensor [B, n_mels, T]
        Mel power.
    rng : Generator
        Source of chance.
    chance : float
        Share of the clips that are gated.

    Returns
    -------
    Tensor [B, n_mels, T]
    """
    flat = mel.flatten(1).sort(dim=1).values
    dropped = _uniform((len(mel), 1), 0.1, 0.9, rng)
    rank = (dropped * (flat.shape[1] - 1)).long()
    threshold = flat.gather(1, rank)[:, :, None]
    below = torch.where(mel < threshold, _random_attenuation(len(mel), rng), 1.0)
    return _on_some(mel, mel * below, rng, chance)


def mix(first: Tensor, second: Tensor, level: Tensor) -> Tensor:
    """Sum of two sounds in the power domain, the second at a level below the first.

    Parameters
    ----------
    first : Tensor [B, n_mels, T]
        Mel power.
    second : Tensor [B, n_mels, T]
        Mel power of the partners.
    level : Tensor [B]
        Level of the first above the second, dB, by their mean power.

    Returns
    -------
    Tensor [B, n_mels, T]
        At the level of the first. A silent partner leaves the first as it is.
    """
    ratio = first.mean((1, 2)) / second.mean((1, 2)).clamp_min(1e-20)
    return first + second * (ratio / db_to_power(level))[:, None, None]


def _random_attenuation(batch: int, rng: Generator) -> Tensor:
    """Factors [B, 1, 1] on power of -5 to -120 dB."""
    return db_to_power(_uniform((batch, 1, 1), -120, -5, rng))


def _on_some(mel: Tensor, changed: Tensor, rng: Generator, chance: float) -> Tensor:
    chosen = torch.rand((len(mel), 1, 1), generator=rng) < chance
    return torch.where(chosen, changed, mel)
