"""Events: when and where in a recording a prompt is present, by a rule on masks.

The rule, with the options of `EventRule`:

1. Windows of the recording in which the prompt has a presence (`lmaczs.presence`) of at
   least `candidate` are masked. The *activity* of a column is the mean of the masks
   over mel bands, relative to the highest within half a window of it.
2. An event begins where the activity rises to `on`, and reaches to both sides as far as
   it stays above `off` (hysteresis). Events less than `max_gap` apart are one, shorter
   ones than `min_length` are none.
3. The model looks once more, at a window with the event in its middle, and at half a
   window: so nothing depends on where windows happen to fall, and a short sound is not
   drowned by its surroundings. In one of the two the prompt needs a presence of at
   least `presence`. There the event's limits are found again.
4. Where events of two prompts are one sound, that of the more similar prompt is kept
   (`exclusive`).

Thresholds are ranks, and fractions of a mask: they mean the same for every checkpoint.
The defaults were chosen on an hour that `recipes/long_recordings.py` made of training
and validation clips of ESC-50, for the embedded CLAP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lmaczs.presence import ABSENT
from lmaczs.utils.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

TAIL = 0.05
"""Fraction of an event's power that lies below its lower limit, and above its upper."""

SHARED = 0.5
"""Fraction of the smaller of two boxes from which they are the same sound."""


@dataclass(frozen=True)
class EventRule:
    """Options of how events are found; see the module's docstring.

    Attributes
    ----------
    presence : float
        Least presence of the prompt in the event's surroundings, in [0, 1].
    candidate : float
        Least presence in the windows that are looked into.
    on : float
        Activity at which an event begins, in (0, 1].
    off : float
        Activity down to which it reaches, in (0, `on`].
    min_length : float
        Seconds that an event has at least.
    max_gap : float
        Seconds between two events that are one.
    exclusive : bool
        Whether a sound is an event of one prompt alone.

    Raises
    ------
    InputError
        If an option is out of its range.
    """

    presence: float = 0.99
    candidate: float = ABSENT
    on: float = 0.7
    off: float = 0.6
    min_length: float = 0.1
    max_gap: float = 0.5
    exclusive: bool = True

    def __post_init__(self) -> None:
        for name in ("presence", "candidate"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}: give 0 to 1")
        if not 0 < self.off <= self.on <= 1:
            raise InputError(
                f"on is {self.on} and off is {self.off}: give 0 < off <= on <= 1"
            )
        for name in ("min_length", "max_gap"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} is {getattr(self, name)}: give seconds")


@dataclass(frozen=True)
class Event:
    """A stretch of a recording, and a band, in which a prompt is present.

    Attributes
    ----------
    start, stop : float
        Seconds from the recording's begin.
    low_hz, high_hz : float
        Limits of the band that holds nine tenths of what the mask keeps, by power.
    prompt : str
        As given.
    similarity : float
        Of the prompt and the event's surroundings: a window around its middle, or half
        a window, whichever has the higher presence. Of an event longer than a window,
        the most similar window in it counts.
    presence : float
        The same as a rank, see `lmaczs.presence`.
    mass : float
        Mean of the mask over the event's time and the model's mel bands, in [0, 1].
    """

    start: float
    stop: float
    low_hz: float
    high_hz: float
    prompt: str
    similarity: float
    presence: float
    mass: float


def event_table(events: Iterable[Event]) -> pd.DataFrame:
    """A row an event, with the columns of `Event`; ordered by start, then stop."""
    import pandas as pd

    columns = [field.name for field in fields(Event)]
    table = pd.DataFrame([astuple(event) for event in events], columns=columns)
    types = {name: str if name == "prompt" else float for name in columns}
    table = table.astype(types)
    return table.sort_values(["start", "stop"], ignore_index=True, kind="stable")


def activity(bands: Tensor) -> Tensor:
    """Activity [..., T] of masks [..., n_mels, T] on mel bands: their mean."""
    return bands.mean(-2)


def activity_weights(mel_filters: Tensor) -> Tensor:
    """Weights [F] of the bins of a mask [F, T] in its `activity`.

    By the model's filters [F, n_mels]: the mean over mel bands of the mean in each.
    """
    weights: Tensor = (mel_filters / mel_filters.sum(0)).mean(1)
    return weights


def active_runs(
    level: Tensor, rule: EventRule, per_second: float, reach: int
) -> list[tuple[int, int]]:
    """Stretches of columns that are events, by hysteresis.

    Parameters
    ----------
    level : Tensor [T]
        Activity, in [0, 1].
    rule : EventRule
        Its `on`, `off`, `max_gap` and `min_length` count.
    per_second : float
        Columns in a second.
    reach : int
        Columns to either side among which the highest activity is 1.

    Returns
    -------
    list of (int, int)
        First column of each, and the one after its last.
    """
    tracker = RunTracker(rule, per_second, reach)
    runs = [*tracker.push(level, level.new_zeros(0, len(level))), *tracker.finish()]
    return [(run.first, run.last) for run in runs]


@dataclass
class Run:
    """A stretch of columns, and the sums of what was pushed with them.

    Attributes
    ----------
    first, last : int
        First column, and the one after the last.
    total : Tensor [K], float64
        Sums over the columns.
    peaks : bool
        Whether the activity rises to `EventRule.on` in it.
    """

    first: int
    last: int
    total: Tensor
    peaks: bool


class RunTracker:
    """`active_runs` of columns that come in blocks, in memory that does not grow.

    Parameters
    ----------
    rule : EventRule
        See `active_runs`.
    per_second : float
        See `active_runs`.
    reach : int
        See `active_runs`.
    """

    def __init__(self, rule: EventRule, per_second: float, reach: int) -> None:
        self.rule, self.per_second, self.reach = rule, per_second, reach
        self._level: Tensor | None = None  # `_before` decided columns, then others
        self._values: Tensor | None = None  # of the others
        self._before = self._column = 0
        self._run: Run | None = None  # may go on
        self._event: Run | None = None  # may be joined to the next run
        self._gap: Tensor | None = None  # sums over what follows it

    def push(self, level: Tensor, values: Tensor) -> Iterator[Run]:
        """Take activity [m], and values [K, m] to be summed; yield events that ended.

        Blocks may be of any length.
        """
        known = self._level, self._values
        self._level = level if known[0] is None else torch.cat([known[0], level])
        self._values = values if known[1] is None else torch.cat([known[1], values], 1)
        yield from self._decide(len(self._level) - self._before - self.reach)

    def finish(self) -> Iterator[Run]:
        """Yield the events that are left, at the end."""
        if self._level is not None:
            yield from self._decide(len(self._level) - self._before)
        yield from self._end_run()
        yield from self._end_event()

    def _decide(self, count: int) -> Iterator[Run]:
        """Take the next columns, whose neighbours within reach are known."""
        if count <= 0:
            return
        assert self._level is not None and self._values is not None
        place = slice(self._before, self._before + count)
        level = self._level[place]
        peak = _highest_near(self._level, self.reach)[place]
        relative = level / peak.clamp_min(torch.finfo(level.dtype).tiny)
        relative = torch.where(peak > 0, relative, torch.zeros_like(relative))
        inside = relative >= self.rule.off
        begin = 0
        kinds, counts = torch.unique_consecutive(inside, return_counts=True)
        for kind, length in zip(kinds.tolist(), counts.tolist(), strict=True):
            piece = slice(begin, begin + length)
            total = self._values[:, piece].double().sum(1)
            peaks = bool((relative[piece] >= self.rule.on).any())
            yield from self._take(kind, length, total, peaks)
            begin += length
        decided = self._before + count
        self._before = min(self.reach, decided)
        self._level = self._level[decided - self._before :].clone()
        self._values = self._values[:, count:].clone()

    def _take(
        self, inside: bool, length: int, total: Tensor, peaks: bool
    ) -> Iterator[Run]:
        """Take columns that are all above `off`, or all below."""
        first, self._column = self._column, self._column + length
        if not inside:
            yield from self._end_run()
            self._gap = total if self._gap is None else self._gap + total
        elif self._run is None:
            self._run = Run(first, self._column, total, peaks)
        else:
            run = self._run
            peaks |= run.peaks
            self._run = Run(run.first, self._column, run.total + total, peaks)

    def _end_run(self) -> Iterator[Run]:
        """Join what ended to the event before it, or let it be the next one."""
        run, self._run, event = self._run, None, self._event
        if run is None:
            return
        gap = torch.zeros_like(run.total) if self._gap is None else self._gap
        if not run.peaks:
            self._gap = gap + run.total
            return
        self._gap = None
        near = self.rule.max_gap * self.per_second
        if event is not None and run.first - event.last < near:
            total = event.total + gap + run.total
            self._event = Run(event.first, run.last, total, True)
            return
        yield from self._end_event()
        self._event = run

    def _end_event(self) -> Iterator[Run]:
        event, self._event = self._event, None
        least = self.rule.min_length * self.per_second
        if event is not None and event.last - event.first >= least:
            yield event


def _highest_near(level: Tensor, reach: int) -> Tensor:
    """Highest of [T] values within `reach` columns of each."""
    pooled = torch.nn.functional.max_pool1d(level[None], 2 * reach + 1, 1, reach)
    return pooled[0]


def times_of(
    columns: tuple[int, int], per_second: float, seconds: float
) -> tuple[float, float]:
    """Start and stop of columns [first, after the last) in a sound of this length."""
    # a column is the middle of a stretch one hop long
    start, stop = ((column - 0.5) / per_second for column in columns)
    return max(0.0, start), min(stop, seconds)


def band_limits(power: Tensor, top_hz: float) -> tuple[float, float]:
    """Limits in Hz of the band that holds nine tenths of a power spectrum [F].

    A twentieth lies below it and a twentieth above. `top_hz` is the frequency of the
    last bin, the first is 0. Without any power, the whole range.
    """
    total = float(power.double().sum())
    if total <= 0:
        return 0.0, top_hz
    share = power.double().cumsum(0) / total
    low, high = torch.searchsorted(share, share.new_tensor([TAIL, 1 - TAIL])).tolist()
    step = top_hz / (len(power) - 1)
    last = len(power) - 1
    bands = max(0.0, low - 0.5) * step, min(last, min(high, last) + 0.5) * step
    return min(bands[0], top_hz), min(bands[1], top_hz)  # products round upwards


def without_shared(events: Sequence[Event]) -> list[Event]:
    """Leave out events that are the sound of another prompt's event of more similarity.

    Two events are the same sound where their boxes in time and frequency share more
    than half of the smaller one.
    """
    kept: list[Event] = []
    for event in sorted(events, key=lambda one: -one.similarity):
        others = (one for one in kept if one.prompt != event.prompt)
        if not any(_shared(event, other) > SHARED for other in others):
            kept.append(event)
    return sorted(kept, key=lambda one: (one.start, one.stop))


def _shared(one: Event, other: Event) -> float:
    """Fraction of the smaller of two boxes that the other covers, in [0, 1]."""
    time = min(one.stop, other.stop) - max(one.start, other.start)
    band = min(one.high_hz, other.high_hz) - max(one.low_hz, other.low_hz)
    if time <= 0 or band <= 0:
        return 0.0
    areas = [(e.stop - e.start) * (e.high_hz - e.low_hz) for e in (one, other)]
    return time * band / min(areas)
