"""words.py: what a rank and a verdict are called."""

from __future__ import annotations

from typing import get_args

import pytest

from lmaczs.report.words import (
    MEANINGS,
    clock,
    margin_words,
    percent,
    presence_words,
    verdict_words,
)
from lmaczs.verdict import Verdict


@pytest.mark.parametrize(
    ("presence", "short", "words"),
    [
        (0.99616, "99.6 %", "ahead of 99.6 % of the reference prompts"),
        (0.0, "0.0 %", "ahead of 0.0 % of the reference prompts"),
        (1.0, "100.0 %", "ahead of all reference prompts"),
        (None, "–", "silence to the model"),
    ],
)
def test_presence(presence: float | None, short: str, words: str) -> None:
    """A rank is a percentage, and silence has none."""
    assert percent(presence) == short
    assert presence_words(presence) == words


def test_verdict_comes_first() -> None:
    """Without a verdict, as with verify=False, the presence is left."""
    record = {"verdict": "kept", "presence": 0.5}
    assert verdict_words(record) == "kept, ahead of 50.0 % of the reference prompts"
    record = {"verdict": None, "presence": 0.5}
    assert verdict_words(record) == "ahead of 50.0 % of the reference prompts"


def test_every_verdict_has_a_meaning() -> None:
    """None is left out, and none is made up."""
    assert set(MEANINGS) == set(get_args(Verdict))


def test_margin_comes_last() -> None:
    """Of the recording, and of its parts if they were verified."""
    record = {
        "verdict": "kept",
        "presence": 1.0,
        "contrast": ["rain", "a cat"],
        "margin": 0.1234,
        "masked_margin": 0.5,
        "residual_margin": -0.25,
    }
    words = "kept, ahead of all reference prompts, above “rain” and “a cat” by 0.123"
    assert verdict_words(record) == f"{words} (explanation 0.500, residual -0.250)"
    unverified = {"masked_margin": None, "residual_margin": None}
    assert verdict_words({**record, **unverified}) == words
    below = margin_words({**record, **unverified, "margin": -0.5})
    assert below == "below “rain” and “a cat” by 0.500"
    assert margin_words({**record, "margin": None}) == ""
    assert margin_words({"verdict": "kept"}) == ""


@pytest.mark.parametrize(
    "seconds, text", [(0, "00:00.0"), (65.26, "01:05.3"), (3723.96, "1:02:04.0")]
)
def test_clock(seconds: float, text: str) -> None:
    """Minutes always, hours where there are any; rounding carries."""
    assert clock(seconds) == text
