"""Disturbances of training clips: another speed, noise, a narrow band.

An audio model is surer of the clips that it was trained on than of any other. A decoder
that learns on those alone learns to explain a model that is never in doubt. What is
disturbed, the model knows about as well as what it has never heard.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lmaczs.audio.mixing import below, unclipped
from lmaczs.audio.resampling import resample

SPEEDS = ((5, 8), (2, 3), (4, 5), (5, 4), (3, 2), (8, 5))
"""Ratios of speeds: a few, because each has a filter of its own."""


@dataclass(frozen=True)
class Disturbance:
    """How clips are disturbed; each of the three is drawn by itself.

    Attributes
    ----------
    speed_share : float
        Share of the clips that are played at one of `SPEEDS`.
    noise_share : float
        Share of the clips that noise is added to, between white and brown.
    noise_db : tuple of float
        Lowest and highest level of the clip above the noise, dB.
    band_share : float
        Share of the clips that are cut off above or below a frequency.
    band_hz : tuple of float
        Lowest and highest such frequency, Hz.
    """

    speed_share: float = 0.0
    noise_share: float = 0.0
    noise_db: tuple[float, float] = (5.0, 40.0)
    band_share: float = 0.0
    band_hz: tuple[float, float] = (300.0, 6000.0)

    def __call__(
        self, sources: Tensor, sample_rate: int, rng: np.random.Generator
    ) -> Tensor:
        """Disturb a clip, or leave it.

        Parameters
        ----------
        sources : Tensor [S, samples]
            Waveforms whose sum is the clip.
        sample_rate : int
            Hz.
        rng : numpy.random.Generator
            Source of chance.

        Returns
        -------
        Tensor [S, samples], or [S + 1, samples] with noise
            The sounds as they are in the disturbed clip, which is turned down where it
            would clip, and the noise; `sources` itself if nothing was drawn.
        """
        clean = sources
        if rng.random() < self.speed_share:
            sources = at_speed(sources, *SPEEDS[int(rng.integers(len(SPEEDS)))])
        if rng.random() < self.noise_share:
            noise = coloured_noise(sources.shape[-1], rng.uniform(0, 2), rng)
            noise = below(noise, sources.sum(0), rng.uniform(*self.noise_db))
            sources = torch.cat([sources, noise[None]])
        if rng.random() < self.band_share:
            hertz = float(np.exp(rng.uniform(*np.log(self.band_hz))))
            sources = cut_off(sources, hertz, sample_rate, above=rng.random() < 0.5)
        return sources if sources is clean else unclipped(sources)


def at_speed(wav: Tensor, up: int, down: int) -> Tensor:
    """Play clips at ``up / down`` of their speed, pitch included.

    Parameters
    ----------
    wav : Tensor [..., samples]
        Waveforms.
    up : int
        Numerator of the speed.
    down : int
        Denominator.

    Returns
    -------
    Tensor [..., samples]
        As long: what is too short begins again, what is too long is cut.
    """
    samples = wav.shape[-1]
    played = resample(wav, up, down)
    again = -(-samples // played.shape[-1])
    return torch.cat([played] * again, -1)[..., :samples]


def coloured_noise(samples: int, slope: float, rng: np.random.Generator) -> Tensor:
    """Noise whose power falls with a power of the frequency.

    Parameters
    ----------
    samples : int
        Length.
    slope : float
        0: white, 1: pink, 2: brown.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    Tensor [samples]
    """
    white = torch.from_numpy(rng.standard_normal(samples, dtype=np.float32))
    spectrum = torch.fft.rfft(white)
    falls = torch.arange(len(spectrum)).clamp_min(1) ** (-slope / 2)
    return torch.fft.irfft(spectrum * falls, n=samples)


def cut_off(wav: Tensor, hertz: float, sample_rate: int, above: bool) -> Tensor:
    """Keep what is below a frequency, or above it.

    Parameters
    ----------
    wav : Tensor [..., samples]
        Waveforms.
    hertz : float
        The frequency; power is halved there and falls by 24 dB an octave (a
        Butterworth filter of fourth order, without its phase).
    sample_rate : int
        Hz.
    above : bool
        Whether what is above it is kept.

    Returns
    -------
    Tensor [..., samples]
    """
    bins = torch.fft.rfftfreq(wav.shape[-1], 1 / sample_rate)
    ratio = hertz / bins.clamp_min(1e-3) if above else bins / hertz
    gain = (1 + ratio**8).rsqrt()
    return torch.fft.irfft(torch.fft.rfft(wav) * gain, n=wav.shape[-1])
