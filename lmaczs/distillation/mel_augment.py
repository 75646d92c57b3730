"""Augmentations of mel power ``[B, n_mels, T]``, for training an audio encoder.

On power (not dB) a gain is a factor and a mixture a sum. The random generator is passed
in, so that a run can resume; SpecAugment of SpeechBrain and torchaudio uses the global
one, and fills stripes with a constant. Cells at the extractor's floor, band-limited and
gated versions are among them: an encoder that is to be explained by masks has to know
masked sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from lmaczs.audio.scales import db_to_power

SILENT = 1e-12  # factor that brings any cell of real sound to the extractor's floor
ATTENUATION_DB = (-120.0, -5.0)  # of masked cells: a mask near zero, or zero


@dataclass(frozen=True)
class MelAugment:
    """A random gain, filter, gate, band and two stripes, one after the other."""

    gain_db: tuple[float, float] = (-25.0, 5.0)  # lowest and highest
    filter_db: float = 8.0  # see `random_filter`
    gate_prob: float = 0.3  # this and what follows at full strength
    band_prob: float = 0.15
    mel_stripe: float = 0.3  # widest stripe, a fraction of all bands
    time_stripe: float = 0.4  # widest stripe, a fraction of the clip

    def __call__(self, mel: Tensor, rng: Generator, strength: float) -> Tensor:
        """Augment a batch; `strength` in [0, 1] scales all but gain and filter."""
        mel = random_gain(mel, rng, *self.gain_db)
        mel = random_filter(mel, rng, self.filter_db)
        mel = random_gate(mel, rng, self.gate_prob * strength)
        mel = random_band(mel, rng, self.band_prob * strength)
        for axis, width in ((1, self.mel_stripe), (2, self.time_stripe)):
            mel = random_stripes(mel, rng, axis, width * strength)
        return mel


def random_gain(mel: Tensor, rng: Generator, low: float, high: float) -> Tensor:
    """Multiply each clip by a gain drawn between `low` and `high` dB."""
    return mel * db_to_power(_uniform((len(mel), 1, 1), low, high, rng))


def rotate(mel: Tensor, shift: Tensor) -> Tensor:
    """Rotate each clip in time, so that it begins at frame ``shift [B]``."""
    frames = mel.shape[-1]
    index = (torch.arange(frames) + shift[:, None]) % frames
    return mel.gather(-1, index[:, None].expand_as(mel))


def rotate_scores(scores: Tensor, centres: Tensor, shift: Tensor, steps: int) -> Tensor:
    """Scores [B, S, K] at S equal stretches of a rotated clip, by linear interpolation.

    From `scores` [B, P, K] before the rotation, of patches whose `centres` [P] are
    equally spaced; they and the new beginning `shift` [B] are fractions of the clip.
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

    Gains within plus or minus `depth` dB are drawn at five points and interpolated.
    """
    points = _uniform((len(mel), 1, 5), -depth, depth, rng)
    curve = torch.nn.functional.interpolate(
        points, size=mel.shape[1], mode="linear", align_corners=True
    )
    return mel * db_to_power(curve.transpose(1, 2))


def random_stripes(mel: Tensor, rng: Generator, axis: int, width: float) -> Tensor:
    """Attenuate one stripe of bands (axis 1) or frames (axis 2) by 5 to 120 dB.

    Its width is at most the fraction `width` of the axis (SpecAugment, Park et al.,
    2019).
    """
    size = mel.shape[axis]
    widths = _uniform((len(mel), 1), 0, width * size, rng)
    start = _uniform((len(mel), 1), 0, 1, rng) * (size - widths)
    cell = torch.arange(size)
    inside = (cell >= start) & (cell < start + widths)
    inside = inside[:, :, None] if axis == 1 else inside[:, None, :]
    return mel * torch.where(inside, _random_attenuation(len(mel), rng), 1.0)


def random_band(mel: Tensor, rng: Generator, probability: float) -> Tensor:
    """Limit some clips to one band, as telephones and small speakers do."""
    bands = mel.shape[1]
    low = _uniform((len(mel), 1), 0, 0.35 * bands, rng)
    high = _uniform((len(mel), 1), 0.55 * bands, bands, rng)
    cell = torch.arange(bands)
    outside = ((cell < low) | (cell > high))[:, :, None]
    return _on_some(mel, mel * torch.where(outside, SILENT, 1.0), rng, probability)


def random_gate(mel: Tensor, rng: Generator, probability: float) -> Tensor:
    """Keep the strongest 10 to 90 % of the cells of some clips, as a good mask does."""
    flat = mel.flatten(1).sort(dim=1).values
    dropped = _uniform((len(mel), 1), 0.1, 0.9, rng)
    rank = (dropped * (flat.shape[1] - 1)).long()
    threshold = flat.gather(1, rank)[:, :, None]
    below = torch.where(mel < threshold, _random_attenuation(len(mel), rng), 1.0)
    return _on_some(mel, mel * below, rng, probability)


def mix(first: Tensor, second: Tensor, snr_db: Tensor) -> Tensor:
    """Add `second` to `first` at an SNR of ``snr_db [B]``, by their mean power.

    Where the second is silent, the first stays as it is.
    """
    ratio = first.mean((1, 2)) / second.mean((1, 2)).clamp_min(1e-20)
    return first + second * (ratio / db_to_power(snr_db))[:, None, None]


def _uniform(shape: tuple[int, ...], low: float, high: float, rng: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=rng)


def _random_attenuation(batch: int, rng: Generator) -> Tensor:
    return db_to_power(_uniform((batch, 1, 1), *ATTENUATION_DB, rng))


def _on_some(
    mel: Tensor, changed: Tensor, rng: Generator, probability: float
) -> Tensor:
    chosen = torch.rand((len(mel), 1, 1), generator=rng) < probability
    return torch.where(chosen, changed, mel)
