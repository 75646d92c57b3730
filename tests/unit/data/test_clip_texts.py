"""Phrases: what is put into a template, and what may be asked for as absent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lmaczs.data.clip_texts import Phrase, PhrasePool, holders_of, phrases_of

DOG, RAIN = Phrase("dog"), Phrase("rain")
CAPTION = Phrase("A dog {barks}.", is_label=False)


def test_only_labels_are_put_into_a_template() -> None:
    """A caption is taken as it is, whatever it holds."""
    assert DOG.sentence("This is a sound of {}.") == "This is a sound of dog."
    assert CAPTION.sentence("This is a sound of {}.") == "A dog {barks}."


def test_a_pool_holds_what_is_said_once() -> None:
    """Case and full stop do not make another phrase; the first one stays."""
    again = [Phrase("a DOG {barks}", False), Phrase("Rain."), Phrase("rain", False)]
    pool = PhrasePool([CAPTION, DOG, *again])
    assert pool.phrases == [CAPTION, DOG, Phrase("Rain.")]
    assert len(pool) == 3


def test_what_says_the_same_is_not_outside() -> None:
    """Neither the phrase itself nor another wording that differs in case alone."""
    pool = PhrasePool([DOG, RAIN, CAPTION])
    assert pool.outside([RAIN]).tolist() == [0, 2]
    assert pool.outside([Phrase("RAIN.", False), DOG]).tolist() == [2]
    assert pool.outside([Phrase("wind")]).tolist() == [0, 1, 2]
    assert pool.outside([]).tolist() == [0, 1, 2]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_phrases_are_drawn_without_repetition(count: int) -> None:
    """From the places given alone, and all of these in the long run."""
    pool = PhrasePool([Phrase(str(number)) for number in range(6)])
    places = pool.outside([Phrase("1"), Phrase("4")])
    rng, seen = np.random.default_rng(0), set()
    for _ in range(50):
        drawn = pool.draw(count, places, rng)
        assert len(set(drawn)) == count
        seen.update(phrase.words for phrase in drawn)
    assert seen == ({"0", "2", "3", "5"} if count else set())


def test_phrases_of_a_table() -> None:
    """Of a data set the label; of a manifest all that is said."""
    table = pd.DataFrame({"label": ["dog", "rain"]})
    assert phrases_of(table) == [(DOG,), (RAIN,)]
    said = [(CAPTION, DOG), (RAIN,)]
    assert phrases_of(table.assign(phrases=said)) == said


def test_holders() -> None:
    """Rows by what is said of them, in any spelling."""
    said = [(DOG, CAPTION), (RAIN,), (Phrase("Dog.", False),)]
    assert holders_of(said) == {"dog": [0, 2], "a dog {barks}": [0], "rain": [1]}
