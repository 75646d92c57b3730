"""Limits of the app: most that is taken of a request, and most that wait."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lmaczs.utils.errors import InputError


@dataclass(frozen=True)
class Limits:
    """Most that is taken of a request, and most requests that wait. All positive."""

    megabytes: float = 50
    seconds: float = 60
    prompts: int = 8
    characters: int = 200
    waiting: int = 20

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not value > 0:
                raise InputError(f"a limit is positive: {one.name} is {value:g}")
