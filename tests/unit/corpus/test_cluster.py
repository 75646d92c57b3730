"""cluster.py: actors of Ray."""

from __future__ import annotations

import pytest

from lmaczs.corpus.cluster import BlockActor, require_ray, run_ray
from lmaczs.corpus.engines import Counts, Lost, Work


def failing(block: int) -> Counts:
    """Work that fails at block 3."""
    if block == 3:
        raise OSError("the store is away")
    return Counts(block, 2, 1, 0, 0, "a.wav: it is empty")


def test_an_actor_makes_its_work_once() -> None:
    """And says of each block what came of it, in what Ray can pass on."""
    made = []

    def make() -> Work:
        made.append(1)
        return failing

    actor = BlockActor(make)
    first, second = (actor({"block": [block]})["result"][0] for block in (1, 3))
    assert made == [1]
    assert first["lost"] is False and first["first_failure"] == "a.wav: it is empty"
    assert second["lost"] is True and "the store is away" in second["reason"]


@pytest.mark.slow
def test_ray_does_every_block() -> None:
    """On this machine; what is lost is named, with its reason."""
    require_ray()
    results = {one.block: one for one in run_ray(range(6), lambda: failing, 2)}
    assert sorted(results) == list(range(6))
    assert isinstance(results[3], Lost) and "store is away" in results[3].reason
    assert all(results[n] == failing(n) for n in (0, 1, 2, 4, 5))
