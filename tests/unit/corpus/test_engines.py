"""engines.py: attempts at a block."""

from __future__ import annotations

from lmaczs.corpus.engines import ATTEMPTS, Counts, Lost, attempted

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
