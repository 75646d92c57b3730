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
    RunTracker,
    active_runs,
    activity,
    activity_weights,
    band_limits,
    event_table,
    times_of,
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
    rule = EventRule(min_length=0.3, max_gap=0.3)  # that of the two, not more
    assert active_runs(level, rule, 10, 50) == [(10, 13), (16, 20)]
    assert active_runs(level, EXACT, 10, 50) == [(10, 13), (16, 20), (50, 52)]


def joined(runs: list[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Join runs that are less than a gap apart."""
    found = runs[:1]
    for first, last in runs[1:]:
        if first - found[-1][1] < gap:
            found[-1] = found[-1][0], last
        else:
            found.append((first, last))
    return found


@given(
    values=st.lists(st.integers(0, 10), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    reach=st.integers(0, 9),
    gap=st.integers(0, 5),
)
def test_blocks_are_searched_as_the_whole(
    values: list[int], cuts: list[int], reach: int, gap: int
) -> None:
    """Wherever they are cut; what is summed is what lies in the event, gaps too."""
    level = torch.tensor(values, dtype=torch.float64) / 10
    rule = EventRule(on=0.7, off=0.5, min_length=2, max_gap=gap)
    tracker, found = RunTracker(rule, 1, reach), []
    for part in torch.tensor_split(level, sorted(cuts)):
        found += tracker.push(part, torch.stack([part, part.square()]))
    found += tracker.finish()
    expected = joined(slow_runs(level, EXACT, reach), gap)
    expected = [run for run in expected if run[1] - run[0] >= 2]
    assert [(run.first, run.last) for run in found] == expected
    for run in found:
        inside = level[run.first : run.last]
        sums = [float(inside.sum()), float(inside.square().sum())]
        assert run.total.tolist() == pytest.approx(sums)


def test_columns_are_the_middle_of_their_time() -> None:
    """Half a column to either side, but not beyond the sound."""
    assert times_of((0, 3), 10, 1.0) == (0.0, pytest.approx(0.25))
    assert times_of((4, 11), 10, 1.0) == (pytest.approx(0.35), 1.0)


def test_weights_are_those_of_bands_of_means() -> None:
    """A mask's activity by its bins is the mean over bands of its mean in each."""
    filters, mask = torch.rand(9, 4) + 0.1, torch.rand(9, 5)
    bands = [(filters[:, band, None] * mask).sum(0) for band in range(4)]
    means = [one / filters[:, band].sum() for band, one in enumerate(bands)]
    found = activity_weights(filters) @ mask
    torch.testing.assert_close(found, torch.stack(means).mean(0))


def test_activity_is_the_mean_over_bands() -> None:
    """Of masks of any leading shape."""
    bands = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(activity(bands), bands.sum(2) / 4)


def test_band_limits_hold_nine_tenths_of_the_power() -> None:
    """A twentieth of the power lies on either side, as Raven measures."""
    power = torch.zeros(101)
    power[20:40] = 1.0
    power[20] = power[39] = 2.0
    assert band_limits(power, 1000) == pytest.approx((195, 395))
    power[20] = power[39] = 1e-3
    assert band_limits(power, 1000) == pytest.approx((205, 385))
    power[90] = 1000.0
    assert band_limits(power, 1000) == pytest.approx((895, 905))
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
