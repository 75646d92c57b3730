"""What is printed of what stops a program, and its exit status."""

from __future__ import annotations

import errno
import os
import signal
import threading

import pytest

from lmaczs.utils.ending import Terminated, ended_by_sigterm, sentence_of, status_of


@pytest.mark.parametrize(
    ("error", "sentence", "status"),
    [
        (KeyboardInterrupt(), "stopped by SIGINT; the same line resumes", 130),
        (Terminated(), "stopped by SIGTERM; the same line resumes", 143),
        (OSError(errno.EROFS, "no", "a/b"), "a/b: Read-only file system; name a", 1),
        (OSError(errno.EDQUOT, "no"), "output: Disk quota exceeded; make room", 1),
        (FileNotFoundError(2, "No such file", "a"), "[Errno 2] No such file: 'a'", 1),
        (ValueError("two\n lines"), "two lines", 1),
        (ValueError(), "ValueError", 1),
    ],
)
def test_sentence_and_status(error: BaseException, sentence: str, status: int) -> None:
    """One line, with what to do where the disk is the reason."""
    assert sentence_of(error).startswith(sentence)
    assert "\n" not in sentence_of(error)
    assert status_of(error) == status


def test_sigterm_raises_within_the_block_alone() -> None:
    """Afterwards it does what it did before; in another thread nothing changes."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), ended_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
    found = []

    def other() -> None:
        with ended_by_sigterm():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [before]
