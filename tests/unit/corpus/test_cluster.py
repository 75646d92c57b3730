"""cluster.py: actors of Ray."""

from __future__ import annotations

import os
import signal

import pytest

from lmaczs.corpus import cluster
from lmaczs.corpus.cluster import (
    Attempts,
    BlockActor,
    require_ray,
    result_of,
    run_ray,
    waits_for_gpus,
)
from lmaczs.corpus.engines import ALL, Counts, Lost, Work, required
from lmaczs.utils.errors import InputError, LmaczsError


def failing(block: int) -> Counts:
    """Work that fails at block 3."""
    if block == 3:
        raise OSError("the store is away")
    return Counts(block, 2, 1, 0, 0, "a.wav: it is empty")


def ending(block: int) -> Counts:
    """Work that ends its process at block 3."""
    if block == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return failing(block)


def test_attempts_are_counted() -> None:
    """Of each block, until an actor outlives it."""
    attempts = Attempts()
    assert [attempts.begin(block) for block in (3, 5, 3, 5, 3)] == [1, 1, 2, 2, 3]
    attempts.end(3)
    assert [attempts.begin(block) for block in (3, 5)] == [1, 3]


def test_an_actor_makes_its_work_once() -> None:
    """And says of each block what came of it, in what Ray can pass on."""
    made = []

    def make() -> Work:
        made.append(1)
        return failing

    results = map(result_of, BlockActor(make)({"block": [1, 3]})["result"])
    first, second = results
    assert made == [1]
    assert first == failing(1)
    assert isinstance(second, Lost) and second.block == 3
    assert second.reason == "OSError: the store is away"


def test_an_actor_without_a_model_says_so() -> None:
    """Of any block; what Ray would try again and again is not raised."""

    def make() -> Work:
        raise InputError("these weights are others")

    (text,) = BlockActor(make)({"block": [4]})["result"]
    assert result_of(text).block == ALL
    with pytest.raises(LmaczsError, match="^these weights are others$"):
        required(result_of(text))


def test_a_cluster_without_gpus_is_waited_for() -> None:
    """Where actors need one; Ray itself says nothing."""
    assert waits_for_gpus({"CPU": 8.0}, 1) and not waits_for_gpus({"CPU": 8.0}, 0)
    assert not waits_for_gpus({"CPU": 8.0, "GPU": 2.0}, 1)


@pytest.mark.slow
def test_ray_does_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine, whatever clusters are there; what is lost is named, with why."""
    require_ray()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    results = {one.block: one for one in run_ray(range(6), lambda: failing, 2)}
    assert sorted(results) == list(range(6))
    assert isinstance(results[3], Lost) and "store is away" in results[3].reason
    assert all(results[n] == failing(n) for n in (0, 1, 2, 4, 5))


@pytest.mark.slow
def test_a_block_that_ends_each_actor_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone: neither those of the same task, nor the run, which would never end."""
    require_ray()
    monkeypatch.setattr(cluster, "TASKS", 1)
    monkeypatch.setattr(cluster, "TASKS_OF_ACTOR", 1)
    results = {one.block: one for one in run_ray(range(6), lambda: ending, 2)}
    assert results.pop(3) == Lost(3, cluster.KILLED)
    assert results == {n: failing(n) for n in (0, 1, 2, 4, 5)}
