"""Two sounds in one clip: at once, or one after the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def below(sound: Tensor, other: Tensor, level_db: float) -> Tensor:
    """Bring a sound to a level below another's.

    Parameters
    ----------
    sound : Tensor [samples]
        A waveform, not silent.
    other : Tensor [samples]
        The other waveform; below silence is silence.
    level_db : float
        dB, by energy.

    Returns
    -------
    Tensor [samples]
    """
    ratio = other.square().sum() / sound.square().sum()
    return ratio.sqrt() * 10 ** (-level_db / 20) * sound


def mix_waveforms(first: Tensor, second: Tensor, level_db: float) -> Tensor:
    """Two sounds of one length at once, the first at a level above the second.

    Parameters
    ----------
    first : Tensor [samples]
        A waveform. Where one of the two is silent, both are returned as they are.
    second : Tensor [samples]
        The other waveform.
    level_db : float
        Level of the first above the second, dB, by energy.

    Returns
    -------
    Tensor [2, samples]
        The two, of which the mixture is the sum: at the level of the first, turned down
        where it would clip.
    """
    if min(first.square().sum(), second.square().sum()) == 0:
        return torch.stack([first, second])
    return unclipped(torch.stack([first, below(second, first, level_db)]))


def in_turn(
    first: Tensor, second: Tensor, share: float, level_db: float, first_leads: bool
) -> Tensor:
    """Two sounds one after the other, of each its loudest stretch.

    Parameters
    ----------
    first : Tensor [samples]
        A waveform.
    second : Tensor [samples]
        The other one, as long.
    share : float
        Of the time that the first gets, in (0, 1).
    level_db : float
        Level of the first above the second, dB, by mean power. A silent one stays so.
    first_leads : bool
        Whether the first comes first.

    Returns
    -------
    Tensor [2, samples]
        The two, each silent while the other sounds; the first at its own level.
    """
    cut = round(share * len(first))
    parts = [loudest_stretch(first, cut), loudest_stretch(second, len(first) - cut)]
    powers = [part.square().mean() for part in parts]
    if min(powers) > 0:
        parts[1] = parts[1] * (powers[0] / powers[1]).sqrt() * 10 ** (-level_db / 20)
    size, rest = len(parts[0]), len(parts[1])
    pads = [(0, rest), (size, 0)] if first_leads else [(rest, 0), (0, size)]
    joined = [nn.functional.pad(p, pad) for p, pad in zip(parts, pads, strict=True)]
    return torch.stack(joined)


def unclipped(sources: Tensor) -> Tensor:
    """Turn sounds down as one where their sum would clip.

    Parameters
    ----------
    sources : Tensor [S, samples]
        Waveforms that sound at once.

    Returns
    -------
    Tensor [S, samples]
    """
    return sources / sources.sum(0).abs().max().clamp_min(1.0)


def loudest_stretch(wav: Tensor, samples: int) -> Tensor:
    """Stretch of a waveform that has the most energy.

    Parameters
    ----------
    wav : Tensor [n]
        A waveform.
    samples : int
        Length of the stretch, from 1 to n.

    Returns
    -------
    Tensor [samples]
        The first of equals.
    """
    before = nn.functional.pad(wav.double().square().cumsum(0), (1, 0))
    start = int((before[samples:] - before[:-samples]).argmax())
    return wav[start : start + samples]
