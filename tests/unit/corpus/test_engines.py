"""engines.py: attempts at a block."""

from __future__ import annotations

from functools import partial

import pytest

from lmaczs.corpus.engines import (
    ALL,
    ATTEMPTS,
    AllLost,
    Counts,
    Lost,
    Work,
    attempted,
    begun,
    required,
)
from lmaczs.utils.errors import InputError, LmaczsError

DONE = Counts(5, 1, 0, 0, 0)


def test_a_block_is_tried_again() -> None:
    """Until it is done, a few times at most; then it is lost, with the reason."""
    tries: list[int] = []

    def work(block: int) -> Counts:
        tries.append(block)
        if len(tries) < ATTEMPTS + needed:
            raise OSError(5, "the store\nis away")
        return DONE

    needed = 0
    assert attempted(work, 5) == DONE and tries == [5] * ATTEMPTS
    tries.clear()
    needed = 1
    result = attempted(work, 5)
    assert isinstance(result, Lost) and tries == [5] * ATTEMPTS
    assert (result.block, result.reason) == (5, "OSError: [Errno 5] the store is away")
    assert "Traceback" in result.trace


def test_what_ends_all_work_is_not_tried_again() -> None:
    """Its sentence ends the command."""
    tries: list[int] = []

    def work(block: int) -> Counts:
        tries.append(block)
        raise AllLost("another corpus is here")

    with pytest.raises(LmaczsError, match="^another corpus is here$"):
        required(attempted(work, 5))
    assert tries == [5]


def test_without_a_model_there_is_nothing_to_wait_for() -> None:
    """Whatever is raised when it is loaded; other results are handed on."""

    def work(block: int) -> Counts:
        return DONE

    def make(problem: Exception) -> Work:
        raise problem

    assert begun(lambda: work) is work
    for problem, reason in (
        (InputError("a is no model"), "a is no model"),
        (ImportError("no b"), "ImportError: no b"),
        (MemoryError(), "MemoryError"),
    ):
        result = begun(partial(make, problem))
        assert isinstance(result, Lost) and result.block == ALL
        with pytest.raises(LmaczsError, match=f"^{reason}$"):
            required(result)
    lost = Lost(5, "the store is away")
    assert required(lost) is lost and required(DONE) is DONE
