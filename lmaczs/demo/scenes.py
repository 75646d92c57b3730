"""Sample recordings for the demonstration: two synthetic sources at a time.

Every scene names prompts for its sources and an absent one. No recording is involved,
and the same seed always gives the same samples.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from lmaczs.audio.io import save_audio
from lmaczs.audio.mixing import mix_at_snr, scale_to_peak
from lmaczs.demo.sound_models import SOURCES

PEAK = 0.8
"""Largest absolute sample of whatever is rendered or mixed."""

SECONDS = 5.0
"""Length of a scene in s, that of an ESC-50 clip."""


@dataclass(frozen=True)
class Scene:
    """Two sources that sound together."""

    name: str
    sources: tuple[str, str]
    """Keys of `SOURCES`: foreground and background."""
    snr_db: float
    """Power of the foreground over that of the background in dB."""
    prompts: tuple[str, ...]
    """Labels of the sources."""
    absent_prompt: str
    """Label of something else."""


SCENES = (
    Scene(
        "dog_by_the_fire",
        ("dog", "crackling_fire"),
        4.0,
        ("dog", "crackling fire"),
        "siren",
    ),
    Scene(
        "clock_in_the_rain", ("clock_tick", "rain"), 0.0, ("clock tick", "rain"), "dog"
    ),
    Scene(
        "siren_and_church_bells",
        ("siren", "church_bells"),
        0.0,
        ("siren", "church bells"),
        "sea waves",
    ),
    Scene(
        "dog_at_the_church",
        ("dog", "church_bells"),
        0.0,
        ("dog", "church bells"),
        "rain",
    ),
)
"""What the demonstration interprets: sources that the embedded default recognises.

It ranks both sources of every scene among its first five of ESC-50's fifty labels."""


def render(name: str, sample_rate: int, seconds: float, seed: int) -> Tensor:
    """Synthesise one of `SOURCES`, 3 s or more: float64 [samples], its peak 0.8."""
    samples = SOURCES[name](np.random.default_rng(seed), sample_rate, seconds)
    return scale_to_peak(torch.from_numpy(samples)[None], PEAK)[0]


def render_scene(scene: Scene, sample_rate: int) -> Tensor:
    """Synthesise both sources of a scene: float32 [2, samples].

    The recording is their sum, with a peak of 0.8.
    """
    first, second = (
        render(name, sample_rate, SECONDS, seed=i)
        for i, name in enumerate(scene.sources)
    )
    return scale_to_peak(mix_at_snr(first, second, scene.snr_db), PEAK).float()


def write_scenes(folder: str | Path, sample_rate: int) -> list[tuple[Scene, Path]]:
    """Write every scene as a mono float WAV, ``<folder>/<scene name>.wav``.

    A number is appended where another sound has that name.
    """
    written = []
    for scene in SCENES:
        samples = render_scene(scene, sample_rate).sum(0)
        path = _free_place(Path(folder), scene)
        written.append((scene, save_audio(path, samples, sample_rate)))
    return written


def _free_place(folder: Path, scene: Scene) -> Path:
    """Return the first of name.wav, name-2.wav, ... that holds no other sound."""
    ends = ("" if number == 1 else f"-{number}" for number in count(1))
    paths = (folder / f"{scene.name}{end}.wav" for end in ends)
    return next(p for p in paths if not os.path.lexists(p) or _is_scene(p, scene))


def _is_scene(path: Path, scene: Scene) -> bool:
    """Whether a file holds a scene, at whatever rate."""
    try:
        samples, rate = soundfile.read(path, dtype="float32")
    except (OSError, soundfile.SoundFileError):
        return False
    if samples.shape != (int(SECONDS * rate),):
        return False
    return np.allclose(samples, render_scene(scene, rate).sum(0), atol=1e-5)
