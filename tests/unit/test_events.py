"""events.py: hysteresis, bands, shared sounds, the table."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lmaczs.events import (
    Event,
    EventRule,
    active_runs,
    activity,
    band_limits,
    event_table,
    joined_runs,
    without_shared,
)
from lmaczs.utils.errors import InputError

EXACT = EventRule(on=0.7, off=0.5, min_length=0, max_gap=0)


def slow_runs(level: Tensor, rule: EventRule, reach: int) -> list[tuple[int, int]]:
    """Hysteresis, column by column, without gaps and least lengths."""
    relative = []
    for column, value in enumerate(level.tolist()):
        near = level[max(0, column - reach) : column + reach + 1].max().item()
        relative.append(value / near if near > 0 else 0.0)
    runs, start = [], None
    for column, value in enumerate([*relative, 0.0]):
        if value >= rule.off and start is None:
            start = column
        if value < rule.off and start is not None:
            if max(relative[start:column]) >= rule.on:
                runs.append((start, column))
            start = None
    return runs


@given(
    values=st.lists(st.integers(0, 10), min_size=1, max_size=40),
    reach=st.integers(0, 9),
)
def test_runs_are_those_of_a_column_by_column_search(
    values: list[int], reach: int
) -> None:
    """Whatever the activity, the first and the last column included."""
    level = torch.tensor(values, dtype=torch.float64) / 10
    found = active_runs(level, EXACT, 50, reach)
    assert found == slow_runs(level, EXACT, reach)


def test_gaps_are_closed_and_short_events_dropped() -> None:
    """In seconds: joined first, so that a train of clicks may be an event."""
    level = torch.zeros(100)
    level[10:13] = level[16:20] = level[50:52] = 1
    rule = EventRule(min_length=0.3, max_gap=0.4)
    assert active_runs(level, rule, 10, 50) == [(10, 20)]
    assert active_runs(level, EXACT, 10, 50) == [(10, 13), (16, 20), (50, 52)]


def test_joined_runs_may_overlap() -> None:
    """One inside another does not shorten it."""
    assert joined_runs([(0, 9), (2, 4), (11, 12), (14, 15)], 3) == [(0, 15)]
    assert joined_runs([(0, 9), (2, 4), (12, 13)], 3) == [(0, 9), (12, 13)]


def test_activity_is_the_mean_over_bands() -> None:
    """Of masks of any leading shape."""
    bands = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(activity(bands), bands.sum(2) / 4)


def test_band_limits_hold_nine_tenths_of_the_power() -> None:
    """A twentieth of the power lies on either side, as Raven measures."""
    power = torch.zeros(101)
    power[20:40] = 1.0
    assert band_limits(power, 1000) == pytest.approx((195, 385), abs=10)
    power[90] = 1000.0
    assert band_limits(power, 1000) == pytest.approx((900, 900), abs=6)
    assert band_limits(torch.zeros(101), 1000) == (0, 1000)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_band_limits_are_ordered_and_inside(values: list[float]) -> None:
    """Whatever the spectrum."""
    low, high = band_limits(torch.tensor(values), 100)
    assert 0 <= low <= high <= 100


def event(
    prompt: str, times: tuple[float, float], band: tuple[float, float], cosine: float
) -> Event:
    """An event of a box and a similarity."""
    return Event(*times, *band, prompt, cosine, 1.0, 0.5)


def test_one_sound_has_one_prompt() -> None:
    """The more similar one; elsewhere in time or frequency both are kept."""
    crow = event("crow", (1, 3), (500, 2000), 0.8)
    inside = event("rooster", (1.5, 2.5), (800, 1500), 0.5)
    higher = event("cricket", (1, 3), (4000, 6000), 0.4)
    later = event("rooster", (2.6, 6), (500, 2000), 0.3)
    same = event("crow", (1, 2), (500, 2000), 0.2)
    found = without_shared([later, inside, crow, higher, same])
    assert found == [same, crow, higher, later]


def test_the_table_is_ordered_and_typed_even_when_empty() -> None:
    """Columns are the same whether there are events or not."""
    rows = [event("b", (2, 3), (0, 1), 0.1), event("a", (1, 2), (0, 1), 0.1)]
    table, empty = event_table(rows), event_table([])
    assert table.prompt.tolist() == ["a", "b"]
    names = ["start", "stop", "low_hz", "high_hz", "prompt"]
    assert list(table) == [*names, "similarity", "presence", "mass"] == list(empty)
    assert table.dtypes.equals(empty.dtypes)


@pytest.mark.parametrize(
    "options, word",
    [
        ({"presence": 1.5}, "presence"),
        ({"candidate": -0.1}, "candidate"),
        ({"on": 0.3, "off": 0.5}, "off"),
        ({"off": 0.0}, "off"),
        ({"min_length": -1}, "min_length"),
        ({"max_gap": float("nan")}, "max_gap"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], word: str) -> None:
    """The message names the option."""
    with pytest.raises(InputError, match=word):
        EventRule(**options)  # type: ignore[arg-type]
