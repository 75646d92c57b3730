"""robustness.py: transforms, masks on changed clips, another model, random models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lmaczs.audio.mixing import rms
from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.evaluation.explainers import KEEP_ALL, MAIN, ExplainerSuite, chosen
from lmaczs.evaluation.robustness import (
    SAME,
    TRANSFORMS,
    ExplainedClips,
    delayed,
    explain_clips,
    held,
    louder,
    randomised_table,
    score_and_rank,
    score_by_tagger,
    score_transforms,
    sounds_of,
    transformed,
    with_white_noise,
)
from lmaczs.evaluation.scoring import predict
from lmaczs.metrics.faithfulness import METRICS

LABELS = ["dog", "mouse click", "siren"]
HELD = ["AI", "AD", "FF", "Fid-In"]
GRAD_CAM = "Grad-CAM"


def noise(samples: int, seed: int = 0) -> Tensor:
    """White noise."""
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def suite(tiny_clap: FrozenClap) -> ExplainerSuite:
    """A random decoder, a gradient method, and two that need no model."""
    torch.manual_seed(0)
    decoder = MaskDecoder(tiny_clap, "stft", width=8)
    with torch.no_grad():
        decoder.draw.weight.mul_(2)
        decoder.draw.bias.fill_(-0.5)
    rest = chosen([GRAD_CAM, "energy", KEEP_ALL])
    return ExplainerSuite(tiny_clap, {MAIN: decoder}, "stft", rest)


@pytest.fixture(scope="module")
def prompts(tiny_clap: FrozenClap) -> dict[str, Tensor]:
    """Embeddings of the class prompts."""
    text = tiny_clap.encode_text([f"This is a sound of {label}." for label in LABELS])
    return dict(zip(LABELS, text, strict=True))


@pytest.fixture(scope="module")
def clips(tiny_clap: FrozenClap) -> dict[str, Any]:
    """Three clips, of which one lasts half as long as the encoder's input."""
    front_end = tiny_clap.front_end
    whole = front_end.max_samples
    lengths = [whole, whole // 2, whole]
    wavs = [noise(n, seed=n + k) for k, n in enumerate(lengths)]
    wavs[2] = wavs[2] * (torch.arange(whole) > whole // 2)
    return {
        "id": ["a", "b", "c"],
        "label": LABELS,
        "wav": torch.cat([front_end.fit_length(wav[None]) for wav in wavs]),
        "samples": torch.tensor(lengths),
    }


@pytest.fixture(scope="module")
def explained(
    suite: ExplainerSuite, prompts: dict[str, Tensor], clips: dict[str, Any]
) -> ExplainedClips:
    """All clips by all methods, Grad-CAM on the last two."""
    return explain_clips(suite, prompts, clips, 3, {GRAD_CAM: [1, 2]})


# --- transforms ---------------------------------------------------------------------


@given(st.integers(1, 20), st.integers(0, 25))
def test_delay_is_exact(length: int, samples: int) -> None:
    """Sample n of the result is sample n - samples, or silence before the first."""
    wav = noise(length)
    slow = [wav[n - samples].item() if n >= samples else 0.0 for n in range(length)]
    assert delayed(wav, samples).tolist() == slow


@pytest.mark.parametrize("decibels", [-20.0, 0.0, 6.0])
def test_gain(decibels: float) -> None:
    """The level rises by as many decibels, and the shape stays."""
    wav = noise(1000)
    found = louder(wav, decibels)
    assert 20 * math.log10(rms(found) / rms(wav)) == pytest.approx(decibels, abs=1e-4)
    assert torch.allclose(found / rms(found), wav / rms(wav), atol=1e-5)


@pytest.mark.parametrize("snr_db", [0.0, 30.0])
def test_noise_has_its_level(snr_db: float) -> None:
    """Measured from the difference; it is white, and silence stays silent."""
    wav, rng = torch.sin(torch.arange(32000) / 7), torch.Generator().manual_seed(1)
    added = (with_white_noise(wav, snr_db, rng) - wav).double()
    power = wav.double().square().mean() / added.square().mean()
    assert 10 * math.log10(power) == pytest.approx(snr_db, abs=1e-2)
    halves = torch.fft.rfft(added).abs().square()[1:16001].reshape(2, -1).sum(1)
    assert halves[0] / halves[1] == pytest.approx(1, abs=0.1)
    assert not with_white_noise(0 * wav, snr_db, rng).any()


def test_transforms_are_what_their_names_say() -> None:
    """At any rate: 10 ms in samples, 6 dB, 30 dB."""
    wav = noise(4800)
    found = {
        name: change(wav, 48000, torch.Generator().manual_seed(0))
        for name, change in TRANSFORMS.items()
    }
    assert list(found) == [SAME, "10 ms later", "6 dB louder", "noise at 30 dB"]
    assert torch.equal(found[SAME], wav)
    assert torch.equal(found["10 ms later"][480:], wav[:-480])
    assert torch.allclose(found["6 dB louder"], 1.99526 * wav)
    ratio = rms(wav) / rms(found["noise at 30 dB"] - wav)
    assert 20 * math.log10(ratio) == pytest.approx(30, abs=1e-2)


def test_noise_depends_on_seed_and_clip_alone(clips: dict[str, Any]) -> None:
    """Not on the clips beside it."""
    name = "noise at 30 dB"
    every = transformed(clips, name, 32000, seed=1)
    last = {"id": ["c"], "wav": clips["wav"][2:]}
    assert torch.equal(transformed(last, name, 32000, seed=1)[0], every[2])
    assert not torch.equal(transformed(last, name, 32000, seed=2)[0], every[2])


# --- masks on changed clips ---------------------------------------------------------


def test_keeping_everything_drops_nothing(
    explained: ExplainedClips, prompts: dict[str, Tensor]
) -> None:
    """Under every transform, and without a rise either."""
    table = score_transforms(explained, prompts, seed=5)
    kept = table[table.method == KEEP_ALL]
    assert list(kept["transform"].unique()) == list(TRANSFORMS)
    assert (kept.AD == 0).all() and (kept.AI == 0).all() and (kept.MM == 1).all()
    assert (kept["Fid-In"][kept["transform"] == SAME] == 1).all()
    assert table.AD[table.method != KEEP_ALL].max() > 0.01


def test_a_row_for_each_clip_method_and_transform(
    explained: ExplainedClips, prompts: dict[str, Tensor]
) -> None:
    """Slow methods have fewer; clips carry their label and that of their prompt."""
    table = score_transforms(explained, prompts, seed=5)
    counts = table.groupby(["method", "transform"]).id.agg("".join)
    for method in (MAIN, "energy", KEEP_ALL):
        assert set(counts[method]) == {"abc"}
    assert set(counts[GRAD_CAM]) == {"bc"}
    assert dict(zip(table.id, table.label, strict=True)) == dict(
        zip("abc", LABELS, strict=True)
    )
    assert set(table.prompt) == set(explained.prompts)
    assert table.notna().all(axis=None)


def test_unchanged_clips_have_the_figures_of_the_evaluation(
    explained: ExplainedClips, prompts: dict[str, Tensor]
) -> None:
    """The same metrics as those of `PredictedClips` for the same masks."""
    table = score_transforms(explained, prompts, seed=5)
    expected = explained.predicted.metrics(explained.masks[MAIN], HELD)
    own = table[(table.method == MAIN) & (table["transform"] == SAME)]
    assert list(HELD) == [name for name in METRICS if name in HELD]
    for name in HELD:
        assert own[name].tolist() == pytest.approx(expected[name].tolist(), abs=1e-3)


def test_the_class_stays_that_of_the_clip_as_it_is(
    explained: ExplainedClips, prompts: dict[str, Tensor], clips: dict[str, Any]
) -> None:
    """AD and FF are of a given class, whatever the changed clip's is."""
    predicted, masks = explained.predicted, explained.masks[MAIN]
    scale, clap = predicted.batch.clap.logit_scale, predicted.batch.clap
    classes = torch.tensor([2, 1, 0])
    found = held(predicted, masks, classes)
    for row, place in enumerate(classes.tolist()):
        wav = clips["wav"][row : row + 1]
        spectrum = clap.front_end.stft(wav)[..., : clap.front_end.n_frames]
        text, mask = torch.stack(list(prompts.values())), masks[row : row + 1]
        p = [
            torch.softmax(scale * clap.audio_embedding(log_mel) @ text.T, 1)[0]
            for log_mel in (
                clap.front_end.log_mel(wav),
                clap.front_end.input_tf(spectrum, mask),
                clap.front_end.input_tf(spectrum, 1 - mask),
            )
        ]
        c, o, r = (float(one[place]) for one in p)
        assert found["AI"][row] == 100 * (o > c)
        assert found["AD"][row] == pytest.approx(100 * max(0, c - o) / c, abs=1e-2)
        assert found["FF"][row] == pytest.approx(c - r, abs=1e-4)
        assert found["Fid-In"][row] == (int(p[1].argmax()) == place)


# --- another model ------------------------------------------------------------------


class LevelTagger:
    """Scores Dog by a sound's level, and Siren by its length in seconds."""

    class_names = ["Siren", "Cat", "Dog"]

    def forward(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """Of one patch."""
        scores = torch.tensor([[len(wav) / 16000, 0.05, float(rms(wav))]])
        return scores, scores


def slow_rank(scores: Sequence[float], own: int) -> float:
    """Mean of the places that a score can have in descending order."""
    order = sorted(scores, reverse=True)
    places = [n + 1 for n, score in enumerate(order) if score == scores[own]]
    return sum(places) / len(places)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=8), st.data())
def test_rank_of_one_class(values: list[int], data: st.DataObject) -> None:
    """The mean of its places among equals."""
    own = data.draw(st.integers(0, len(values) - 1))
    score, rank = score_and_rank(torch.tensor([values]).float(), [own])
    assert (score, rank) == (values[own], slow_rank(values, own))


def test_the_best_patch_and_the_best_class_count() -> None:
    """Of several patches the highest score, of several classes the highest rank."""
    scores = torch.tensor([[0.1, 0.2, 0.5], [0.3, 0.0, 0.4]])
    assert score_and_rank(scores, [0]) == (pytest.approx(0.3), 2)
    assert score_and_rank(scores, [0, 2]) == (0.5, 1)


def test_what_is_kept_and_left_makes_the_clip(explained: ExplainedClips) -> None:
    """Their sounds add up to it, each as long as the clip."""
    batch, masks = explained.predicted.batch, explained.masks[MAIN]
    kept, left = sounds_of(batch, masks), sounds_of(batch, 1 - masks)
    for row, samples in enumerate(batch.samples.tolist()):
        wav = explained.clips["wav"][row][:samples]
        assert kept[row].shape == left[row].shape == wav.shape
        inside = slice(0, samples - 2048)  # missing frames at the end are silent
        total = (kept[row] + left[row])[inside]
        assert torch.allclose(total, wav[inside], atol=1e-4)


def test_mel_masks_have_sounds(explained: ExplainedClips) -> None:
    """Those of mel bands are spread over the STFT's bins."""
    batch = replace(explained.predicted.batch, domain="mel")
    front_end = batch.clap.front_end
    masks = torch.ones(3, front_end.n_mels, front_end.n_frames)
    for wav, other in zip(sounds_of(batch, masks), batch.samples, strict=True):
        assert len(wav) == other and rms(wav) > 0


def test_tagger_judges_input_kept_and_left(explained: ExplainedClips) -> None:
    """By the class of the prompt's label; labels without a class are left out."""
    names = ["dog", "mouse click", "siren"]
    cosines = torch.eye(3)[[0, 2, 1]]  # prompts: dog, siren, mouse click
    predicted = replace(explained.predicted, labels=names, cosines=cosines)
    table = score_by_tagger(replace(explained, predicted=predicted), LevelTagger())
    assert set(table.id) == {"a", "b"}
    assert dict(zip(table.id, table.prompt, strict=True)) == {"a": "dog", "b": "siren"}
    assert table[table.method == GRAD_CAM].id.tolist() == ["b"]
    kept = table[table.method == KEEP_ALL].set_index("id")
    half_band = float(rms(explained.clips["wav"][0])) / math.sqrt(2)  # up to 8 kHz
    assert kept.score_input["a"] == pytest.approx(half_band, rel=0.1)
    assert kept.score_kept["a"] == pytest.approx(kept.score_input["a"], rel=1e-2)
    assert kept.score_left["a"] == 0
    assert (kept.rank_input["a"], kept.rank_left["a"]) == (2, 3)
    assert kept.score_input["b"] == pytest.approx(2.5, abs=1e-3)  # not repeated
    assert kept.rank_left["b"] == 1
    assert table.notna().all(axis=None)


def test_no_class_for_any_prompt(explained: ExplainedClips) -> None:
    """The table is empty."""
    predicted = replace(explained.predicted, labels=["can opening"] * 3)
    table = score_by_tagger(replace(explained, predicted=predicted), LevelTagger())
    assert table.empty


# --- random models ------------------------------------------------------------------


def test_masks_of_random_models(
    suite: ExplainerSuite, prompts: dict[str, Tensor], clips: dict[str, Any]
) -> None:
    """Keep-all stays, a decoder's masks change, and the seed decides."""
    table = randomised_table(suite, prompts, clips, 1)
    rows = {(row.method, row.stage, row.id) for row in table.itertuples()}
    methods = (MAIN, GRAD_CAM, "energy", KEEP_ALL)
    assert rows == {(m, s, i) for m in methods for s in ("top", "all") for i in "abc"}
    assert (table.overlap[table.method == KEEP_ALL] == 1).all()
    assert table.overlap[table.method == MAIN].max() < 0.999
    pd.testing.assert_frame_equal(table, randomised_table(suite, prompts, clips, 1))
    assert not table.equals(randomised_table(suite, prompts, clips, 2))


def test_explainers_of_random_models_have_its_decoder_masks(
    suite: ExplainerSuite, prompts: dict[str, Tensor], clips: dict[str, Any]
) -> None:
    """The reference is made anew: the area of energy follows the decoder's masks."""
    table = randomised_table(suite, prompts, clips, 1)
    energy = table[(table.method == "energy") & (table.stage == "all")]
    assert energy.overlap.min() < 0.999
    assert predict(suite.clap, prompts, clips).batch.reference is None
