"""Sums and sequences of two clips: mixtures whose sources are known.

Each clip of a set is the target once; the interference is drawn from the clips of
another label. Mixtures are as long as the encoder's input. recipes/evaluate.py scores
every explainer on them, recipes/quality.py a decoder alone, with the same values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from lmaczs.audio.mixing import concatenate, scale_to_rms
from lmaczs.clap import FrozenClap
from lmaczs.data.segments import segments_of
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.explainers import Explained, ExplainerSuite
from lmaczs.evaluation.scoring import method_rows
from lmaczs.frontend import Domain, FrontEnd, power
from lmaczs.metrics.localisation import LOCALISATION, LocatedMasks
from lmaczs.metrics.metric import Column, values_of
from lmaczs.utils.errors import InputError
from lmaczs.utils.seeds import seed_of

Arrangement = Literal["sum", "sequence"]
ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)
RMS = 0.05  # of each source: leaves room for the other one


def localisation_columns() -> dict[str, Column]:
    """Metrics of all arrangements by name, in the order of localisation.csv."""
    return {n: m for metrics in LOCALISATION.values() for n, m in metrics.items()}


class SourceMixtures(Dataset):
    """Pairs of clips (id, path, label) at equal power, at once or one after the other.

    Both clips of a sum fill the encoder's input; in a sequence each has half of it, its
    loudest stretch, in random order. The draws depend on `seed` and the clip. Raises
    InputError for an unknown arrangement, or if all clips have one label.
    """

    def __init__(
        self,
        clips: pd.DataFrame,
        front_end: FrontEnd,
        arrangement: Arrangement,
        seed: int = 0,
    ) -> None:
        if arrangement not in ARRANGEMENTS:
            raise InputError(f"arrangement is {arrangement!r}, not sum or sequence")
        require_two_labels(clips, "known sources")
        self.clips = clips.reset_index(drop=True)
        self.front_end, self.arrangement, self.seed = front_end, arrangement, seed
        self._segments = segments_of(self.clips)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips.iloc[index]
        rng = np.random.default_rng(seed_of(self.seed, self.arrangement, clip.id))
        others = np.flatnonzero(self.clips.label != clip.label)
        other = int(others[rng.integers(len(others))])
        target, interference = self._clip(index), self._clip(other)
        if self.arrangement == "sequence":
            first_leads = not rng.integers(2)
            target, interference = concatenate(
                target, interference, 0.5, 0.0, first_leads
            )
        return {
            "id": clip.id,
            "label": clip.label,
            "other": self.clips.id[other],
            "target": target,
            "interference": interference,
            "samples": len(target),
        }

    def _clip(self, index: int) -> Tensor:
        """A clip at the length of the input and a mean power that does not clip."""
        wav = self._segments[index].load(self.front_end.sample_rate)
        return scale_to_rms(self.front_end.fit_length(wav[None])[0], RMS)


def require_two_labels(clips: pd.DataFrame, purpose: str) -> None:
    """Raise `InputError` if clips have one label alone, which cannot be mixed."""
    if clips.label.nunique() < 2:
        raise InputError(
            f"{purpose}: a mixture needs clips of two labels, and all {len(clips)} are "
            f"{clips.label.iloc[0]!r}: test on others, too"
        )


@dataclass(frozen=True)
class MixtureBatch:
    """A batch of `SourceMixtures` with the prompts of their targets.

    Attributes
    ----------
    arrangement : {"sum", "sequence"}
        Of the sources.
    pairs : mapping
        id and other (lists of B).
    batch : ExplainerInput
        The mixtures and prompts.
    target, mixture : Tensor [B, samples]
        Waveforms.
    target_power, interference_power : Tensor [B, F, T]
        Of the sources alone.
    inside : Tensor [B, T]
        True in the frames of the target.
    """

    arrangement: Arrangement
    pairs: Mapping[str, Any]
    batch: ExplainerInput
    target: Tensor
    mixture: Tensor
    target_power: Tensor
    interference_power: Tensor
    inside: Tensor

    def take(self, rows: Sequence[int]) -> MixtureBatch:
        """Some pairs of the batch, by number."""
        chosen = list(rows)
        tensors = (
            "target",
            "mixture",
            "target_power",
            "interference_power",
            "inside",
        )
        return replace(
            self,
            pairs={k: [self.pairs[k][row] for row in chosen] for k in ("id", "other")},
            batch=self.batch.take(chosen),
            **{name: getattr(self, name)[chosen] for name in tensors},
        )


@torch.no_grad()
def mixture_batch(
    clap: FrozenClap,
    prompts: Mapping[str, Tensor],
    pairs: Mapping[str, Any],
    arrangement: Arrangement,
    domain: Domain = "stft",
    seed: int = 0,
) -> MixtureBatch:
    """Prepare a batch of `SourceMixtures` to be explained for the target's label.

    `prompts` has the embedding [D] of each label's prompt. Explainers draw with `seed`.
    """
    front_end = clap.front_end
    target, interference = (
        pairs[name].to(clap.device) for name in ("target", "interference")
    )
    mixture = target + interference
    spectrum, *sources = map(front_end.stft, (mixture, target, interference))
    log_mel = front_end.stft_to_log_mel(spectrum)
    spectrum = spectrum[..., : front_end.n_frames]
    own, other = (power(source[..., : front_end.n_frames]) for source in sources)
    inside = frames_of(front_end, target != 0, front_end.n_frames)
    text = torch.stack([prompts[label] for label in pairs["label"]]).to(clap.device)
    classes = torch.stack(list(prompts.values())).to(clap.device)
    grid = spectrum, log_mel, text, pairs["samples"]
    batch = ExplainerInput(clap, *grid, domain, seed, classes=classes, ids=pairs["id"])
    return MixtureBatch(arrangement, pairs, batch, target, mixture, own, other, inside)


def score_source_mixtures(
    suite: ExplainerSuite,
    clips: pd.DataFrame,
    prompts: Mapping[str, Tensor],
    seed: int,
    batch_size: int = 16,
) -> pd.DataFrame:
    """Score explainers on every sum and sequence of a set of clips (id, path, label).

    Rows are those of `score_localisation`, with a column condition: the arrangement.
    """
    parts = []
    for arrangement in ARRANGEMENTS:
        data = SourceMixtures(clips, suite.clap.front_end, arrangement, seed)
        own = (arrangement, suite.domain, seed_of(seed, arrangement))
        for start in range(0, len(data), batch_size):
            stop = min(start + batch_size, len(data))
            pairs = default_collate([data[row] for row in range(start, stop)])
            mixtures = mixture_batch(suite.clap, prompts, pairs, *own)
            batch = suite.with_reference(mixtures.batch)
            for name in suite.names:
                explained = suite.explain(name, batch)
                rows = score_localisation(mixtures, name, explained)
                rows.insert(0, "condition", arrangement)
                parts.append(rows)
    return pd.concat(parts, ignore_index=True)


@torch.no_grad()
def score_localisation(
    mixtures: MixtureBatch, method: str, explained: Explained
) -> pd.DataFrame:
    """Score a method's masks of mixtures.

    A row for each pair: id, other, method, `localisation_columns`, seconds. Columns
    that the arrangement does not score are empty.
    """
    batch, front_end = mixtures.batch, mixtures.batch.clap.front_end
    masks, mixture = explained.masks, mixtures.mixture
    if batch.domain == "mel":
        masks = front_end.expand_mask(masks)
    located = LocatedMasks(
        masks=masks,
        power=power(batch.spectrum),
        target_power=mixtures.target_power,
        interference_power=mixtures.interference_power,
        inside=mixtures.inside,
        explanations=front_end.istft(masks * batch.spectrum, mixture.shape[-1]),
        mixtures=mixture,
        targets=mixtures.target,
    )
    table = values_of(LOCALISATION[mixtures.arrangement], located)
    first = {name: mixtures.pairs[name] for name in ("id", "other")}
    return method_rows(method, first, table, explained.seconds).reindex(
        columns=["id", "other", "method", *localisation_columns(), "seconds"]
    )


def frames_of(front_end: FrontEnd, sounding: Tensor, frames: int) -> Tensor:
    """Frames [B, T] from the first to the last sounding sample; none in silence.

    `sounding` [B, samples] is true where a source sounds. A frame's time is that of its
    middle.
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
    """Embedding [D] of every label's prompt, made by a template."""
    text = clap.encode_text([template.format(label) for label in labels])
    return dict(zip(labels, text, strict=True))
