"""Sounds that are made at random, to train on where there are no recordings.

Models of everyday sounds (`sound_models`), each with another seed, and five families of
sounds that are named by nobody: noises, strikes, voices, clicks and sweeps, whose
spectra, pitches and rhythms are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from lmaczs.audio.effects import Curve
from lmaczs.audio.mixing import scale_to_peak
from lmaczs.demo.sound_models import SOURCES, Source
from lmaczs.demo.synthesis import (
    arrivals,
    burst,
    drift,
    harmonics,
    noise,
    place,
    ring,
    room,
    shape,
)
from lmaczs.utils.files import atomic_folder, sweep

PEAK = 0.8
"""Largest absolute sample of a sound."""


def _noises(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Noise with a spectrum of its own, steady, swelling or in gusts."""
    n = int(rate * seconds)
    track = noise(rng, n, rate, _spectrum(rng, 40, 12000))
    swell = drift(rng, n, rate, _between(rng, 0.3, 12))
    return track * np.exp(rng.uniform(0, 1.5) * swell)


def _strikes(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """A resonant body that is struck, in a rhythm or now and then."""
    lowest, longest = _between(rng, 80, 2500), _between(rng, 0.05, 2.5)
    ratios = np.cumsum(np.append(1, rng.uniform(0.2, 1.6, rng.integers(2, 9))))
    modes = [
        (lowest * ratio, longest / ratio ** rng.uniform(0, 1), rng.uniform(0.1, 1))
        for ratio in ratios
    ]
    body, track = ring(rate, modes), np.zeros(int(rate * seconds))
    for start in _rhythm(rng, seconds, _between(rng, 0.5, 8)):
        gain = rng.lognormal(0, 0.3)
        click = burst(rng, rate, 0.02, _between(rng, 800, 6000), 1.5)
        place(track, gain * body, start * rate)
        place(track, 0.3 * gain * click, start * rate)
    return track


def _voices(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Calls or syllables: a wandering pitch through the resonances of a throat."""
    n = int(rate * seconds)
    middle, bend = _between(rng, 80, 900), rng.uniform(0.02, 0.4)
    pitch = middle * np.exp(bend * drift(rng, n, rate, _between(rng, 1, 12)))
    voiced = harmonics(pitch, rate, rng.uniform(-8, -1), 12)
    breath = rng.uniform(0, 0.4) * noise(rng, n, rate, _spectrum(rng, 300, 9000))
    gates = drift(rng, n, rate, _between(rng, 1.5, 9)) + rng.uniform(-0.3, 1.0)
    return (shape(voiced, rate, _spectrum(rng, 200, 6000)) + breath) * gates.clip(0)


def _clicks(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Many small impacts of one kind, dense or sparse."""
    track = np.zeros(int(rate * seconds))
    decay, hertz = _between(rng, 0.003, 0.2), _between(rng, 250, 8000)
    for start in _rhythm(rng, seconds, _between(rng, 1, 60)):
        pitch = hertz * rng.lognormal(0, 0.3)
        impact = burst(rng, rate, decay * rng.uniform(0.5, 2), pitch, 1)
        place(track, rng.lognormal(0, 0.6) * impact, start * rate)
    return track


def _sweeps(rng: np.random.Generator, rate: int, seconds: float) -> np.ndarray:
    """Whistles that glide between two pitches, again and again."""
    n = int(rate * seconds)
    low, width = _between(rng, 200, 4000), rng.uniform(0.1, 1.5)
    turns = np.arange(n) / rate * _between(rng, 0.3, 12) + rng.uniform(0, 1)
    glide = 0.5 - 0.5 * np.cos(2 * np.pi * turns)
    pitch = low * 2 ** (width * glide ** rng.uniform(0.5, 2))
    tone = harmonics(pitch, rate, rng.uniform(-24, -6), 6)
    share = rng.uniform(0.3, 1.0)
    return tone * (np.arange(n) / rate * _between(rng, 0.3, 4) % 1 < share)


FAMILIES: dict[str, Source] = {
    "noises": _noises,
    "strikes": _strikes,
    "voices": _voices,
    "clicks": _clicks,
    "sweeps": _sweeps,
}
"""Every family of random sounds by its name."""


def random_sound(name: str, sample_rate: int, seconds: float, seed: int) -> np.ndarray:
    """Make a sound of one of `FAMILIES` or `SOURCES`, half of them in a room.

    Parameters
    ----------
    name : str
        The family.
    sample_rate : int
        Hz.
    seconds : float
        3 or more.
    seed : int
        Every seed gives another sound of the family.

    Returns
    -------
    ndarray [samples]
        float64; its peak is 0.8.
    """
    rng = np.random.default_rng(seed)
    samples = {**FAMILIES, **SOURCES}[name](rng, sample_rate, seconds)
    if name in FAMILIES and rng.random() < 0.5:
        samples = samples / max(samples.std(), 1e-9)
        decay, wet = _between(rng, 0.2, 2.5), rng.uniform(0.1, 0.8)
        samples = room(rng, samples, sample_rate, decay, wet)
    return scale_to_peak(torch.from_numpy(samples)[None], PEAK)[0].numpy()


def write_random_sounds(
    folder: str | Path,
    count: int,
    sample_rate: int,
    seconds: float,
    seed: int,
    workers: int = 0,
) -> Path:
    """Write sounds, as many of each family, as mono FLAC: <folder>/<family>-<i>.flac.

    The folder appears whole or not at all; one that is there is left as it is. So many
    `workers`, processes, share the work; none change a sound.
    """
    folder = Path(folder)
    if folder.is_dir():
        return folder
    sweep(folder.parent, folder.name)
    with atomic_folder(folder) as part:
        sounds = _RandomSounds(part, count, sample_rate, seconds, seed)
        loader = DataLoader(sounds, batch_size=None, num_workers=workers)
        for _ in tqdm(loader, "sounds", disable=None, leave=False):
            pass
    return folder


@dataclass(frozen=True)
class _RandomSounds(Dataset):
    """Writes a sound when it is asked for it: workers are those of a DataLoader."""

    folder: Path
    count: int
    sample_rate: int
    seconds: float
    seed: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        names = [*FAMILIES, *SOURCES]
        name = names[index % len(names)]
        own = int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0])
        samples = random_sound(name, self.sample_rate, self.seconds, own)
        path = self.folder / f"{name}-{index:04d}.flac"
        soundfile.write(path, samples, self.sample_rate, subtype="PCM_16")
        return index


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number, uniform in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _spectrum(rng: np.random.Generator, low: float, high: float) -> Curve:
    """Four to eight points of a curve between two frequencies: (Hz, dB)."""
    count = int(rng.integers(4, 9))
    hertz = np.geomspace(low, high, count)
    decibels = rng.uniform(-40, 0, count)
    return list(zip(hertz.tolist(), decibels.tolist(), strict=True))


def _rhythm(rng: np.random.Generator, seconds: float, rate: float) -> np.ndarray:
    """Times in s, `rate` of them a second: regular half of the time, one at least."""
    first = rng.uniform(0, min(0.5, 1 / rate))
    if rng.random() < 0.5:
        return np.arange(first, seconds, 1 / rate)
    return np.append(arrivals(rng, rate, seconds), first)
