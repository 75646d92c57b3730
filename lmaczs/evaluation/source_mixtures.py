"""Sums and sequences of two clips: where the right answer of an explanation is known.

Each clip of a set is the target once; the other is drawn from the clips of another
label. All fits the encoder's input, so that every method explains the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lmaczs.audio.io import load_audio
from lmaczs.audio.mixing import concatenate
from lmaczs.clap import FrozenClap
from lmaczs.evaluation.explainers import Asked, Methods
from lmaczs.frontend import FrontEnd, power
from lmaczs.metrics.localisation import (
    mass_in_region,
    mass_on_source,
    pointing_game,
    si_sdr_improvement,
    temporal_iou,
)
from lmaczs.utils.seeds import seed_of

Arrangement = Literal["sum", "sequence"]
LOCALISATION = (
    "mass_on_source",
    "pointing_game",
    "temporal_iou",
    "si_sdr_improvement",
)


class KnownSources(Dataset):
    """Pairs of clips at equal power, at once or one after the other.

    Parameters
    ----------
    clips : DataFrame
        id, path, label.
    front_end : FrontEnd
        Gives rate and length.
    arrangement : {"sum", "sequence"}
        A sum is as long as the encoder's input; in a sequence each clip has half of
        it, its loudest stretch, and which comes first is drawn.
    seed : int
        Of what is drawn, for each clip by itself.

    Raises
    ------
    ValueError
        If there is no such arrangement, or all clips have one label.
    """

    def __init__(
        self,
        clips: pd.DataFrame,
        front_end: FrontEnd,
        arrangement: Arrangement,
        seed: int = 0,
    ) -> None:
        if arrangement not in get_args(Arrangement):
            raise ValueError(f"arrangement is {arrangement!r}, not sum or sequence")
        if clips.label.nunique() < 2:
            raise ValueError("two sources need clips of two labels, and there is one")
        self.clips = clips.reset_index(drop=True)
        self.front_end, self.arrangement, self.seed = front_end, arrangement, seed

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips.iloc[index]
        rng = np.random.default_rng(seed_of(self.seed, self.arrangement, clip.id))
        others = self.clips[self.clips.label != clip.label]
        other = others.iloc[int(rng.integers(len(others)))]
        target, rest = self._clip(clip.path), self._clip(other.path)
        if self.arrangement == "sequence":
            first_leads = not rng.integers(2)
            target, rest = concatenate(target, rest, 0.5, 0.0, first_leads)
        return {
            "id": clip.id,
            "label": clip.label,
            "other": other.id,
            "target": target,
            "rest": rest,
            "samples": len(target),
        }

    def _clip(self, path: str) -> Tensor:
        """At the length of the input and a mean power that leaves room for a second."""
        wav = load_audio(path, self.front_end.sample_rate)
        wav = self.front_end.fit_length(wav[None])[0]
        return 0.05 * wav / wav.square().mean().sqrt().clamp_min(1e-9)


def locate(
    clap: FrozenClap,
    methods: Methods,
    prompts: Mapping[str, Tensor],
    batch: Mapping[str, Any],
    arrangement: str,
    seed: int,
) -> pd.DataFrame:
    """Explain pairs of clips for the label of the first and see what the masks keep.

    Parameters
    ----------
    clap : FrozenClap
        The model that is explained.
    methods : Methods
        What is compared.
    prompts : mapping of str to Tensor [D]
        Embedding of each label's prompt.
    batch : mapping
        Of `KnownSources`: id, label, other, samples, target and rest [B, samples].
    arrangement : {"sum", "sequence"}
        How they were put together.
    seed : int
        Of what methods draw.

    Returns
    -------
    DataFrame
        One row a pair and method: id, other, method, `LOCALISATION`, seconds. Where
        the two sound at once, the pointing game and the overlap in time are empty.
    """
    front_end = clap.front_end
    target, rest = batch["target"].to(clap.device), batch["rest"].to(clap.device)
    mixture = target + rest
    spectrum = front_end.stft(mixture)
    log_mel = front_end.stft_to_log_mel(spectrum)
    text = torch.stack([prompts[label] for label in batch["label"]]).to(clap.device)
    cut = slice(0, front_end.n_frames)
    asked = Asked(spectrum[..., cut], log_mel, text, batch["samples"], seed)
    parts = []
    for name, (mask, seconds) in methods(asked).items():
        if methods.domain == "mel":
            mask = front_end.expand_mask(mask)
        if arrangement == "sum":
            scores = _in_a_sum(front_end, mask, mixture, target, rest)
        else:
            scores = _in_a_sequence(front_end, mask, asked.spectrum, target)
        columns = {k: v.tolist() for k, v in scores.items()}
        first = {"id": batch["id"], "other": batch["other"], "method": name}
        parts.append(pd.DataFrame({**first, **columns, "seconds": seconds}))
    return pd.concat(parts, ignore_index=True).reindex(
        columns=["id", "other", "method", *LOCALISATION, "seconds"]
    )


def _in_a_sum(
    front_end: FrontEnd, mask: Tensor, mixture: Tensor, target: Tensor, rest: Tensor
) -> dict[str, Tensor]:
    spectra = [
        front_end.stft(wav)[..., : mask.shape[-1]] for wav in (mixture, target, rest)
    ]
    heard = front_end.istft(mask * spectra[0], mixture.shape[-1])
    return {
        "mass_on_source": mass_on_source(mask, power(spectra[1]), power(spectra[2])),
        "si_sdr_improvement": si_sdr_improvement(heard, mixture, target),
    }


def _in_a_sequence(
    front_end: FrontEnd, mask: Tensor, spectrum: Tensor, target: Tensor
) -> dict[str, Tensor]:
    inside = frames_of(front_end, target != 0, mask.shape[-1])
    cells = power(spectrum)
    return {
        "mass_on_source": mass_in_region(mask, cells, inside),
        "pointing_game": pointing_game(mask, cells, inside.float()),
        "temporal_iou": temporal_iou(mask, inside.float()),
    }


def frames_of(front_end: FrontEnd, sounding: Tensor, frames: int) -> Tensor:
    """Frames from the first to the last sounding sample.

    Parameters
    ----------
    front_end : FrontEnd
        Gives the hop; a frame's time is that of its middle.
    sounding : Tensor [B, samples], bool
        Where a source sounds.
    frames : int
        Number T of frames.

    Returns
    -------
    Tensor [B, T], bool
        All false where nothing sounds.
    """
    count = sounding.shape[-1]
    first = sounding.float().argmax(-1, keepdim=True)
    last = count - 1 - sounding.flip(-1).float().argmax(-1, keepdim=True)
    middle = torch.arange(frames, device=sounding.device) * front_end.hop_length
    middle = middle.clamp_max(count - 1)
    return (middle >= first) & (middle <= last) & sounding.any(-1, keepdim=True)


def prompts_of(
    clap: FrozenClap, labels: Sequence[str], template: str
) -> dict[str, Tensor]:
    """Embedding of every label's prompt.

    Parameters
    ----------
    clap : FrozenClap
        The model.
    labels : sequence of str
        Names of sounds.
    template : str
        Makes prompts of them.

    Returns
    -------
    dict of str to Tensor [D]
    """
    text = clap.encode_text([template.format(label) for label in labels])
    return dict(zip(labels, text, strict=True))
