"""Seeds derived from names, independent of order and number of workers."""

from __future__ import annotations

import zlib


def seed_of(seed: int, *names: str) -> int:
    """Seed of a named part of a run, e.g. of a condition and a clip; machine-independent."""
    return zlib.crc32("\n".join((str(seed), *names)).encode())
