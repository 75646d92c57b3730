"""Is it an explanation or an attack? Whether masks work beyond what they were made on.

A mask that is an attack on the model works on the very clip and for the very weights
that it was fitted to. One that shows a sound works on the same clip a little later,
louder or with faint noise, and another model recognises the sound in what it keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Generator, Tensor, nn

from lmaczs.audio.mixing import scale_to_snr
from lmaczs.audio.resampling import resample
from lmaczs.data.audioset_labels import audioset_names
from lmaczs.evaluation.explainer import Explainer, ExplainerInput
from lmaczs.evaluation.explainers import ExplainerSuite
from lmaczs.evaluation.randomisation import randomise, stages_from_the_top
from lmaczs.evaluation.scoring import PredictedClips, predict
from lmaczs.metrics.faithfulness import average_drop, average_increase, faithfulness
from lmaczs.utils.seeds import seed_of

SAME = "same"
SHIFT_S, GAIN_DB, NOISE_SNR_DB = 0.01, 6.0, 30.0
TAGGER_RATE = 16_000  # Hz
FIRST, LEAST_SCORE = 10, 0.02
"""A tagger recognises a class that is among its first ten with this score or a higher
one: in silence the tenth of YAMNet has 1/256, the smallest step of its scores."""


class Tagger(Protocol):
    """An audio tagger of sound at 16 kHz, such as YAMNet."""

    class_names: list[str]

    def forward(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [P, K] and embeddings [P, E] of the P patches of ``wav [samples]``."""
        ...


# --- transforms of a clip -----------------------------------------------------------


def delayed(wav: Tensor, samples: int) -> Tensor:
    """A waveform [n] that begins later, after silence; its end is lost."""
    return nn.functional.pad(wav, (samples, 0))[..., : wav.shape[-1]]


def louder(wav: Tensor, decibels: float) -> Tensor:
    """A waveform with a gain; it may exceed 1."""
    return wav * 10 ** (decibels / 20)


def with_white_noise(wav: Tensor, snr_db: float, rng: Generator) -> Tensor:
    """A waveform [n] and Gaussian noise `snr_db` below it; silence stays silent."""
    noise = torch.randn(wav.shape, generator=rng)
    return wav + scale_to_snr(noise.to(wav), wav, snr_db)


Transform = Callable[[Tensor, int, Generator], Tensor]

TRANSFORMS: dict[str, Transform] = {
    SAME: lambda wav, rate, rng: wav,
    "10 ms later": lambda wav, rate, rng: delayed(wav, round(SHIFT_S * rate)),
    "6 dB louder": lambda wav, rate, rng: louder(wav, GAIN_DB),
    "noise at 30 dB": lambda wav, rate, rng: with_white_noise(wav, NOISE_SNR_DB, rng),
}
"""Of a waveform [samples] at a rate in Hz, with a random generator."""


# --- explanations, made once --------------------------------------------------------


@dataclass(frozen=True)
class ExplainedClips:
    """A batch of clips with the masks of every method.

    Attributes
    ----------
    clips : mapping
        wav [B, samples], samples [B], id and label (lists of B).
    predicted : PredictedClips
        Of the clips as they are.
    masks : mapping of str to Tensor
        Masks of each method, of the clips that it explained.
    rows : mapping of str to list of int
        These clips' numbers.
    """

    clips: Mapping[str, Any]
    predicted: PredictedClips
    masks: Mapping[str, Tensor]
    rows: Mapping[str, list[int]]

    @property
    def prompts(self) -> list[str]:
        """Label of each clip's prompt, which is the class that the model predicts."""
        labels = self.predicted.labels
        return [labels[place] for place in self.predicted.cosines.argmax(1).tolist()]

    def table(
        self, method: str, more: Mapping[str, Any], figures: Mapping[str, Any]
    ) -> pd.DataFrame:
        """Rows of a method's clips: id, label, prompt, method, what is given."""
        rows, ids = self.rows[method], self.clips["id"]
        first = {
            "id": [ids[row] for row in rows],
            "label": [self.clips["label"][row] for row in rows],
            "prompt": [self.prompts[row] for row in rows],
            "method": method,
        }
        return pd.DataFrame({**first, **more, **figures})


def explain_clips(
    suite: ExplainerSuite,
    prompts: Mapping[str, Tensor],
    clips: Mapping[str, Any],
    seed: int,
    rows: Mapping[str, list[int]] | None = None,
) -> ExplainedClips:
    """Explain clips by every method; those in `rows` are computed on these alone.

    `clips` and `prompts` are those of `predict`; explainers draw with `seed`.
    """
    found = predict(suite.clap, prompts, clips, suite.domain, seed)
    found = replace(found, batch=suite.with_reference(found.batch))
    every = list(range(len(found.cosines)))
    own = {name: (rows or {}).get(name, every) for name in suite.names}
    masks = {
        name: suite.explain(name, found.batch.take(some)).masks
        for name, some in own.items()
        if some
    }
    own = {name: some for name, some in own.items() if some}
    return ExplainedClips(clips, found, masks, own)


# --- the same mask on a clip that is not quite the same -----------------------------


def transformed(clips: Mapping[str, Any], name: str, rate: int, seed: int) -> Tensor:
    """Waveforms [B, samples] of a batch after one of `TRANSFORMS`.

    What is drawn depends on seed and clip alone.
    """
    change = TRANSFORMS[name]
    wavs = [
        change(wav, rate, torch.Generator().manual_seed(seed_of(seed, name, clip)))
        for wav, clip in zip(clips["wav"], clips["id"], strict=True)
    ]
    return torch.stack(wavs)


def held(clips: PredictedClips, masks: Tensor, classes: Tensor) -> dict[str, Tensor]:
    """AI, AD, FF and Fid-In [B] of masks on clips, for given classes [B].

    The masks and classes are those of other clips, or of these before they were
    changed: Fid-In is whether a given class, not that of the changed clip, is predicted
    under the mask.
    """
    scale = clips.batch.clap.logit_scale
    parts = [clips.cosines, *clips.masked_cosines(masks)]
    probabilities = [torch.softmax(scale * cosines, 1) for cosines in parts]
    c, o, r = (p.gather(1, classes[:, None])[:, 0] for p in probabilities)
    stays = probabilities[1].argmax(1) == classes
    return {
        "AI": average_increase(c, o),
        "AD": average_drop(c, o),
        "FF": faithfulness(c, r),
        "Fid-In": stays.to(c),
    }


def score_transforms(
    explained: ExplainedClips, prompts: Mapping[str, Tensor], seed: int
) -> pd.DataFrame:
    """Score the masks of the clips as they are on the clips after each transform.

    Columns: id, label, prompt, method, transform, AI, AD, FF, Fid-In, MM.
    """
    batch, clips = explained.predicted.batch, explained.clips
    classes = explained.predicted.cosines.argmax(1)
    rate = batch.clap.front_end.sample_rate
    parts = []
    for name in TRANSFORMS:
        wavs = transformed(clips, name, rate, seed)
        moved = predict(batch.clap, prompts, {**clips, "wav": wavs}, batch.domain, seed)
        for method, masks in explained.masks.items():
            rows = explained.rows[method]
            found = held(moved.take(rows), masks, classes[rows])
            found["MM"] = masks.mean((1, 2))
            figures = {key: values.tolist() for key, values in found.items()}
            parts.append(explained.table(method, {"transform": name}, figures))
    return pd.concat(parts, ignore_index=True)


# --- another model ------------------------------------------------------------------


def sounds_of(batch: ExplainerInput, masks: Tensor) -> list[Tensor]:
    """Waveforms that masks keep of the clips, each of its clip's own length."""
    front_end = batch.clap.front_end
    bins = front_end.expand_mask(masks) if batch.domain == "mel" else masks
    wavs = front_end.istft(bins * batch.spectrum, front_end.max_samples)
    return [
        wav[: int(samples)] for wav, samples in zip(wavs, batch.samples, strict=True)
    ]


def score_and_rank(scores: Tensor, places: Sequence[int]) -> tuple[float, float]:
    """Score and rank among K classes (1: first) of the best of some of them.

    `scores` are [P, K] of P patches; a class has its highest. Classes with equal scores
    share the mean of their ranks.
    """
    best = scores.amax(0)
    own = best[list(places)].max()
    above, equal = int((best > own).sum()), int((best == own).sum())
    return float(own), above + (equal + 1) / 2


def tag(
    tagger: Tagger, wavs: Sequence[Tensor], rate: int, classes: Sequence[Sequence[str]]
) -> tuple[list[float], list[float]]:
    """Score and rank, as lists, of the classes of each sound, see `score_and_rank`."""
    found = []
    for wav, names in zip(wavs, classes, strict=True):
        scores = tagger.forward(resample(wav.cpu(), rate, TAGGER_RATE))[0]
        places = [tagger.class_names.index(name) for name in names]
        found.append(score_and_rank(scores, places))
    return [score for score, _ in found], [rank for _, rank in found]


def score_by_tagger(explained: ExplainedClips, tagger: Tagger) -> pd.DataFrame:
    """Let a tagger judge the clips, and what masks keep and leave out of them.

    Columns: id, label, prompt, method, and score and rank (``score_input``,
    ``score_kept``, ``score_left``, ``rank_input``, ...) of the AudioSet class that is
    the prompt's label. Clips whose prompt's label has none are left out.
    """
    names = [audioset_names(label, tagger.class_names) for label in explained.prompts]
    batch = explained.predicted.batch
    rate = batch.clap.front_end.sample_rate
    known = [row for row, found in enumerate(names) if found]
    wavs = [explained.clips["wav"][row][: int(batch.samples[row])] for row in known]
    scores, ranks = tag(tagger, wavs, rate, [names[row] for row in known])
    parts = []
    for method, masks in explained.masks.items():
        places = [n for n, row in enumerate(explained.rows[method]) if row in known]
        rows = [explained.rows[method][place] for place in places]
        if not rows:
            continue
        own, classes = batch.take(rows), [names[row] for row in rows]
        given = [known.index(row) for row in rows]
        found = {"input": ([scores[n] for n in given], [ranks[n] for n in given])}
        for part, one in (("kept", masks[places]), ("left", 1 - masks[places])):
            found[part] = tag(tagger, sounds_of(own, one), rate, classes)
        figures = {f"score_{part}": pair[0] for part, pair in found.items()}
        figures |= {f"rank_{part}": pair[1] for part, pair in found.items()}
        some = replace(explained, rows={method: rows})
        parts.append(some.table(method, {}, figures))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


# --- another model in the place of the explained one --------------------------------


def randomised_table(
    suite: ExplainerSuite,
    prompts: Mapping[str, Tensor],
    clips: Mapping[str, Any],
    seed: int,
) -> pd.DataFrame:
    """Compare masks with those of the model with random weights.

    `clips` and `prompts` are those of `predict`; `seed` draws the weights, and what
    explainers draw. Columns: id, and those of `randomise`, for the stages ``top`` and
    ``all``.
    """
    stages = list(stages_from_the_top(suite.clap))
    batch = predict(suite.clap, prompts, clips, suite.domain, seed).batch

    def with_own_reference(method: Explainer) -> Explainer:
        # the decoder's masks have to be those for the same weights
        return lambda batch: method(suite.with_reference(batch))

    methods = {name: with_own_reference(one) for name, one in suite.methods.items()}
    table, _ = randomise(methods, batch, (stages[0], stages[-1]))
    table.insert(0, "id", [clips["id"][clip] for clip in table.pop("clip")])
    return table.assign(stage=table.stage.map({stages[0]: "top", stages[-1]: "all"}))
