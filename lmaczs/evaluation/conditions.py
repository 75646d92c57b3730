"""What clips are heard under: clean, or with another clip, noise or speech on top.

What is added to a clip depends on the seed, the condition, the clip and the list that
another clip or a recording is drawn from: every method hears the same, and so does a
run that goes on after an interruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lmaczs.audio.io import load_audio
from lmaczs.frontend import FrontEnd
from lmaczs.utils.seeds import seed_of

CONDITIONS = ("clean", "mixture", "white noise", "speech")


class HeardUnder(Dataset):
    """Clips under one condition, fitted to the encoder's length.

    Parameters
    ----------
    clips : DataFrame
        id, path, label.
    front_end : FrontEnd
        Gives rate and length policy.
    condition : str
        One of `CONDITIONS`. In ``mixture`` the other clip has another label; in
        ``speech`` it is a stretch of a recording.
    share : float
        Of the added sound, see `contaminate`.
    seed : int
        Of what is added.
    speech : sequence of Path
        Recordings of speech, for the condition ``speech``.

    Raises
    ------
    ValueError
        If there is no such condition, or nothing to add.
    """

    def __init__(
        self,
        clips: pd.DataFrame,
        front_end: FrontEnd,
        condition: str,
        share: float = 0.2,
        seed: int = 0,
        speech: Sequence[Path] = (),
    ) -> None:
        if condition not in CONDITIONS:
            raise ValueError(f"condition is {condition!r}, not one of {CONDITIONS}")
        if condition == "speech" and not speech:
            raise ValueError("condition speech needs recordings: give --speech_folder")
        if condition == "mixture" and clips.label.nunique() < 2:
            raise ValueError("condition mixture needs clips of two labels")
        self.clips = clips.reset_index(drop=True)
        self.front_end, self.condition = front_end, condition
        self.share, self.seed, self.speech = share, seed, list(speech)
        self.read = partial(load_audio, sample_rate=front_end.sample_rate)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips.iloc[index]
        wav = self.read(clip.path)
        rng = np.random.default_rng(seed_of(self.seed, self.condition, clip.id))
        if self.condition != "clean":
            other = self._other(clip, len(wav), rng)
            wav = contaminate(wav, repeated_to(other, len(wav), rng), self.share)
        fitted = self.front_end.fit_length(wav[None])[0]
        samples = min(len(wav), len(fitted))
        return {"id": clip.id, "label": clip.label, "wav": fitted, "samples": samples}

    def _other(self, clip: Any, samples: int, rng: np.random.Generator) -> Tensor:
        if self.condition == "white noise":
            return torch.from_numpy(rng.standard_normal(samples, dtype=np.float32))
        if self.condition == "speech":
            return self.read(self.speech[int(rng.integers(len(self.speech)))])
        others = self.clips[self.clips.label != clip.label]
        return self.read(others.iloc[int(rng.integers(len(others)))].path)


def contaminate(clip: Tensor, other: Tensor, share: float = 0.2) -> Tensor:
    """A clip with another sound on top of it.

    ``(1 - share) clip / |clip| + share other / |other|``, at an absolute peak of 1.
    0.2 is what SpeechBrain's L-MAC recipe has for other clips and speech; it adds white
    noise at 6 dB (a third). LMAC-ZS has 3 dB for all three (0.4145).

    Parameters
    ----------
    clip : Tensor [samples]
        A waveform.
    other : Tensor [samples]
        What is added. If it is silent, nothing is.
    share : float
        Of the added sound, in [0, 1]: 0.2 puts it 12 dB below the clip.

    Returns
    -------
    Tensor [samples]
        All zero if both are silent.
    """
    parts = ((1 - share) * _unit_energy(clip), share * _unit_energy(other))
    mixture = parts[0] + parts[1]
    return mixture / mixture.abs().max().clamp_min(1e-9)


def _unit_energy(wav: Tensor) -> Tensor:
    return wav / wav.norm().clamp_min(1e-9)


def repeated_to(wav: Tensor, samples: int, rng: np.random.Generator) -> Tensor:
    """A stretch of a given length; what is too short is repeated.

    Parameters
    ----------
    wav : Tensor [n]
        A waveform.
    samples : int
        The length.
    rng : numpy.random.Generator
        Draws where the stretch begins in what is longer.

    Returns
    -------
    Tensor [samples]
    """
    wav = wav.repeat(-(-samples // len(wav)))
    start = int(rng.integers(len(wav) - samples + 1))
    return wav[start : start + samples]
