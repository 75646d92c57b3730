"""Tables of the trust measurements against slow loops, and the figures made of them."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml

from lmaczs.audio.io import load_audio
from lmaczs.clap import FrozenClap
from lmaczs.data.esc50 import ESC10, ESC50_LABELS
from lmaczs.decoder import MaskDecoder
from lmaczs.evaluation import sanity_checks as checks
from lmaczs.explanation import explain, similarities

ROOT = Path(__file__).resolve().parents[3]
TEACHERS = Path(os.environ.get("LMACZS_TEACHERS", ROOT.parent / "shared" / "teachers"))
RATE = 32000  # of the tiny CLAP
TEMPLATE = "This is a sound of {}."
HERTZ = {"dog": 300, "rain": 900, "siren": 6000}


def random_decoder(clap: FrozenClap) -> MaskDecoder:
    """Make a decoder with random weights whose masks are far from constant."""
    torch.manual_seed(0)
    decoder = MaskDecoder(clap, width=8)
    with torch.no_grad():
        decoder.draw.weight.mul_(20)
        decoder.draw.bias.zero_()
    return decoder.eval()


def write_clips(folder: Path, seconds: float, each: int = 2) -> pd.DataFrame:
    """Write warbling tones, a pitch a label, and list them."""
    rows = []
    time = np.arange(round(seconds * RATE)) / RATE
    for label, hertz in HERTZ.items():
        for take in range(each):
            path = folder / f"{label}-{take}.wav"
            wav = 0.3 * np.sin(2 * np.pi * hertz * (1 + 0.02 * take) * time)
            wav *= 1 + 0.5 * np.sin(2 * np.pi * (3 + take) * time)
            soundfile.write(path, wav, RATE)
            rows.append((path.stem, str(path), label))
    return pd.DataFrame(rows, columns=("id", "path", "label"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Six clips of 1 s, two a label."""
    return write_clips(tmp_path_factory.mktemp("clips"), seconds=1.0)


# --- tables -------------------------------------------------------------------------


def test_presence_equals_one_explanation_at_a_time(
    tiny_clap: FrozenClap, clips: pd.DataFrame
) -> None:
    """A row a pair, with what an explanation of this pair alone says."""
    decoder, labels = random_decoder(tiny_clap), [*HERTZ, *ESC50_LABELS[11:26]]
    table = checks.presence(tiny_clap, decoder, clips[1:3], labels, TEMPLATE)
    names = ["id", "label", "prompt", "present", "similarity", "mask_mean"]
    assert list(table) == [*names, "power_kept"]
    assert len(table) == 2 * len(labels)
    rows = table.itertuples()
    for clip in clips[1:3].itertuples():
        wav = load_audio(clip.path, RATE)
        for label in labels:
            row, prompt = next(rows), TEMPLATE.format(label)
            text = tiny_clap.encode_text([prompt])
            (one,) = explain(tiny_clap, decoder, wav, [prompt], text, verify=False)
            assert (row.id, row.label, row.prompt) == (clip.id, clip.label, label)
            assert row.present == (label == clip.label)
            assert row.similarity == pytest.approx(one.similarity, abs=1e-5)
            assert row.mask_mean == pytest.approx(float(one.mask.mean()), abs=1e-5)
            bins = tiny_clap.front_end.stft(wav[None])[0].abs()
            heard = float((one.mask * bins).square().sum() / bins.square().sum())
            assert row.power_kept == pytest.approx(heard, abs=1e-5)
    assert table.present.dtype == bool and table.present.sum() == 2
    assert table.mask_mean.nunique() > 20
    assert table.power_kept.nunique() > 20


def test_silence_is_that_of_the_encoders_length(tiny_clap: FrozenClap) -> None:
    """A row a label: the similarity of nothing but zeros."""
    table = checks.silence(tiny_clap, list(HERTZ), TEMPLATE)
    assert list(table) == ["prompt", "similarity"]
    assert table.prompt.tolist() == list(HERTZ)
    text = tiny_clap.encode_text([TEMPLATE.format(label) for label in HERTZ])
    with torch.no_grad():
        expected = similarities(tiny_clap, torch.zeros(5 * RATE), text)
    assert table.similarity.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert table.similarity.nunique() == len(HERTZ)


def test_paraphrase_hits_choose_the_nearest(
    tiny_clap: FrozenClap, clips: pd.DataFrame
) -> None:
    """A row a clip whose label has a paraphrase; a hit where its own is the nearest."""
    paraphrases = {"dog": "a puppy", "rain": "a downpour", "cow": "cattle lowing"}
    table = checks.paraphrase_hits(tiny_clap, clips, paraphrases)
    assert list(table) == ["id", "label", "chosen", "hit"]
    asked = clips[clips.label != "siren"]
    assert table.id.tolist() == asked.id.tolist()
    assert table.label.tolist() == asked.label.tolist()
    for path, chosen in zip(asked.path, table.chosen, strict=True):
        wav, heard = load_audio(path, RATE), {}
        for label, sentence in paraphrases.items():
            text = tiny_clap.encode_text([sentence])
            with torch.no_grad():
                heard[label] = float(similarities(tiny_clap, wav, text))
        assert chosen == max(heard, key=heard.__getitem__)
    renamed = asked.assign(label=table.chosen.to_numpy())
    assert checks.paraphrase_hits(tiny_clap, renamed, paraphrases).hit.all()
    wrong = asked.assign(label=["rain" if c == "dog" else "dog" for c in table.chosen])
    assert not checks.paraphrase_hits(tiny_clap, wrong, paraphrases).hit.any()


# --- figures ------------------------------------------------------------------------

LABELS = ["dog", "rain", *ESC50_LABELS[-7:]]
FREQUENT = ["dog", "rain", "rooster"]


def hand_made(seed: int = 0) -> dict[str, pd.DataFrame]:
    """Make tables of two clips a label, with values of no model."""
    rng = np.random.default_rng(seed)
    pairs = [
        (f"{label}-{take}", label, prompt, prompt == label)
        for label in LABELS
        for take in range(2)
        for prompt in LABELS
    ]
    presence = pd.DataFrame(pairs, columns=("id", "label", "prompt", "present"))
    presence["similarity"] = rng.normal(size=len(pairs)) + 0.8 * presence.present
    presence["mask_mean"] = rng.random(len(pairs)) + 0.2 * presence.similarity.abs()
    presence["power_kept"] = rng.random(len(pairs))
    known = pd.DataFrame(
        {
            "condition": ["sum"] * 3 + ["sequence"] * 3,
            "si_sdr_improvement": [1.0, -2.5, 6.0, *[math.nan] * 3],
            "mass_on_source": [0.4, 0.5, 0.6, 0.2, 0.9, 0.7],
        }
    )
    return {
        "presence": presence,
        "known_sources": known,
        "silence": pd.DataFrame({"prompt": LABELS[:3], "similarity": [-0.5, 0.1, 0]}),
        "paraphrases": pd.DataFrame({"hit": [True, False, True, True]}),
    }


def slow_top(
    pairs: pd.DataFrame, among: Collection[str], of: Collection[str], n: int
) -> float:
    """Count clips of some labels whose own label is one of the `n` nearest of some."""
    hits = []
    for _, rows in pairs[pairs.label.isin(of)].groupby("id"):
        asked = rows[rows.prompt.isin(among)].sort_values("similarity")
        hits.append(bool(asked.present[-n:].any()))
    return sum(hits) / len(hits)


def test_summary_equals_slow_computation() -> None:
    """Each figure is what a loop over clips makes of the tables."""
    tables = hand_made()
    figures, pairs = checks.summary(tables, FREQUENT), tables["presence"]
    others = LABELS[2:]
    present, absent, ratios, heard, unasked = [], [], [], [], []
    for _, rows in pairs.groupby("id"):
        own = rows[rows.prompt == rows.label].iloc[0]
        rest = rows[rows.prompt != rows.label]
        present.append(own.mask_mean)
        absent.append(sum(rest.mask_mean) / len(rest))
        ratios.append(present[-1] / absent[-1])
        heard.append(own.power_kept)
        unasked.append(sum(rest.power_kept) / len(rest))
    ordered, half = sorted(ratios), len(ratios) // 2
    expected = {
        "accuracy_frequent": slow_top(pairs, FREQUENT, FREQUENT, 1),
        "accuracy_other": slow_top(pairs, LABELS, others, 1),
        "top5_other": slow_top(pairs, LABELS, others, 5),
        "paraphrase_accuracy": 0.75,
        "true_pair": np.mean(pairs[pairs.prompt == pairs.label].similarity),
        "silence": 0.1,
        "mask_present": sum(present) / len(present),
        "mask_absent": sum(absent) / len(absent),
        "power_present": sum(heard) / len(heard),
        "power_absent": sum(unasked) / len(unasked),
        "present_to_absent": (ordered[half - 1] + ordered[half]) / 2,
        "correlation": np.corrcoef(pairs.similarity, pairs.mask_mean)[0, 1],
        "si_sdr_improvement": 1.5,
        "mass_on_source": 0.6,
        **{
            f"similarity_{name}_q{q}": np.percentile(sorted(rows.similarity), q)
            for name, rows in pairs.groupby(
                np.where(pairs.present, "present", "absent")
            )
            for q in (10, 50, 90, 99)
        },
    }
    assert figures == pytest.approx(expected)
    assert len(set(figures.values())) == len(figures)
    assert 0 < figures["accuracy_other"] < figures["top5_other"] < 1
    for seed in range(1, 6):
        pairs = hand_made(seed)["presence"]
        found = checks.summary(hand_made(seed), FREQUENT)
        assert found["accuracy_frequent"] == slow_top(pairs, FREQUENT, FREQUENT, 1)
        assert found["accuracy_other"] == slow_top(pairs, LABELS, others, 1)
        assert found["top5_other"] == slow_top(pairs, LABELS, others, 5)


def test_summary_does_not_depend_on_the_order_of_rows() -> None:
    """Rows belong together by id, not by place."""
    tables = hand_made()
    shuffled = {k: table.sample(frac=1, random_state=3) for k, table in tables.items()}
    expected = checks.summary(tables, FREQUENT)
    assert checks.summary(shuffled, FREQUENT) == pytest.approx(expected)


@pytest.mark.parametrize("nothing_present", [False, True])
def test_masks_of_zero_make_finite_figures(nothing_present: bool) -> None:
    """Where absent prompts get no mask at all the ratio is huge or 0, never inf."""
    tables = hand_made()
    pairs = tables["presence"]
    pairs.loc[~pairs.present | nothing_present, "mask_mean"] = 0.0
    figures = checks.summary(tables, FREQUENT)
    assert all(math.isfinite(value) for value in figures.values())
    assert figures["mask_absent"] == 0
    ratio = figures["present_to_absent"]
    assert ratio == 0 if nothing_present else ratio > 1e6


@pytest.mark.parametrize("value", [0.3, math.nan])
def test_a_model_that_is_blind_is_never_right(value: float) -> None:
    """The same similarity for everything, or none, names nothing."""
    tables = hand_made()
    tables["presence"]["similarity"] = value
    figures = checks.summary(tables, FREQUENT)
    names = ("accuracy_frequent", "accuracy_other", "top5_other")
    assert [figures[name] for name in names] == [0, 0, 0]
    assert "correlation" not in figures


def test_what_no_clip_tells_is_left_out() -> None:
    """Without clips of other labels, or of paraphrases, there is no figure of them."""
    tables = hand_made()
    pairs = tables["presence"]
    tables["presence"] = pairs[pairs.label.isin(FREQUENT)]
    tables["paraphrases"] = tables["paraphrases"][:0]
    figures = checks.summary(tables, FREQUENT)
    missing = {"accuracy_other", "top5_other", "paraphrase_accuracy"}
    assert set(checks.summary(hand_made(), FREQUENT)) - set(figures) == missing


# --- paraphrases --------------------------------------------------------------------


def paraphrases() -> dict[str, str]:
    """Read the paraphrases of hparams/quality.yaml, without what it constructs."""

    class Plain(yaml.SafeLoader):
        """Reads what a tag of HyperPyYAML stands before as nothing."""

    Plain.add_multi_constructor("!", lambda *_: None)
    with open(ROOT / "hparams/quality.yaml") as file:
        return yaml.load(file, Plain)["paraphrases"]


def shared_words(sentence: str, name: str) -> set[tuple[str, str]]:
    """Find words of more than three letters that are alike in their first five."""
    one, other = (
        [word for word in re.findall("[a-z]+", text.lower()) if len(word) > 3]
        for text in (sentence, name)
    )
    return {(a, b) for a in one for b in other if a[:5] == b[:5]}


def test_shared_words() -> None:
    """Words are compared by their stems, whatever their case; short ones are not."""
    assert shared_words("a chopper", "Chopping (food)") == {("chopper", "chopping")}
    assert shared_words("The wind", "Wind noise") == {("wind", "wind")}
    assert not shared_words("in the fire", "In the firm")


def test_every_label_of_esc10_has_a_paraphrase() -> None:
    """Accuracy by paraphrases is among ten."""
    assert set(paraphrases()) == set(ESC10)
    assert len(set(paraphrases().values())) == len(ESC10)


def test_paraphrases_have_no_word_of_a_label() -> None:
    """A text tower that knows the labels' words alone learns nothing from these."""
    for sentence in paraphrases().values():
        assert not any(shared_words(sentence, label) for label in ESC50_LABELS)


@pytest.mark.real_clips
def test_paraphrases_have_no_word_of_an_audioset_class() -> None:
    """Nor is any word theirs that the tagger knows its classes by."""
    with (TEACHERS / "yamnet_class_map.csv").open(newline="") as file:
        names = [row["display_name"] for row in csv.DictReader(file)]
    assert len(names) == 521
    for sentence in paraphrases().values():
        assert set().union(*(shared_words(sentence, name) for name in names)) == set()
