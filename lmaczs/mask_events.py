"""Events of an explanation: when and where its mask is.

The rule is that of `lmaczs.events`, with what an explanation knows: the model does not
look once more, so that an event has the scores of the explained window around it, and
a prompt that is recognised there, as in the verdict, is an event. `find_events` demands
more, and finds an event's limits in a window of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lmaczs.events import Event, EventRule, Run, RunTracker, band_limits, times_of
from lmaczs.presence import PRESENT

EXPLAINED = EventRule(presence=PRESENT, candidate=PRESENT)
"""The rule of explanations: nothing of a prompt that is not heard."""


@dataclass(frozen=True, eq=False)
class WindowScores:
    """The windows that a recording was explained in, and a prompt's scores in them.

    Attributes
    ----------
    weights : Tensor [F]
        Of the mask's bins in its activity, see `lmaczs.events.activity_weights`.
    columns : int
        Of a window, on the mask's grid.
    starts : tuple of int
        First column of each.
    similarity, presence : Tensor [W]
        Of the prompt; NaN for what is silence to the model or without reference
        prompts.
    """

    weights: Tensor
    columns: int
    starts: tuple[int, ...]
    similarity: Tensor
    presence: Tensor

    def around(self, first: int, last: int) -> tuple[float, float]:
        """Similarity and presence of the columns of an event.

        Of the windows that have its middle, or lie in it, that of the highest presence.
        """
        starts = torch.tensor(self.starts)
        ends = starts + self.columns
        middle = min((first + last) // 2, int(ends[-1]) - 1)  # the end is in no window
        holds = (starts <= middle) & (middle < ends)
        lies = (first <= starts) & (ends <= last)
        near = (holds | lies).nonzero()[:, 0].tolist()
        known = self.presence.nan_to_num(-1.0), self.similarity.nan_to_num(-1.0)
        rank, cosine = max((float(known[0][n]), float(known[1][n])) for n in near)
        return cosine, rank


class MaskEvents:
    """Finds the events of a mask whose columns come in blocks.

    Parameters
    ----------
    weights : Tensor [F]
        See `WindowScores`.
    columns : int
        Of a window: within half of it activities are compared.
    per_second : float
        Columns in a second.
    rule : EventRule
        How events are found.
    """

    def __init__(
        self,
        weights: Tensor,
        columns: int,
        per_second: float,
        rule: EventRule = EXPLAINED,
    ) -> None:
        self.weights, self.per_second, self.rule = weights, per_second, rule
        self._tracker = RunTracker(rule, per_second, columns // 2)
        self._runs: list[Run] = []

    def add(self, mask: Tensor, kept: Tensor) -> None:
        """Take columns of the mask, and of the power that it keeps, [F, m] each."""
        level = self.weights @ mask
        values = torch.cat([level[None], kept])
        self._runs += self._tracker.push(level, values)

    def finish(
        self, prompt: str, scores: WindowScores, seconds: float, top_hz: float
    ) -> list[Event]:
        """Events of a recording of this length, ordered by their start.

        `top_hz` is the frequency of the last bin.
        """
        self._runs += self._tracker.finish()
        found = []
        for run in self._runs:
            cosine, rank = scores.around(run.first, run.last)
            if rank < self.rule.presence:
                continue
            columns = run.first, run.last
            found.append(
                Event(
                    *times_of(columns, self.per_second, seconds),
                    *band_limits(run.total[1:], top_hz),
                    prompt,
                    cosine,
                    rank,
                    float(run.total[0]) / (run.last - run.first),
                )
            )
        return found
