"""Presence and verdict in words, for the terminal, the picture and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SILENT = "silence to the model"

MEANINGS = {
    "kept": "the explanation has the prompt, and the residual has lost it",
    "partly kept": "the explanation has less of the prompt than the input, or the "
    "residual still has it",
    "not kept": "the explanation does not show what the model listened to",
    "not heard": "the model does not recognise the prompt in the input",
}
"""What each verdict says of an explanation."""


def percent(presence: float | None) -> str:
    """Write a presence with one decimal; a dash for None."""
    return "–" if presence is None else f"{100 * presence:.1f} %"


def clock(seconds: float) -> str:
    """Write a time as 1:02:03.4, without hours where there are none."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{minutes:02d}:{rest / 10:04.1f}"
    return f"{hours}:{text}" if hours else text


def presence_words(presence: float | None) -> str:
    """Say how many reference prompts a recording's prompt is ahead of."""
    if presence is None:
        return SILENT
    ahead = "all" if presence == 1 else f"{percent(presence)} of the"
    return f"ahead of {ahead} reference prompts"


def margin_words(record: Mapping[str, Any]) -> str:
    """Say how far a prompt is ahead of its contrast; empty without one.

    In the recording, and in explanation and residual if they were verified.
    """
    if not record.get("contrast") or record["margin"] is None:
        return ""
    names = " and ".join(f"“{name}”" for name in record["contrast"])
    margin = record["margin"]
    found = f"{'above' if margin > 0 else 'below'} {names} by {abs(margin):.3f}"
    parts = {"explanation": "masked_margin", "residual": "residual_margin"}
    known = {name: record[key] for name, key in parts.items()}
    shown = [f"{name} {v:.3f}" for name, v in known.items() if v is not None]
    return f"{found} ({', '.join(shown)})" if shown else found


def verdict_details(record: Mapping[str, Any]) -> str:
    """Presence, and margin if there is one, from what explanation.json holds."""
    words = presence_words(record["presence"])
    margin = margin_words(record)
    return f"{words}, {margin}" if margin else words


def verdict_words(record: Mapping[str, Any]) -> str:
    """Verdict and `verdict_details`."""
    words = verdict_details(record)
    return f"{record['verdict']}, {words}" if record["verdict"] else words
