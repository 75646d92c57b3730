"""Verdict: whether an explanation keeps what the model recognises, by ranks.

A rule on presences, see `lmaczs.presence`, not on cosines: it means the same for every
checkpoint. It was chosen on training and validation clips of ESC-50, and checked on
its test clips and on UrbanSound8K; docs/reading.md has the numbers.
"""

from __future__ import annotations

from typing import Literal

from lmaczs.presence import ABSENT, PRESENT

Verdict = Literal["kept", "partly kept", "not kept", "not heard"]

LOST = 3
"""A sound has lost a prompt where its place is this many times that in the input."""


def verdict_of(
    presence: float | None,
    masked: float | None,
    residual: float | None,
    references: int = 521,
) -> Verdict:
    """Judge an explanation by the presence of its prompt.

    The place of a prompt is 1 plus the number of reference prompts ahead of it. In
    this order:

    - "not heard": in the input, the presence is below `PRESENT`. The model does not
      recognise the prompt, so that there is nothing to explain.
    - "not kept": in what the mask keeps, it is at most `ABSENT`, or that is silence.
    - "kept": in what the mask keeps, it is at least `PRESENT`; and what the mask leaves
      out is silence, or the prompt's place there is at least three times that in the
      input.
    - "partly kept": all else. The presence is lower in what is kept, or the prompt is
      in more of the recording than the mask keeps.

    Parameters
    ----------
    presence : float or None
        Of the prompt in the input, in [0, 1]; None if that is silence to the model.
    masked : float or None
        The same in what the mask keeps.
    residual : float or None
        The same in what the mask leaves out.
    references : int
        Number of reference prompts.

    Returns
    -------
    {"kept", "partly kept", "not kept", "not heard"}
    """
    if presence is None or presence < PRESENT:
        return "not heard"
    if masked is None or masked <= ABSENT:
        return "not kept"
    lost = residual is None or (
        _place(residual, references) >= LOST * _place(presence, references)
    )
    return "kept" if masked >= PRESENT and lost else "partly kept"


def verdict_of_contrast(
    presence: float | None,
    masked: float | None,
    masked_margin: float | None,
    residual_margin: float | None,
) -> Verdict:
    """Judge an explanation of what raises a prompt above others.

    In this order:

    - "not heard": in the input, the presence is below `PRESENT`.
    - "not kept": in what the mask keeps, another is ahead of the prompt, or the
      presence is at most `ABSENT`, or that is silence.
    - "kept": in what the mask keeps, the presence is at least `PRESENT`; and in what it
      leaves out the prompt is ahead of none of the others, or that is silence.
    - "partly kept": all else.

    Parameters
    ----------
    presence : float or None
        Of the prompt in the input, in [0, 1]; None if that is silence to the model.
    masked : float or None
        The same in what the mask keeps.
    masked_margin : float or None
        The prompt's similarity less the highest of the others in what the mask keeps.
    residual_margin : float or None
        The same in what the mask leaves out.

    Returns
    -------
    {"kept", "partly kept", "not kept", "not heard"}
    """
    if presence is None or presence < PRESENT:
        return "not heard"
    if masked is None or masked_margin is None:
        return "not kept"
    if masked <= ABSENT or masked_margin <= 0:
        return "not kept"
    lost = residual_margin is None or residual_margin <= 0
    return "kept" if masked >= PRESENT and lost else "partly kept"


def _place(presence: float, references: int) -> int:
    """1 for a prompt that is ahead of all reference prompts."""
    return 1 + round((1 - presence) * references)
