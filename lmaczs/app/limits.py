"""Limits of the app: most that is taken of a request, and most that wait."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lmaczs.utils.errors import InputError

MOST = 1e9
"""The highest limit."""


@dataclass(frozen=True)
class Limits:
    """Most that is taken of a request, and most requests that wait; each above 0."""

    megabytes: float = 50
    seconds: float = 60
    prompts: int = 8
    characters: int = 200
    waiting: int = 20

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not 0 < value <= MOST:
                text = f"a limit is above 0, and {MOST:g} at most"
                raise InputError(f"{text}: {one.name} is {value:g}")
