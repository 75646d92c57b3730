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
from torchaudio.functional import fftconvolve

from lmaczs.data.augment import coloured_noise

N_FFT, HOP = 2048, 640  # of what is done to spectrograms, at 32 kHz
QUIETEST = 1e-5  # RMS below which a sound is none
PEAK = 0.6


def played_at(wav: Tensor, speed: float) -> Tensor:
    """Play a waveform faster or slower, pitch and all, by linear interpolation.

    Parameters
    ----------
    wav : Tensor [samples]
        A waveform.
    speed : float
        Above one: shorter and higher.

    Returns
    -------
    Tensor [samples / speed]
    """
    size = max(2, round(len(wav) / speed))
    return nn.functional.interpolate(wav[None, None], size, mode="linear")[0, 0]


def filled(wav: Tensor, samples: int, rng: np.random.Generator) -> Tensor:
    """A stretch of a waveform that begins anywhere, repeated where it is too short.

    Parameters
    ----------
    wav : Tensor [n]
        A waveform.
    samples : int
        Length that is wanted.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    Tensor [samples]
        Turned around: what is cut off at one end comes at the other.
    """
    if len(wav) > samples:
        start = int(rng.integers(len(wav) - samples + 1))
        wav = wav[start : start + samples]
    wav = wav.repeat(-(-samples // len(wav)))[:samples]
    return wav.roll(int(rng.integers(samples)))


def equalised(wav: Tensor, rate: int, levels: Sequence[float]) -> Tensor:
    """Turn frequencies up and down.

    Parameters
    ----------
    wav : Tensor [samples]
        A waveform.
    rate : int
        Hz.
    levels : sequence of float
        dB, at frequencies that are spaced evenly on a logarithmic scale from 20 Hz to
        half the rate; in between they are interpolated.

    Returns
    -------
    Tensor [samples]
    """
    hertz = np.fft.rfftfreq(len(wav), 1 / rate) + 20
    places = np.geomspace(20, rate / 2 + 20, len(levels))
    gain = 10 ** (np.interp(np.log(hertz), np.log(places), levels) / 20)
    gain = torch.from_numpy(gain.astype(np.float32))
    return torch.fft.irfft(torch.fft.rfft(wav) * gain, n=len(wav))


def in_a_room(
    wav: Tensor, rate: int, seconds: float, level: float, rng: np.random.Generator
) -> Tensor:
    """Add the reverberation of a room: noise that dies away.

    Parameters
    ----------
    wav : Tensor [samples]
        A waveform.
    rate : int
        Hz.
    seconds : float
        Until the reverberation has fallen by 60 dB.
    level : float
        Its amplitude, that of the sound itself being 1.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    Tensor [samples]
    """
    count = max(1, int(seconds * rate))
    tail = torch.from_numpy(rng.standard_normal(count, dtype=np.float32))
    tail = tail * torch.exp(torch.linspace(0, -6.9, count))
    response = level * tail / tail.norm()
    response[0] += 1
    return fftconvolve(wav, response)[: len(wav)]


def only_between(wav: Tensor, start: float, stop: float) -> Tensor:
    """Silence what lies outside a stretch.

    Parameters
    ----------
    wav : Tensor [samples]
        A waveform.
    start : float
        Begin, as a share of the length.
    stop : float
        End, likewise; what is beyond 1 does not count.

    Returns
    -------
    Tensor [samples]
    """
    place = torch.arange(len(wav)) / len(wav)
    return wav * ((place >= start) & (place < stop))


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
            whole = whole + _at_level(noise, rng.uniform(-25, 3)) * _rms(whole)
        gain = 10 ** (-rng.uniform(0, 25) / 20)
        return gain * PEAK * whole / whole.abs().max().clamp_min(1e-4), told

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
        wav = played_at(clip, 2 ** rng.uniform(-self.octaves, self.octaves))
        wav = filled(wav, self.samples, rng)
        if rng.random() < self.backwards_share:
            wav = wav.flip(0)
        if rng.random() < self.equalised_share:
            wav = equalised(wav, self.rate, rng.normal(0, rng.choice([3, 6]), 8))
        if rng.random() < self.room_share:
            room = rng.uniform(0.1, 1.5), rng.uniform(0.2, 1.2)
            wav = in_a_room(wav, self.rate, *room, rng)
        if several and rng.random() < self.stretch_share:
            start = rng.uniform(0, 0.7)
            wav = only_between(wav, start, start + rng.uniform(0.15, 1))
        return _at_level(wav, rng.uniform(-self.level_db, self.level_db))


def _rms(wav: Tensor) -> Tensor:
    return wav.square().mean().sqrt()


def _at_level(wav: Tensor, level_db: float) -> Tensor:
    """A waveform whose RMS is the level; zeros for one that is silent."""
    rms = _rms(wav)
    if rms <= QUIETEST:
        return torch.zeros_like(wav)
    return wav / rms * 10 ** (level_db / 20)
