"""Seeds derived from names, independent of order and number of workers."""

from __future__ import annotations

import zlib


def seed_of(seed: int, *names: str) -> int:
    """Seed of a part of a run, e.g. a condition and a clip; alike on all machines."""
    return zlib.crc32("\n".join((str(seed), *names)).encode())
