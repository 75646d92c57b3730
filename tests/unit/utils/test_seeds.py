"""seeds.py: seeds from names."""

from __future__ import annotations

from lmaczs.utils.seeds import seed_of


def test_seeds_differ_where_names_do() -> None:
    """Seeds tell runs, parts and where a name ends, and are the same on any machine."""
    assert seed_of(0, "speech", "1-100032-A-0") == 4040216852
    asked = [(0,), (1,), (0, "ab"), (0, "a", "b"), (0, "b", "a"), (1, "ab"), (10, "b")]
    assert len({seed_of(seed, *names) for seed, *names in asked}) == len(asked)
