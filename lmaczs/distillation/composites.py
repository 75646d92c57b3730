"""Composites: synthetic training sounds made of a few clips, for a teacher to score.

To learn its teacher's function a student needs more sounds than there are labelled
clips, and any will do (Beyer et al., "Knowledge distillation: a good teacher is patient
and consistent", CVPR 2022).
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

N_FFT, HOP = 2048, 640  # of `cross` and `mask_at_random`
QUIETEST = 1e-5  # RMS below which a clip counts as silent
PEAK = 0.6  # of a composite at full level


def cross(fine: Tensor, coarse: Tensor) -> Tensor:
    """Fine structure and phase of one sound, envelope of another: [samples]."""
    first, second = _stft(fine), _stft(coarse)
    flat = first / (_envelope(first) + 1e-4)
    return _istft(flat * _envelope(second), len(fine))


def mask_at_random(wav: Tensor, rng: np.random.Generator) -> Tensor:
    """Mask a random part of a spectrogram, as an explanation does: [samples].

    The mask's resolution, the fraction that it removes and how far it follows the level
    of the cells are drawn.
    """
    spectrum = _stft(wav)
    size = rng.integers(2, 24, 2).tolist()
    coarse = torch.from_numpy(rng.standard_normal((1, 1, *size), dtype=np.float32))
    places = nn.functional.interpolate(coarse, spectrum.shape, mode="bilinear")[0, 0]
    level = spectrum.abs().clamp_min(1e-6).log10()
    level = (level - level.mean()) / (level.std() + 1e-3)
    keep = places / (places.std() + 1e-3) + rng.uniform(0, 1.5) * level
    # every 37th cell: torch's quantile has a limit of 16 million values
    least = keep.flatten()[::37].quantile(float(rng.uniform(0.1, 0.9)))
    return _istft(spectrum * torch.sigmoid(8 * (keep - least)), len(wav))


def _stft(wav: Tensor) -> Tensor:
    window = torch.hann_window(N_FFT)
    return torch.stft(wav, N_FFT, HOP, window=window, return_complex=True)


def _istft(spectrum: Tensor, samples: int) -> Tensor:
    window = torch.hann_window(N_FFT)
    return torch.istft(spectrum, N_FFT, HOP, window=window, length=samples)


def _envelope(spectrum: Tensor) -> Tensor:
    """Moving average of the magnitude over 41 bins."""
    magnitude = spectrum.abs().T[:, None]
    padded = nn.functional.pad(magnitude, (20, 20), mode="replicate")
    return nn.functional.avg_pool1d(padded, 41, stride=1)[:, 0].T


@dataclass(frozen=True)
class Composer:
    """Composes a sound of a few clips; ranges are of uniform distributions."""

    parts: tuple[float, ...] = (0.5, 0.35, 0.15)  # probabilities of one clip, two, ...
    octaves: float = 0.45  # by which parts are played lower or higher at most
    level_db: float = 9.0  # parts are at plus or minus this
    reverse_prob: float = 0.08  # of a part, as all up to stretch_prob
    equalise_prob: float = 0.6
    equalise_db: tuple[float, ...] = (3.0, 6.0)  # standard deviations, one is drawn
    reverb_prob: float = 0.2
    reverb_seconds: tuple[float, float] = (0.1, 1.5)  # until it has fallen by 60 dB
    reverb_level: tuple[float, float] = (0.2, 1.2)  # amplitude, that of the part is 1
    stretch_prob: float = 0.5  # that one of several parts sounds for a while only
    cross_prob: float = 0.1  # of the envelope of another clip
    mask_prob: float = 0.2  # of a random mask on any other composite
    noise_prob: float = 0.15  # of noise, white to brown
    noise_db: tuple[float, float] = (-25.0, 3.0)  # relative to the composite
    max_attenuation_db: float = 25.0  # of the composite

    @property
    def n_clips(self) -> int:
        """Clips that one composite takes: its parts, and one for an envelope."""
        return len(self.parts) + 1

    def __call__(
        self,
        clips: Sequence[Tensor],
        samples: int,
        sample_rate: int,
        rng: np.random.Generator,
    ) -> tuple[Tensor, list[bool]]:
        """Compose a sound ``[samples]`` of `n_clips` waveforms, or fewer of them.

        Also gives for each clip whether its label describes the composite: never under
        the envelope of another clip.
        """
        count = 1 + int(rng.choice(len(self.parts), p=self.parts))
        shape = samples, sample_rate
        parts = [self.part(clip, *shape, count > 1, rng) for clip in clips[:count]]
        audible = [bool(part.any()) for part in parts] + [False] * (len(clips) - count)
        whole, drawn = torch.stack(parts).sum(0), rng.random()
        if drawn < self.cross_prob:
            whole = cross(whole, self.part(clips[-1], *shape, False, rng))
            audible = [False] * len(clips)
        elif drawn < self.cross_prob + self.mask_prob:
            whole = mask_at_random(whole, rng)
        if rng.random() < self.noise_prob:
            noise = coloured_noise(samples, rng.uniform(0, 2), rng)
            level = 10 ** (rng.uniform(*self.noise_db) / 20)
            whole = whole + scale_to_rms(noise, level * rms(whole))
        peak = PEAK * 10 ** (-rng.uniform(0, self.max_attenuation_db) / 20)
        return scale_to_peak(whole[None], peak)[0], audible

    def part(
        self,
        clip: Tensor,
        samples: int,
        sample_rate: int,
        several: bool,
        rng: np.random.Generator,
    ) -> Tensor:
        """A clip with random effects and level: ``[samples]``, zeros if it is silent.

        One of `several` parts may sound for a while only.
        """
        wav = change_speed(clip, 2 ** rng.uniform(-self.octaves, self.octaves))
        wav = tile_or_crop(wav, samples, rng).roll(int(rng.integers(samples)))
        if rng.random() < self.reverse_prob:
            wav = wav.flip(0)
        if rng.random() < self.equalise_prob:
            hertz = np.geomspace(20, sample_rate / 2, 8)
            levels = rng.normal(0, rng.choice(self.equalise_db), 8)
            wav = equalise(wav, sample_rate, list(zip(hertz, levels, strict=True)))
        if rng.random() < self.reverb_prob:
            room = rng.uniform(*self.reverb_seconds), rng.uniform(*self.reverb_level)
            wav = add_reverb(wav, sample_rate, *room, rng)
        if several and rng.random() < self.stretch_prob:
            start = rng.uniform(0, 0.7)
            wav = silence_outside(wav, start, start + rng.uniform(0.15, 1))
        level = 10 ** (rng.uniform(-self.level_db, self.level_db) / 20)
        return scale_to_rms(wav, level, QUIETEST)
