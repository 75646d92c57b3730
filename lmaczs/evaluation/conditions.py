"""Evaluation conditions: clean, or contaminated with another clip, noise or speech.

What is added to a clip depends on the seed, the condition, the clip and the list that
another clip or a recording is drawn from: every explainer gets the same clips, and so
does a run that resumes after an interruption.
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

from lmaczs.audio.effects import tile_or_crop
from lmaczs.audio.io import load_audio
from lmaczs.audio.mixing import mix_at_snr, scale_to_peak
from lmaczs.frontend import FrontEnd
from lmaczs.utils.errors import InputError
from lmaczs.utils.seeds import seed_of

CONTAMINATION_SNR_DB = 12.0412  # four times the amplitude
CONDITIONS = ("clean", "mixture", "white noise", "speech")


class ContaminatedClips(Dataset):
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
    snr_db : float
        Level of the clip above the added sound in dB, by energy.
    seed : int
        Of what is added.
    speech : sequence of Path
        Recordings of speech, for the condition ``speech``.

    Raises
    ------
    InputError
        If there is no such condition, or nothing to add.
    """

    def __init__(
        self,
        clips: pd.DataFrame,
        front_end: FrontEnd,
        condition: str,
        snr_db: float = CONTAMINATION_SNR_DB,
        seed: int = 0,
        speech: Sequence[Path] = (),
    ) -> None:
        if condition not in CONDITIONS:
            raise InputError(f"condition is {condition!r}, not one of {CONDITIONS}")
        if condition == "speech" and not speech:
            raise InputError("condition speech needs recordings: give --speech_folder")
        if condition == "mixture" and clips.label.nunique() < 2:
            raise InputError("condition mixture needs clips of two labels")
        self.clips = clips.reset_index(drop=True)
        self.front_end, self.condition = front_end, condition
        self.snr_db, self.seed, self.speech = snr_db, seed, list(speech)
        self.read = partial(load_audio, sample_rate=front_end.sample_rate)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips.iloc[index]
        wav = self.read(clip.path)
        rng = np.random.default_rng(seed_of(self.seed, self.condition, clip.id))
        if self.condition != "clean":
            other = self._other(clip, len(wav), rng)
            wav = contaminate(wav, tile_or_crop(other, len(wav), rng), self.snr_db)
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


def contaminate(clip: Tensor, other: Tensor, snr_db: float) -> Tensor:
    """A clip with another sound on top of it, at an absolute peak of 1.

    SpeechBrain's L-MAC recipe has 12 dB for other clips and speech, and 6 dB for white
    noise. LMAC-ZS has 3 dB for all three.

    Parameters
    ----------
    clip : Tensor [samples]
        A waveform.
    other : Tensor [samples]
        What is added. If it is silent, nothing is.
    snr_db : float
        Level of the clip above the added sound in dB.

    Returns
    -------
    Tensor [samples]
        All zero if both are silent.
    """
    return scale_to_peak(mix_at_snr(clip, other, snr_db)).sum(0)
