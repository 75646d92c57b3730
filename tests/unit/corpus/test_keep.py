"""keep.py: which explanations are kept."""

from __future__ import annotations

import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.corpus.keep import FIELDS, LONGEST, Keep
from lmaczs.utils.errors import InputError

ROW: dict[str, Any] = {
    "prompt": "dog",
    "verdict": "kept",
    "path": "/sounds/a.wav",
    "presence": 0.97,
    "similarity": -0.2,
    "mass": None,
}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("presence > 0.9", True),
        ("presence > 0.98", False),
        ("0.9 < presence <= 0.97", True),
        ("0.9 < presence < 0.97", False),
        ("similarity == -0.2 and verdict == 'kept'", True),
        ('prompt == "cat" or prompt != "rain"', True),
        ("not (prompt == 'dog' and presence > 0.5)", False),
        ("prompt == 'cat' and presence > 0.9 or similarity < 0", True),
        ("prompt == 'cat' and (presence > 0.9 or similarity < 0)", False),
        ("mass < 1", False),  # a missing value
        ("not mass < 1", True),
        ("refine_steps >= 0", False),  # the row lacks it
        (" presence > 0.9\n", True),
    ],
)
def test_conditions_are_pythons(text: str, expected: bool) -> None:
    """As Python has them, but that what is compared with a missing value is false."""
    assert Keep(text)(ROW) is expected


@pytest.mark.parametrize(
    "text, reason",
    [
        ("presense > 0.9", "there is no 'presense': did you mean 'presence'?"),
        ("presence >", "it cannot be read"),
        ("presence = 0.9", "it cannot be read"),
        ("", "it cannot be read"),
        ("presence", "'presence' is no comparison"),
        ("0.9", "'0.9' is no comparison"),
        ("presence > 'high'", "it compares a text with a number"),
        ("prompt > 1", "it compares a text with a number"),
        ("presence in (1, 2)", "'(1, 2)' is no field, number or text"),
        ("presence is 1", "comparisons are < <= > >= == !="),
        ("presence + 1 > 0", "'presence + 1' is no field, number or text"),
        ("presence == True", "'True' is no field, number or text"),
        ("__import__('os').system('true') == 0", "is no field, number or text"),
        ("prompt.upper() == 'DOG'", "'prompt.upper()' is no field"),
        ("(lambda: presence)() > 0", "is no field, number or text"),
        ("[x for x in 'a'] == 'a'", "is no field, number or text"),
        ("presence > 0; mass > 0", "it cannot be read"),
        ("(" * 400 + "presence > 1" + ")" * 400, "it cannot be read"),
        ("presence > 0.5 " + " " * LONGEST, f"more than {LONGEST} characters"),
    ],
)
def test_all_else_is_refused(text: str, reason: str) -> None:
    """In a sentence that names the option, the mistake, and the fields there are."""
    with pytest.raises(InputError) as caught:
        Keep(text)
    assert reason in str(caught.value)
    assert str(caught.value).startswith("--keep ") and "masked_presence" in FIELDS


@given(st.text())
def test_any_text_is_a_condition_or_an_error(text: str) -> None:
    """Nothing else comes of a user's text."""
    try:
        assert Keep(text)(ROW) in (True, False)
    except InputError:
        pass


@given(
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    st.floats(-2, 2),
    st.floats(-2, 2),
)
def test_numbers_compare_as_numbers(symbol: str, value: float, limit: float) -> None:
    """For all comparisons, of negative numbers too."""
    names = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
    expected = getattr(operator, names[symbol])(value, limit)
    assert Keep(f"mass {symbol} {limit!r}")({"mass": value}) is expected
