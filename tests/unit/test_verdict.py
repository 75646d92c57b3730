"""The verdict: cases in words, and what holds for all presences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.verdict import verdict_of, verdict_of_contrast

RANKS = st.integers(0, 521).map(lambda below: below / 521)
SOUNDS = st.none() | RANKS
ORDER = ["not heard", "not kept", "partly kept", "kept"]


@pytest.mark.parametrize(
    ("presence", "masked", "residual", "verdict"),
    [
        (0.998, 0.998, 0.3, "kept"),
        (0.95, 0.95, 0.3, "kept"),  # the least that is present
        (0.998, 0.9, 0.3, "not kept"),  # the most that is absent
        (1.0, 1.0, None, "kept"),  # a mask of everything leaves silence
        (0.96, 0.96, 0.85, "kept"),
        (0.96, 0.96, 0.9, "partly kept"),  # not yet thrice the place
        (0.998, 0.998, 0.998, "partly kept"),  # in the residual as before
        (0.998, 0.93, 0.3, "partly kept"),  # less present than in the input
        (0.998, 0.6, 0.3, "not kept"),
        (0.998, 0.6, 0.998, "not kept"),
        (0.998, None, 0.998, "not kept"),  # an empty mask
        (0.5, None, 0.5, "not heard"),
        (0.5, 0.999, 0.1, "not heard"),  # the mask has made it up
        (None, None, None, "not heard"),  # digital silence
    ],
)
def test_cases(
    presence: float | None, masked: float | None, residual: float | None, verdict: str
) -> None:
    """What each verdict stands for."""
    assert verdict_of(presence, masked, residual) == verdict


@given(SOUNDS, SOUNDS)
def test_prompts_that_are_not_recognised(
    masked: float | None, residual: float | None
) -> None:
    """Below 95 %, no mask makes the verdict another."""
    assert verdict_of(0.949, masked, residual) == "not heard"


@given(RANKS, SOUNDS, RANKS, RANKS)
def test_keeping_more_is_never_worse(
    presence: float, residual: float | None, first: float, second: float
) -> None:
    """The verdict does not fall as the presence in what is kept rises."""
    low, high = sorted([first, second])
    verdicts = [verdict_of(presence, masked, residual) for masked in (None, low, high)]
    places = [ORDER.index(one) for one in verdicts]
    assert places == sorted(places)


@given(RANKS, SOUNDS, RANKS, RANKS)
def test_leaving_less_is_never_worse(
    presence: float, masked: float | None, first: float, second: float
) -> None:
    """The verdict does not fall as the presence in what is left falls."""
    low, high = sorted([first, second])
    verdicts = [verdict_of(presence, masked, left) for left in (high, low, None)]
    places = [ORDER.index(one) for one in verdicts]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("presence", "masked", "masked_margin", "residual_margin", "verdict"),
    [
        (0.998, 0.998, 0.5, -0.5, "kept"),
        (0.998, 0.998, 0.01, 0.0, "kept"),
        (0.998, 0.998, 0.5, None, "kept"),  # a mask of everything
        (0.998, 0.998, 0.5, 0.01, "partly kept"),  # ahead in the residual, too
        (0.998, 0.93, 0.5, -0.5, "partly kept"),
        (0.998, 0.998, 0.0, -0.5, "not kept"),  # another is as similar
        (0.998, 0.5, 0.5, -0.5, "not kept"),
        (0.998, None, None, 0.1, "not kept"),
        (0.9, 0.998, 0.5, -0.5, "not heard"),
        (None, None, None, None, "not heard"),
    ],
)
def test_cases_of_a_contrast(
    presence: float | None,
    masked: float | None,
    masked_margin: float | None,
    residual_margin: float | None,
    verdict: str,
) -> None:
    """The prompt is recognised in what is kept and ahead there, and not in the rest."""
    given_ranks = presence, masked
    assert verdict_of_contrast(*given_ranks, masked_margin, residual_margin) == verdict
