"""Augmentation of training clips: a stretch, another speed, noise, a narrow band.

A model is surer of the clips that it was trained on than of others. Augmented, they are
about as uncertain as new ones, so that a decoder does not train on certainty alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from lmaczs.audio.effects import (
    change_speed,
    coloured_noise,
    high_pass,
    low_pass,
    tile_or_crop,
)
from lmaczs.audio.mixing import limit_peak, scale_to_snr

SPEEDS = tuple(
    Fraction(*pair) for pair in ((5, 8), (2, 3), (4, 5), (5, 4), (3, 2), (8, 5))
)
"""Few, because each has its own resampling filter; with their inverses."""


@dataclass(frozen=True)
class WaveformAugment:
    """Augmentation of clips; each of the four effects is drawn independently.

    Attributes
    ----------
    crop_prob : float
        Probability that a clip is cut to a random stretch, see `crop`.
    shortest_crop : float
        Shortest stretch, seconds.
    speed_prob : float
        Probability that a clip is played at one of `SPEEDS`.
    noise_prob : float
        Probability that noise between white and brown is added.
    noise_snr_db : tuple of float
        Lowest and highest level of the clip above the noise, dB.
    band_prob : float
        Probability of a low-pass or high-pass filter.
    band_hz : tuple of float
        Lowest and highest frequency of that filter, Hz.
    """

    crop_prob: float = 0.0
    shortest_crop: float = 1.0
    speed_prob: float = 0.0
    noise_prob: float = 0.0
    noise_snr_db: tuple[float, float] = (5.0, 40.0)
    band_prob: float = 0.0
    band_hz: tuple[float, float] = (300.0, 6000.0)

    def crop(self, wav: Tensor, sample_rate: int, rng: np.random.Generator) -> Tensor:
        """Cut a clip [samples] to a random stretch, or return it as it is.

        Recordings are of any length, and an encoder repeats or pads short ones.
        """
        shortest = round(self.shortest_crop * sample_rate)
        if rng.random() >= self.crop_prob or len(wav) <= shortest:
            return wav
        length = int(rng.integers(shortest, len(wav)))
        start = int(rng.integers(len(wav) - length + 1))
        return wav[start : start + length]

    def __call__(
        self, sources: Tensor, sample_rate: int, rng: np.random.Generator
    ) -> Tensor:
        """Augment sources [S, samples] whose sum is a clip, or return them as they are.

        Noise becomes one more source; all are turned down where the sum would clip.
        """
        clean, samples = sources, sources.shape[-1]
        if rng.random() < self.speed_prob:
            speed = SPEEDS[int(rng.integers(len(SPEEDS)))]
            sources = tile_or_crop(change_speed(sources, speed), samples)
        if rng.random() < self.noise_prob:
            noise = coloured_noise(samples, rng.uniform(0, 2), rng)
            snr_db = rng.uniform(*self.noise_snr_db)
            noise = scale_to_snr(noise, sources.sum(0), snr_db)
            sources = torch.cat([sources, noise[None]])
        if rng.random() < self.band_prob:
            hertz = float(np.exp(rng.uniform(*np.log(self.band_hz))))
            band = high_pass if rng.random() < 0.5 else low_pass
            sources = band(sources, hertz, sample_rate)
        return sources if sources is clean else limit_peak(sources)
