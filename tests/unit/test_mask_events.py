"""mask_events.py: events of a mask, with the scores of the windows around them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lmaczs.events import Event
from lmaczs.mask_events import MaskEvents, WindowScores

PER_SECOND, TOP_HZ, COLUMNS = 10.0, 1000.0, 40
WEIGHTS = torch.tensor([0.0, 0.5, 0.25, 0.25, 0.0])


def scores(*ranks: float) -> WindowScores:
    """Windows of 4 s that overlap by half, less similar the later they are."""
    starts = tuple(20 * number for number in range(len(ranks)))
    cosines = torch.linspace(0.9, 0.5, len(ranks))
    return WindowScores(WEIGHTS, COLUMNS, starts, cosines, torch.tensor(ranks))


def events_of(mask: Tensor, windows: WindowScores, seconds: float) -> list[Event]:
    """Events of a mask on a flat spectrum."""
    found = MaskEvents(WEIGHTS, COLUMNS, PER_SECOND)
    found.add(mask, mask.square())
    return found.finish("a dog", windows, seconds, TOP_HZ)


def test_an_event_is_where_the_mask_is() -> None:
    """Time, band and mass are the mask's; scores are those of the window around it."""
    mask = torch.zeros(5, 60)
    mask[2, 30:40] = 0.8
    (event,) = events_of(mask, scores(0.99, 0.96), 6.0)
    assert (event.start, event.stop) == pytest.approx((2.95, 3.95))
    assert (event.low_hz, event.high_hz) == pytest.approx((375, 625))
    assert event.mass == pytest.approx(0.8 * 0.25)
    # both windows have its middle: the higher presence counts
    assert event.presence == pytest.approx(0.99)
    assert event.similarity == pytest.approx(0.9)
    assert event.prompt == "a dog"
    mask[2, 5:51] = 0.8  # the second window has its middle, not its begin
    (event,) = events_of(mask, scores(0.96, 0.99), 6.0)
    assert event.presence == pytest.approx(0.99)


@pytest.mark.parametrize("rank", [0.94, math.nan])
def test_where_the_prompt_is_not_heard_there_is_no_event(rank: float) -> None:
    """However much of the mask is there, and of silence."""
    mask = torch.zeros(5, 80)
    mask[1, 5:15] = mask[1, 65:75] = 1
    events = events_of(mask, scores(rank, rank, 0.97), 8.0)
    assert [event.start for event in events] == [pytest.approx(6.45)]
    assert events_of(mask, scores(rank, rank, rank), 8.0) == []


def test_the_end_that_is_in_no_window_has_the_scores_of_the_last() -> None:
    """Less than a hop of a recording's end is in none."""
    mask = torch.zeros(5, 41)
    mask[1, 39:] = 1
    (event,) = events_of(mask, scores(0.97), 4.05)
    assert (event.start, event.stop) == pytest.approx((3.85, 4.05))
    assert event.presence == pytest.approx(0.97)


def test_an_event_ends_where_the_sound_does() -> None:
    """The last column reaches beyond the sound, an event does not."""
    (event,) = events_of(torch.ones(5, 41), scores(1.0), 4.0)
    assert (event.start, event.stop) == (0, 4)


def test_a_long_event_has_the_scores_of_the_best_window_in_it() -> None:
    """Also where its middle is not."""
    (event,) = events_of(torch.ones(5, 120), scores(0.99, 0.5, 0.5, 0.5, 0.5), 12.0)
    assert event.presence == pytest.approx(0.99)


def test_an_empty_mask_has_no_event() -> None:
    """Nor has a recording of no columns at all."""
    assert events_of(torch.zeros(5, 60), scores(1.0, 1.0), 6.0) == []
    assert MaskEvents(WEIGHTS, COLUMNS, PER_SECOND).finish("", scores(), 0, 1) == []
