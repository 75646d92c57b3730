"""Seeds that depend on names, so that neither order nor number of workers matters."""

from __future__ import annotations

import zlib


def seed_of(seed: int, *names: str) -> int:
    """Seed of a part of a run, from that of the run and the part's names.

    Parameters
    ----------
    seed : int
        Of the run.
    *names : str
        E.g. a condition and a clip.

    Returns
    -------
    int
        The same on every machine.
    """
    return zlib.crc32("\n".join((str(seed), *names)).encode())
