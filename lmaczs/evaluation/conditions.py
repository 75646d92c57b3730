"""Evaluation conditions: clean, or contaminated with another clip, noise or speech.

The added sound depends only on seed, condition, clip and the list that it is drawn
from, so that all explainers, and a resumed run, get the same clips.
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
    """Clips (id, path, label) under a condition, fitted to the encoder's length.

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
        Recordings for the condition ``speech``.

    Raises
    ------
    InputError
        If the condition is unknown, or there is nothing to add.
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
    """Add `other` to a clip, `snr_db` below it, and scale the sum to a peak of 1.

    Waveforms [samples]. A silent `other` adds nothing; all zero if both are silent.
    SpeechBrain's L-MAC recipe has 12 dB for other clips and speech, and 6 dB for white
    noise. LMAC-ZS has 3 dB for all three.
    """
    return scale_to_peak(mix_at_snr(clip, other, snr_db)).sum(0)
