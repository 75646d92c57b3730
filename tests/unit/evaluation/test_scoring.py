"""Scoring of explanations, on a random tiny CLAP."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.explainers import (
    KEEP_ALL,
    MAIN,
    ExplainerSuite,
    Method,
    chosen,
)
from lmaczs.evaluation.scoring import (
    UNSCALED,
    PredictedClips,
    predict,
    score,
    unscaled,
)
from lmaczs.frontend import DOMAINS, Domain, power
from lmaczs.metrics.faithfulness import METRICS

LABELS = ["dog", "rain", "siren"]
BASELINES = ["random patches", "random bins", "energy"]


def clips(clap: FrozenClap, number: int = 3) -> list[dict[str, Any]]:
    """Noises that begin at different times, labels in turn."""
    samples = clap.front_end.max_samples
    rng = torch.Generator().manual_seed(0)
    wavs = 0.1 * torch.randn(number, samples, generator=rng)
    starts = torch.linspace(0, 0.6, number)[:, None] * samples
    wavs = wavs * (torch.arange(samples) > starts)
    return [
        {"id": f"clip{i}", "label": LABELS[i % 3], "wav": wav, "samples": samples}
        for i, wav in enumerate(wavs)
    ]


@pytest.fixture(scope="module")
def class_text(tiny_clap: FrozenClap) -> Tensor:
    """Embeddings of the three class prompts."""
    return tiny_clap.encode_text([f"This is a sound of {x}." for x in LABELS])


def predicted_by(
    suite: ExplainerSuite, class_text: Tensor, batch: dict[str, Any], seed: int
) -> PredictedClips:
    """A batch with predicted classes and reference masks."""
    prompts = dict(zip(LABELS, class_text, strict=True))
    found = predict(suite.clap, prompts, batch, suite.domain, seed)
    return replace(found, batch=suite.with_reference(found.batch))


def scored_by(suite: ExplainerSuite, predicted: PredictedClips) -> pd.DataFrame:
    """Scores of every method."""
    parts = [
        score(predicted, name, suite.explain(name, predicted.batch))
        for name in suite.names
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def suite(tiny_clap: FrozenClap) -> ExplainerSuite:
    """A random decoder and what it is compared with, one gradient method among it."""
    torch.manual_seed(0)
    decoder = MaskDecoder(tiny_clap, "mel", width=8)
    with torch.no_grad():
        decoder.draw.weight.mul_(2)
        decoder.draw.bias.fill_(-0.5)
    rest = chosen(["Grad-CAM", *BASELINES, KEEP_ALL])
    return ExplainerSuite(tiny_clap, {MAIN: decoder}, "mel", rest)


def scored(suite: ExplainerSuite, class_text: Tensor, size: int) -> pd.DataFrame:
    """Score three clips in batches of a size."""
    items = clips(suite.clap)
    batches = [default_collate(items[i : i + size]) for i in range(0, len(items), size)]
    parts = [
        scored_by(suite, predicted_by(suite, class_text, batch, 7)) for batch in batches
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def per_clip(suite: ExplainerSuite, class_text: Tensor) -> pd.DataFrame:
    """Scores of three clips in batches of two and one."""
    return scored(suite, class_text, 2)


# --- a batch ------------------------------------------------------------------------


def test_every_method_scores_every_clip_once(
    per_clip: pd.DataFrame, suite: ExplainerSuite
) -> None:
    """One row a clip and method, methods in the order of the tables."""
    assert list(per_clip) == [
        "id",
        "method",
        *METRICS,
        *map(unscaled, UNSCALED),
        "seconds",
    ]
    expected = [
        (f"clip{clip}", name)
        for batch in ((0, 1), (2,))
        for name in suite.names
        for clip in batch
    ]
    found = list(zip(per_clip.id, per_clip.method, strict=True))
    assert found == expected
    assert per_clip.notna().all(axis=None)
    assert (per_clip.seconds > 0).all()


def test_keeping_everything_changes_nothing(per_clip: pd.DataFrame) -> None:
    """No drop, no gain, the same class, and nothing left out."""
    kept = per_clip[per_clip.method == KEEP_ALL]
    assert (kept["Fid-In"] == 1).all()
    assert (kept["MM"] == 1).all()
    for name in ("AI", "AD", "AG"):  # no rounding either
        assert (kept[name] == 0).all()
    assert per_clip[per_clip.method == MAIN]["AD"].max() > 1e-2


def test_baselines_have_the_decoders_mean(per_clip: pd.DataFrame) -> None:
    """They are given as much of the spectrogram as LMAC-ZS+ takes, clip by clip."""
    means = per_clip.pivot(index="id", columns="method", values="MM")
    assert means[MAIN].nunique() == 3
    for name in BASELINES:
        assert means[name].tolist() == pytest.approx(means[MAIN].tolist(), abs=4e-5)


def test_scores_do_not_depend_on_the_batch(
    suite: ExplainerSuite, class_text: Tensor, per_clip: pd.DataFrame
) -> None:
    """Neither on its size; what is drawn is drawn for each clip."""

    def of_methods(table: pd.DataFrame) -> pd.DataFrame:
        table = table.set_index(["method", "id"]).sort_index()
        return table[list(METRICS)]

    found = of_methods(scored(suite, class_text, 3))
    pd.testing.assert_frame_equal(found, of_methods(per_clip), atol=2e-2, rtol=5e-3)


def probability(
    clap: FrozenClap,
    log_mel: Tensor,
    class_text: Tensor,
    index: int | None = None,
    scale: float | None = None,
) -> tuple[float, int]:
    """Probability of a class, or of the likeliest one, in plain Python; its index."""
    (embedding,) = clap.audio_embedding(log_mel).tolist()
    scale = clap.logit_scale if scale is None else scale
    logits = [
        scale * sum(a * b for a, b in zip(embedding, t, strict=True))
        for t in class_text.tolist()
    ]
    index = max(range(len(logits)), key=logits.__getitem__) if index is None else index
    return math.exp(logits[index]) / sum(math.exp(x) for x in logits), index


def fixed_suite(
    clap: FrozenClap,
    masks: Tensor,
    domain: Domain,
    seen: list[ExplainerInput] | None = None,
) -> ExplainerSuite:
    """Two masks that are given, whatever the batch is."""

    def explain(batch: ExplainerInput) -> Tensor:
        if seen is not None:
            seen.append(batch)
        return masks

    methods = {
        "one": Method("one", explain),
        "other": Method("other", lambda batch: 1 - masks),
    }
    return ExplainerSuite(clap, {}, domain, methods)


@pytest.mark.parametrize("domain", DOMAINS)
@torch.no_grad()
def test_scores_are_those_of_probabilities_by_hand(
    tiny_clap: FrozenClap,
    class_text: Tensor,
    domain: Domain,
    masked_log_mel: Callable[..., Tensor],
) -> None:
    """Of one clip: what mask and remainder leave of the predicted class."""
    front_end = tiny_clap.front_end
    bins = front_end.n_mels if domain == "mel" else front_end.n_freqs
    rng = torch.Generator().manual_seed(1)
    mask = torch.rand(1, bins, front_end.n_frames, generator=rng).round(decimals=1)
    mask[:, bins // 4 :] = 0
    batch = default_collate(clips(tiny_clap, 1))
    suite = fixed_suite(tiny_clap, mask, domain)
    table = scored_by(suite, predicted_by(suite, class_text, batch, 0))
    assert table.method.tolist() == ["one", "other"]
    assert (table.seconds > 0).all()
    c, predicted = probability(tiny_clap, front_end.log_mel(batch["wav"]), class_text)
    drops = []
    for (_, row), own in zip(table.iterrows(), (mask, 1 - mask), strict=True):
        kept, left = (
            masked_log_mel(front_end, batch["wav"], m, domain) for m in (own, 1 - own)
        )
        o, _ = probability(tiny_clap, kept, class_text, predicted)
        r, _ = probability(tiny_clap, left, class_text, predicted)
        assert row["AI"] == (100 if o > c else 0)
        assert row["AD"] == pytest.approx(100 * max(c - o, 0) / c, abs=1e-2)
        assert row["AG"] == pytest.approx(100 * max(o - c, 0) / (1 - c), abs=1e-2)
        assert row["FF"] == pytest.approx(c - r, abs=1e-4)
        same = probability(tiny_clap, kept, class_text)[1] == predicted
        assert row["Fid-In"] == same
        assert row["accuracy"] == (LABELS[predicted] == "dog")
        assert row["MM"] == pytest.approx(float(own.mean()), abs=1e-6)
        drops.append(abs(c - o))
    assert max(drops) > 1e-3


def test_predicted_classes_are_explained(
    tiny_clap: FrozenClap, class_text: Tensor
) -> None:
    """Explainers get the predicted classes' prompts; labels decide on accuracy."""
    front_end, seen = tiny_clap.front_end, []
    items = clips(tiny_clap)
    log_mel = front_end.log_mel(torch.stack([item["wav"] for item in items]))
    best = (tiny_clap.audio_embedding(log_mel) @ class_text.T).argmax(1).tolist()
    for row, (item, index) in enumerate(zip(items, best, strict=True)):
        item["label"] = LABELS[(index + row % 2) % 3]
    batch = default_collate(items)
    masks = torch.full((3, front_end.n_freqs, front_end.n_frames), 0.5)
    suite = fixed_suite(tiny_clap, masks, "stft", seen)
    predicted = predicted_by(suite, class_text, batch, 11)
    table = scored_by(suite, predicted)
    assert table.accuracy.tolist() == [1, 0, 1] * 2
    given = seen[0]
    assert torch.equal(given.text, class_text[best])
    assert given.seed == 11
    assert given.samples.tolist() == [front_end.max_samples] * 3
    spectrum = front_end.stft(batch["wav"])[..., : front_end.n_frames]
    assert torch.equal(given.spectrum, spectrum)
    torch.testing.assert_close(given.log_mel, log_mel)
    assert predicted.batch is given
    assert list(given.ids) == ["clip0", "clip1", "clip2"]
    torch.testing.assert_close(given.cells, power(spectrum))


@torch.no_grad()
def test_figures_at_scale_one_are_eq_9_as_written(
    suite: ExplainerSuite, class_text: Tensor
) -> None:
    """The softmax of the cosines themselves."""
    clap, items = suite.clap, clips(suite.clap)
    predicted = predicted_by(suite, class_text, default_collate(items), 7)
    explained = suite.explain("Grad-CAM", predicted.batch)
    table = score(predicted, "Grad-CAM", explained)
    for row, masks in enumerate(explained.masks):
        spectrum = predicted.batch.spectrum[row : row + 1]
        log_mels = [
            clap.front_end.input_tf(spectrum, mask[None], "mel")
            for mask in (torch.ones_like(masks), masks, 1 - masks)
        ]
        c, index = probability(clap, log_mels[0], class_text, scale=1)
        o, r = (
            probability(clap, x, class_text, index, scale=1)[0] for x in log_mels[1:]
        )
        found = table.iloc[row]
        assert found["AD_unscaled"] == pytest.approx(100 * max(c - o, 0) / c, abs=1e-3)
        assert found["FF_unscaled"] == pytest.approx(c - r, abs=1e-5)
        gain = 100 * max(o - c, 0) / (1 - c)
        assert found["AG_unscaled"] == pytest.approx(gain, abs=1e-3)
        assert found["AI_unscaled"] == (100 if o > c else 0)


def test_some_clips_of_a_batch(suite: ExplainerSuite, class_text: Tensor) -> None:
    """They are scored as among the others."""
    predicted = predicted_by(suite, class_text, default_collate(clips(suite.clap)), 7)
    explained = suite.explain("Grad-CAM", predicted.batch)
    every = score(predicted, "Grad-CAM", explained)
    some = score(predicted.take([2, 0]), "Grad-CAM", explained.take([2, 0]))
    assert some.id.tolist() == ["clip2", "clip0"]
    expected = every.iloc[[2, 0]].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, expected, atol=1e-2)
    assert predicted.take([0, 1, 2]) is predicted
