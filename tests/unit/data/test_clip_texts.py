"""Texts of clips: what is put into a template, and what may be absent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lmaczs.data.clip_texts import ClipText, NegativePool, PromptSampler, texts_of

DOG, RAIN = ClipText("dog"), ClipText("rain")
CAPTION = ClipText("A dog {barks}.", is_label=False)


def test_only_labels_are_put_into_a_template() -> None:
    """A caption is taken as it is, whatever it holds."""
    assert DOG.prompt("This is a sound of {}.") == "This is a sound of dog."
    assert CAPTION.prompt("This is a sound of {}.") == "A dog {barks}."


def test_a_pool_holds_what_is_said_once() -> None:
    """Case and full stop do not make another phrase; the first one stays."""
    again = [
        ClipText("a DOG {barks}", False),
        ClipText("Rain."),
        ClipText("rain", False),
    ]
    pool = NegativePool([CAPTION, DOG, *again])
    assert pool.texts == [CAPTION, DOG, ClipText("Rain.")]
    assert len(pool) == 3


def test_what_says_the_same_is_not_outside() -> None:
    """Neither the phrase itself nor another wording that differs in case alone."""
    pool = NegativePool([DOG, RAIN, CAPTION])
    assert pool.outside([RAIN]).tolist() == [0, 2]
    assert pool.outside([ClipText("RAIN.", False), DOG]).tolist() == [2]
    assert pool.outside([ClipText("wind")]).tolist() == [0, 1, 2]
    assert pool.outside([]).tolist() == [0, 1, 2]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_phrases_are_drawn_without_repetition(count: int) -> None:
    """From the places given alone, and all of these in the long run."""
    pool = NegativePool([ClipText(str(number)) for number in range(6)])
    places = pool.outside([ClipText("1"), ClipText("4")])
    rng, seen = np.random.default_rng(0), set()
    for _ in range(50):
        drawn = pool.draw(count, places, rng)
        assert len(set(drawn)) == count
        seen.update(text.words for text in drawn)
    assert seen == ({"0", "2", "3", "5"} if count else set())


def test_texts_of_a_table() -> None:
    """The label of a data set; all texts of a manifest."""
    table = pd.DataFrame({"label": ["dog", "rain"]})
    assert texts_of(table) == [(DOG,), (RAIN,)]
    said = [(CAPTION, DOG), (RAIN,)]
    assert texts_of(table.assign(texts=said)) == said


def test_partners_share_no_text() -> None:
    """In any spelling; out of some rows, or of all."""
    texts = [(DOG, CAPTION), (RAIN,), (ClipText("Dog.", False),), (ClipText("owl"),)]
    sampler = PromptSampler(texts, ["{}"])
    assert sampler.partners(0).tolist() == [1, 3]
    assert sampler.partners(1).tolist() == [0, 2, 3]
    assert sampler.partners(0, rows=[3, 2, 0]).tolist() == [3]
    assert sampler.partners(0, rows=[]).tolist() == []
