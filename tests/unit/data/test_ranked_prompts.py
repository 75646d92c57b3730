"""Prompts that a model ranks high and low: the choice, the draw, the data sets."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.clap import FrozenClap
from lmaczs.data.clip_texts import ClipText
from lmaczs.data.prompted_dataset import Mixing, PromptedDataset, collate
from lmaczs.data.ranked_prompts import (
    Ranked,
    RankedPrompts,
    build_ranked_datasets,
    choose_prompts,
    read_vocabulary,
)
from lmaczs.data.splits import Splits
from lmaczs.presence import ABSENT, PRESENT, reference_names, reference_text
from lmaczs.utils.errors import InputError

TEMPLATES = ["This is a sound of {}.", "{}"]
WORDS = ["dog", "rain", "siren", "wind", "bell", "train", "a man speaks", "frog"]
VOCABULARY = [ClipText(word, word != "a man speaks") for word in WORDS]


def slow_choice(
    similarity: list[float], references: list[float], most: int, least: int
) -> tuple[list[int], list[int]]:
    """High and low prompts of one clip, one comparison after the other."""

    def presence(place: int) -> float:
        below = [one for one in references if one < similarity[place]]
        return len(below) / len(references)

    left = list(range(len(similarity)))
    order = []
    while left:
        best = left[0]
        for place in left:
            if similarity[place] > similarity[best]:
                best = place
        order.append(best)
        left.remove(best)
    high = []
    for place in order:
        if len(high) < most and presence(place) >= PRESENT - 1e-9:
            high.append(place)
    if not high:
        high = [order[0]]
    low = []
    for place in order:
        if presence(place) < ABSENT - 1e-9 and place not in high:
            low.append(place)
    if len(low) < least:
        low = []
        for place in reversed(order):
            if len(low) < least and place not in high:
                low.append(place)
    return high, sorted(low)


@given(
    seed=st.integers(0, 10_000),
    references=st.integers(1, 60),
    most=st.integers(1, 4),
    shift=st.floats(-2, 3),
)
def test_the_choice_is_that_of_an_obvious_loop(
    seed: int, references: int, most: int, shift: float
) -> None:
    """For clips that resemble none, some or all of a vocabulary; ties included."""
    rng = np.random.default_rng(seed)
    similarity = np.round(rng.normal(shift, 1, (3, 9)), 1)
    others = np.round(rng.normal(0, 1, (3, references)), 1)
    found = choose_prompts(
        torch.from_numpy(similarity), torch.from_numpy(others), most, least=2
    )
    for clip, one in enumerate(found):
        given_ = similarity[clip].tolist(), others[clip].tolist()
        assert (one.high, one.low) == slow_choice(*given_, most, 2)
        assert not set(one.high) & set(one.low)


def sampler(*ranked: Ranked, negatives: int = 1) -> RankedPrompts:
    """Prompts of clips by their ranks, with three classes."""
    return RankedPrompts(ranked, VOCABULARY, [0, 1, 6], TEMPLATES, negatives)


def test_a_clip_gets_what_is_high_and_what_is_low() -> None:
    """In training any of them, in evaluation the highest, in the first template."""
    prompts = sampler(Ranked([0, 6], [1, 2]), Ranked([3], [4, 5]))
    seen = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        (first, second), present = prompts.draw(0, None, rng, training=True)
        seen |= {first, second}
        assert present == [True, False]
    dog, rain, siren = "dog", "rain", "siren"
    labels = {template.format(w) for template in TEMPLATES for w in (dog, rain, siren)}
    assert seen == labels | {"a man speaks"}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        (first, second), _ = prompts.draw(0, None, rng, training=False)
        assert first == "This is a sound of dog."
        assert second in {"This is a sound of rain.", "This is a sound of siren."}


def test_in_a_mixture_what_is_absent_is_low_in_both() -> None:
    """A prompt that the partner has is present or not drawn."""
    prompts = sampler(Ranked([0], [1, 2, 3]), Ranked([1], [0, 2, 3]))
    absent, present = set(), set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        drawn, there = prompts.draw(0, 1, rng, training=False)
        for prompt, is_there in zip(drawn, there, strict=True):
            (present if is_there else absent).add(prompt)
    sentence = "This is a sound of {}.".format
    assert present == {sentence("dog"), sentence("rain")}
    assert absent == {sentence("siren"), sentence("wind")}


def test_classes_are_those_that_were_chosen_and_clips_have_no_label() -> None:
    """A sentence is its own prompt."""
    prompts = sampler(Ranked([0], [1, 2]), Ranked([1], [0, 2]))
    assert prompts.classes == {
        "dog": "This is a sound of dog.",
        "rain": "This is a sound of rain.",
        "a man speaks": "a man speaks",
    }
    assert prompts.label(0) == ""
    assert prompts.partners(0).tolist() == [1]


def test_a_vocabulary_is_a_prompt_a_line(tmp_path: Path) -> None:
    """Labels and sentences; empty lines and repetitions do not count."""
    path = tmp_path / "words.txt"
    path.write_text("\n\n".join(WORDS) + "\nDog\n  big   bell \n")
    found = read_vocabulary(path)
    assert found == [*VOCABULARY, ClipText("big bell")]
    names = [one.words for one in read_vocabulary()]
    assert names == list(reference_names())


def test_a_vocabulary_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """Missing, no text, or too short: a sentence that names the option."""
    with pytest.raises(InputError, match="none.txt cannot be read: No such file"):
        read_vocabulary(tmp_path / "none.txt")
    path = tmp_path / "words.txt"
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="it is not UTF-8; save it so"):
        read_vocabulary(path)
    path.write_text("dog\nrain\n")
    with pytest.raises(InputError, match="has 2 prompts: give 8 or more"):
        read_vocabulary(path)


@pytest.fixture
def splits(tmp_path: Path) -> Splits:
    """Eight clips for training, one of them silent, and two for each other split."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(12):
        wav = 0.3 * rng.standard_normal(16000 + 1000 * i) * (i != 3)
        soundfile.write(tmp_path / f"{i}.wav", wav, 16000)
        split = "train" if i < 8 else ("valid", "test")[i % 2]
        rows.append((str(i), str(tmp_path / f"{i}.wav"), split, ""))
    return Splits.of(pd.DataFrame(rows, columns=["id", "path", "split", "label"]))


def build(splits: Splits, clap: FrozenClap, **options: Path) -> dict:
    """Data sets of a small vocabulary."""
    return build_ranked_datasets(splits, clap, TEMPLATES, Mixing(), **options)


def test_data_sets_have_the_ranks_of_the_model(
    splits: Splits, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """Highest prompts as a user's classification gives them; silence is left out."""
    words = tmp_path / "words.txt"
    words.write_text("\n".join(WORDS))
    data = build(splits, tiny_clap, vocabulary=words)
    assert [len(data[name]) for name in ("train", "valid", "test")] == [7, 2, 2]
    assert "3" not in set(data["train"].table.id)
    front_end = tiny_clap.front_end
    text = tiny_clap.encode_text([one.prompt(TEMPLATES[0]) for one in VOCABULARY])
    for item in (data["test"][0], data["valid"][1]):
        log_mel = front_end.log_mel(item["wav"][None])
        with torch.no_grad():
            embedding = tiny_clap.audio_embedding(log_mel)[0]
        best = VOCABULARY[int((text @ embedding).argmax())]
        assert item["prompts"][0] == best.prompt(TEMPLATES[0])
        assert item["label"] == ""
    assert list(data["train"].classes) == WORDS  # too few to leave one out


def test_items_make_batches_and_absent_prompts_are_low(
    splits: Splits, tiny_clap: FrozenClap
) -> None:
    """With the names of AudioSet; an absent one has a low presence in its clip."""
    data = build(splits, tiny_clap)
    test = data["test"]
    assert isinstance(test, PromptedDataset)
    batch = collate([test[0], test[1]])
    assert batch["present"].tolist() == [[True, False]] * 2
    references = reference_text(tiny_clap)
    with torch.no_grad():
        log_mel = tiny_clap.front_end.log_mel(batch["wav"])
        embedding = tiny_clap.audio_embedding(log_mel)
    for own, prompts in zip(embedding, batch["prompts"], strict=True):
        absent = tiny_clap.encode_text(prompts[-1:])[0] @ own
        assert (references @ own < absent - 1e-5).float().mean() < ABSENT


def test_ranks_are_computed_once(
    splits: Splits, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """A second time they come from their file, as long as the clips are the same."""
    ranks = tmp_path / "ranks.pt"
    first = build(splits, tiny_clap, ranks=ranks)
    os.utime(ranks, ns=(0, 0))
    second = build(splits, tiny_clap, ranks=ranks)
    assert ranks.stat().st_mtime_ns == 0
    assert first["train"].prompts.texts == second["train"].prompts.texts
    fewer = Splits(splits.train[1:], splits.valid, splits.test)
    build(fewer, tiny_clap, ranks=ranks)
    assert ranks.stat().st_mtime_ns > 0


def test_silence_alone_is_refused(splits: Splits, tiny_clap: FrozenClap) -> None:
    """A split without a sound is an error in a sentence."""
    silent = Splits(splits.train[3:4], splits.valid, splits.test)
    with pytest.raises(InputError, match="all clips for the split train are digital"):
        build(silent, tiny_clap)
