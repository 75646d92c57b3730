"""Evaluation conditions: clean, or contaminated with another clip, noise or speech.

The added sound depends only on seed, condition, clip and the list that it is drawn
from, so that all explainers, and a resumed run, get the same clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from lmaczs.data.segments import segments_of
from lmaczs.frontend import FrontEnd
from lmaczs.utils.errors import InputError, nearest
from lmaczs.utils.seeds import seed_of

CONTAMINATION_SNR_DB = 3.0  # of LMAC-ZS, for all three
CONTAMINATED = ("mixture", "white noise", "speech")
CONDITIONS = ("clean", *CONTAMINATED)
PRESETS: dict[str, dict[str, float]] = {
    # amplitudes 0.8 : 0.2, and 1 : 0.5 for white noise
    "speechbrain_l_mac": {"mixture": 12.0412, "white noise": 6.0206, "speech": 12.0412},
}
"""SNR in dB by condition, as a recipe of others has it."""
Snr = float | str | Mapping[str, float]
"""SNR in dB of all conditions, the name of a preset, or SNRs in dB by condition."""


def snr_by_condition(snr_db: Snr) -> dict[str, float]:
    """SNR in dB of each of `CONTAMINATED`; those not named: `CONTAMINATION_SNR_DB`.

    An unknown preset or condition, or a level that is no number, raises `InputError`.
    """
    if isinstance(snr_db, str):
        if snr_db not in PRESETS:
            raise InputError(
                f"contamination_snr_db is {snr_db!r}: give a number of dB, "
                f"{', '.join(PRESETS)}, or numbers by condition, {{white noise: 6}}"
            )
        return dict(PRESETS[snr_db])
    levels = (
        dict(snr_db)
        if isinstance(snr_db, Mapping)
        else dict.fromkeys(CONTAMINATED, snr_db)
    )
    for condition, level in levels.items():
        if condition not in CONTAMINATED:
            raise InputError(
                f"contamination_snr_db names {condition!r}"
                f"{nearest(condition, CONTAMINATED)}; there are "
                f"{', '.join(CONTAMINATED)}"
            )
        number = isinstance(level, int | float) and not isinstance(level, bool)
        if not number or not math.isfinite(level):
            raise InputError(
                f"contamination_snr_db is {level!r} for {condition}: give a number of "
                "dB"
            )
    default = dict.fromkeys(CONTAMINATED, CONTAMINATION_SNR_DB)
    return default | {name: float(level) for name, level in levels.items()}


class ContaminatedClips(Dataset):
    """Clips (id, path, label) under a condition, fitted to the encoder's length.

    Parameters
    ----------
    clips : DataFrame
        id, path, label; start and stop (seconds) where they are parts of recordings.
    front_end : FrontEnd
        Gives rate and length policy.
    condition : str
        One of `CONDITIONS`. In ``mixture`` the other clip has another label; in
        ``speech`` it is a stretch of a recording.
    snr_db : float, str or mapping of str to float
        Level in dB of the clip above the added sound, by mean power over what the
        encoder gets of the clip; see `snr_by_condition`.
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
        snr_db: Snr = CONTAMINATION_SNR_DB,
        seed: int = 0,
        speech: Sequence[Path] = (),
    ) -> None:
        if condition not in CONDITIONS:
            raise InputError(
                f"condition is {condition!r}, not one of {CONDITIONS}"
                f"{nearest(condition, CONDITIONS)}"
            )
        if condition == "speech" and not speech:
            raise InputError("condition speech needs recordings: give --speech_folder")
        if condition == "mixture" and clips.label.nunique() < 2:
            raise InputError("condition mixture needs clips of two labels")
        self.clips = clips.reset_index(drop=True)
        self.front_end, self.condition = front_end, condition
        self.snr_db = snr_by_condition(snr_db).get(condition)  # None: clean
        self.seed, self.speech = seed, list(speech)
        self._segments = segments_of(self.clips)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips.iloc[index]
        sources, samples = self._sources(index)
        wav = sources.sum(0)
        return {"id": clip.id, "label": clip.label, "wav": wav, "samples": samples}

    def sources(self, index: int) -> Tensor:
        """A clip and the sound that is added to it, whose sum is the item's wav.

        [2, max_samples] of the encoder; the second is silent in the condition clean.
        """
        return self._sources(index)[0]

    def _sources(self, index: int) -> tuple[Tensor, int]:
        """Clip and added sound at the encoder's length, and the clip's own samples."""
        clip, wav = self.clips.iloc[index], self._read(index)
        if len(wav) > self.front_end.max_samples:  # the SNR is that of what is kept
            wav = self.front_end.fit_length(wav[None])[0]
        sources = torch.stack([wav, torch.zeros_like(wav)])
        if self.snr_db is not None:
            rng = np.random.default_rng(seed_of(self.seed, self.condition, clip.id))
            other = tile_or_crop(self._other(clip, len(wav), rng), len(wav), rng)
            sources = contaminate(wav, other, self.snr_db)
        return self.front_end.fit_length(sources), len(wav)

    def _read(self, index: int) -> Tensor:
        return self._segments[index].load(self.front_end.sample_rate)

    def _other(self, clip: Any, samples: int, rng: np.random.Generator) -> Tensor:
        if self.condition == "white noise":
            return torch.from_numpy(rng.standard_normal(samples, dtype=np.float32))
        if self.condition == "speech":
            path = self.speech[int(rng.integers(len(self.speech)))]
            return load_audio(path, self.front_end.sample_rate, strict=True)
        others = np.flatnonzero(self.clips.label != clip.label)
        return self._read(int(others[rng.integers(len(others))]))


def contaminate(clip: Tensor, other: Tensor, snr_db: float) -> Tensor:
    """Put `other` `snr_db` below a clip, and scale both until their sum peaks at 1.

    Waveforms [samples] make [2, samples]. A silent `other` adds nothing; all zero if
    both are silent.
    """
    return scale_to_peak(mix_at_snr(clip, other, snr_db))
