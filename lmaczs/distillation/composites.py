"""Composites: sounds made of a few clips, for a teacher to hear.

A small model that is to agree with a teacher needs more sounds to do so on than there
are labelled clips. What a teacher says of a sound that nobody recorded is as true as
what it says of any other (Beyer et al., "Knowledge distillation: a good teacher is
patient and consistent", CVPR 2022). Every function takes and returns a waveform.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lmaczs.audio.effects import (
    add_reverb,
    change_speed,
    coloured_noise,
    equalise,
    silence_outside,
    tile_or_crop,
)
from lmaczs.audio.mixing import rms, scale_to_peak, scale_to_rms

N_FFT, HOP = 2048, 640  # of what is done to spectrograms, at 32 kHz
QUIETEST = 1e-5  # RMS below which a sound is none
PEAK = 0.6


def crossed(fine: Tensor, coarse: Tensor) -> Tensor:
    """The partials of one sound with the spectral envelope of another.

    Parameters
    ----------
    fine : Tensor [samples]
        Gives the fine structure and the phase.
    coarse : Tensor [samples]
        Gives the envelope over frequency, frame by frame.

    Returns
    -------
    Tensor [samples]
    """
    first, second = _stft(fine), _stft(coarse)
    flat = first / (_envelope(first) + 1e-4)
    return _istft(flat * _envelope(second), len(fine))


def masked_at_random(wav: Tensor, rng: np.random.Generator) -> Tensor:
    """Cut places out of a spectrogram, as the mask of an explanation does.

    Parameters
    ----------
    wav : Tensor [samples]
        A waveform.
    rng : numpy.random.Generator
        Source of chance: how coarse the places are, how many of them are cut, and how
        much their level matters.

    Returns
    -------
    Tensor [samples]
    """
    spectrum = _stft(wav)
    size = rng.integers(2, 24, 2).tolist()
    coarse = torch.from_numpy(rng.standard_normal((1, 1, *size), dtype=np.float32))
    places = nn.functional.interpolate(coarse, spectrum.shape, mode="bilinear")[0, 0]
    level = spectrum.abs().clamp_min(1e-6).log10()
    level = (level - level.mean()) / (level.std() + 1e-3)
    keep = places / (places.std() + 1e-3) + rng.uniform(0, 1.5) * level
    least = keep.flatten()[::37].quantile(float(rng.uniform(0.1, 0.9)))
    return _istft(spectrum * torch.sigmoid(8 * (keep - least)), len(wav))


def _stft(wav: Tensor) -> Tensor:
    window = torch.hann_window(N_FFT)
    return torch.stft(wav, N_FFT, HOP, window=window, return_complex=True)


def _istft(spectrum: Tensor, samples: int) -> Tensor:
    window = torch.hann_window(N_FFT)
    return torch.istft(spectrum, N_FFT, HOP, window=window, length=samples)


def _envelope(spectrum: Tensor) -> Tensor:
    """Mean magnitude over 41 bins around each."""
    magnitude = spectrum.abs().T[:, None]
    padded = nn.functional.pad(magnitude, (20, 20), mode="replicate")
    return nn.functional.avg_pool1d(padded, 41, stride=1)[:, 0].T


@dataclass(frozen=True)
class Composer:
    """What composites are made by; shares are those of composites, or of their parts.

    Attributes
    ----------
    samples : int
        Length of a composite.
    rate : int
        Hz.
    octaves : float
        By how much parts are played slower or faster, at most.
    parts : tuple of float
        Shares of composites of one, of two, and so on.
    level_db : float
        Parts are at plus or minus this.
    equalised_share : float
        Of the parts; by 3 or 6 dB (standard deviation).
    room_share : float
        Of the parts, for 0.1 to 1.5 s.
    stretch_share : float
        Of the parts, where there are several: they sound for a while only.
    backwards_share : float
        Of the parts.
    crossed_share : float
        Of the composites: they have the envelope of another clip.
    masked_share : float
        Of the composites, of others than those.
    noise_share : float
        Of the composites, at -25 to 3 dB.
    """

    samples: int
    rate: int
    octaves: float = 0.45
    parts: tuple[float, ...] = (0.5, 0.35, 0.15)
    level_db: float = 9.0
    equalised_share: float = 0.6
    room_share: float = 0.2
    stretch_share: float = 0.5
    backwards_share: float = 0.08
    crossed_share: float = 0.1
    masked_share: float = 0.2
    noise_share: float = 0.15

    def __call__(
        self, clips: Sequence[Tensor], rng: np.random.Generator
    ) -> tuple[Tensor, list[bool]]:
        """Compose a sound of some clips.

        Parameters
        ----------
        clips : sequence of Tensor [n]
            One more than `parts` has places; as many as are drawn are used.
        rng : numpy.random.Generator
            Source of chance.

        Returns
        -------
        tuple
            The composite [samples], and which of the clips are told by their labels in
            it: none where it has the envelope of another clip.
        """
        count = 1 + int(rng.choice(len(self.parts), p=self.parts))
        parts = [self.part(clip, count > 1, rng) for clip in clips[:count]]
        told = [bool(part.any()) for part in parts] + [False] * (len(clips) - count)
        whole, kind = torch.stack(parts).sum(0), rng.random()
        if kind < self.crossed_share:
            whole = crossed(whole, self.part(clips[-1], False, rng))
            told = [False] * len(clips)
        elif kind < self.crossed_share + self.masked_share:
            whole = masked_at_random(whole, rng)
        if rng.random() < self.noise_share:
            noise = coloured_noise(self.samples, rng.uniform(0, 2), rng)
            level = 10 ** (rng.uniform(-25, 3) / 20)
            whole = whole + scale_to_rms(noise, level * rms(whole))
        peak = PEAK * 10 ** (-rng.uniform(0, 25) / 20)
        return scale_to_peak(whole[None], peak)[0], told

    def part(self, clip: Tensor, several: bool, rng: np.random.Generator) -> Tensor:
        """What becomes of a clip.

        Parameters
        ----------
        clip : Tensor [n]
            A waveform.
        several : bool
            Whether it is one of several, and may sound for a while only.
        rng : numpy.random.Generator
            Source of chance.

        Returns
        -------
        Tensor [samples]
            At its level; zeros where it is silent.
        """
        wav = change_speed(clip, 2 ** rng.uniform(-self.octaves, self.octaves))
        wav = tile_or_crop(wav, self.samples, rng).roll(int(rng.integers(self.samples)))
        if rng.random() < self.backwards_share:
            wav = wav.flip(0)
        if rng.random() < self.equalised_share:
            hertz = np.geomspace(20, self.rate / 2, 8)
            levels = rng.normal(0, rng.choice([3, 6]), 8)
            wav = equalise(wav, self.rate, list(zip(hertz, levels, strict=True)))
        if rng.random() < self.room_share:
            room = rng.uniform(0.1, 1.5), rng.uniform(0.2, 1.2)
            wav = add_reverb(wav, self.rate, *room, rng)
        if several and rng.random() < self.stretch_share:
            start = rng.uniform(0, 0.7)
            wav = silence_outside(wav, start, start + rng.uniform(0.15, 1))
        level = 10 ** (rng.uniform(-self.level_db, self.level_db) / 20)
        return scale_to_rms(wav, level, QUIETEST)
