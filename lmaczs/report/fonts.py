"""Fonts for text in any script: matplotlib's own, and installed ones where it lacks."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.font_manager import FontEntry, fontManager
from matplotlib.ft2font import FT2Font

logger = logging.getLogger(__name__)

OWN = "DejaVu Sans"
"""Comes with matplotlib, so that it is always there."""

PLACEHOLDERS = ("last resort", "lastresort", "adobe blank", "color emoji")
"""Fonts whose glyphs are boxes, blanks or bitmaps, for any character."""


def font_families(text: str) -> list[str]:
    """Families that draw a text: matplotlib's own, and those that have what it lacks.

    Parameters
    ----------
    text : str
        In any script.

    Returns
    -------
    list of str
        For ``font.family``: each character is drawn in the first family that has it.
    """
    return [OWN, *_fallbacks(_lacking(text))[0]]


def drawable(text: str) -> str:
    """Text in which characters that no installed font has are named by their codes.

    A warning says once which they are, and how to fix it.
    """
    missing = _fallbacks(_lacking(text))[1]
    if not missing:
        return text
    runs = f"[{re.escape(''.join(sorted(missing)))}]+"
    return re.sub(runs, lambda run: f"[{_codes(run[0])}]", text)


def _codes(characters: str) -> str:
    return " ".join(f"U+{ord(one):04X}" for one in characters)


def _lacking(text: str) -> frozenset[str]:
    """Characters of a text that matplotlib's own font lacks."""
    own = FT2Font(font_manager.findfont(OWN))
    return frozenset(c for c in text if c.isprintable() and not _has(own, c))


@lru_cache(maxsize=256)
def _fallbacks(needed: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Families that have the characters, and the characters that none has."""
    families: list[str] = []
    left = needed
    for entry in _installed() if needed else ():
        try:
            font = FT2Font(entry.fname)
        except (RuntimeError, OSError):  # removed, or damaged
            continue
        found = {c for c in left if font.scalable and _has(font, c)}
        if found:
            families.append(entry.name)
            left -= found
        if not left:
            break
    if left:
        logger.warning(
            "no installed font has %s (%s): pictures show codes instead; install one "
            "that has them, such as Noto Sans of that script",
            "".join(sorted(left)),
            _codes("".join(sorted(left))),
        )
    return tuple(families), left


def _installed() -> Iterator[FontEntry]:
    """Installed fonts, upright and sans first; then those not known to matplotlib."""
    known = list(fontManager.ttflist)
    yield from _ordered(known)
    new = set(font_manager.findSystemFonts()) - {entry.fname for entry in known}
    for path in sorted(new):
        try:
            fontManager.addfont(path)
        except (RuntimeError, OSError):  # no font, or one that cannot be read
            continue
    yield from _ordered([one for one in fontManager.ttflist if one.fname in new])


def _ordered(entries: list[FontEntry]) -> list[FontEntry]:
    real = [
        entry
        for entry in entries
        if not any(name in entry.name.lower() for name in PLACEHOLDERS)
    ]
    return sorted(real, key=_preference)


def _preference(entry: FontEntry) -> tuple[bool, bool, bool, str, str]:
    regular = str(entry.weight) in ("400", "normal", "regular")
    sans = "sans" in entry.name.lower()
    return entry.style != "normal", not regular, not sans, entry.name, entry.fname


def _has(font: FT2Font, character: str) -> bool:
    return font.get_char_index(ord(character)) != 0
