"""Results kept in files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lmaczs.utils.cache import cached


def test_a_result_is_computed_once_for_each_key(tmp_path: Path) -> None:
    """The same key reads the file; another key computes again and replaces it."""
    path, calls = tmp_path / "new" / "a.pt", []

    def make() -> list[Tensor | str]:
        calls.append(1)
        return [torch.arange(3), "text"]

    first = cached(path, "a", make)
    again = cached(path, "a", make)
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1] == "text"
    assert len(calls) == 1
    cached(path, "b", make)
    assert len(calls) == 2
    cached(path, "b", make)
    assert len(calls) == 2
    assert [one.name for one in path.parent.iterdir()] == ["a.pt"]


def test_an_interrupted_computation_leaves_the_old_file(tmp_path: Path) -> None:
    """Nothing partial is written, and the earlier result stays readable."""
    path = tmp_path / "a.pt"
    cached(path, "a", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        cached(path, "b", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert [one.name for one in tmp_path.iterdir()] == ["a.pt"]
    assert cached(path, "a", lambda: 2) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        b"PK\x03\x04 cut off",
        b"\x80\x02q\0.",
        b"\x80\x02X\1\0\0\0\xf1.",
    ],
)
def test_a_damaged_file_is_computed_again(tmp_path: Path, content: bytes) -> None:
    """What cannot be read counts as missing."""
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    assert cached(path, "a", lambda: 3) == 3
    assert cached(path, "a", lambda: 4) == 3
