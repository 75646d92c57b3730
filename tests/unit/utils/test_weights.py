"""Weights are read without running code, and what is wrong with them is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lmaczs.utils import weights
from lmaczs.utils.errors import InputError
from lmaczs.utils.weights import (
    broken,
    elements,
    faults,
    is_pickle,
    memory_bytes,
    shapes_in,
    some,
    tensors_in,
    unpickled,
)

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}


class Touch:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def safe(tmp_path: Path) -> Path:
    """The tensors as safetensors."""
    save_file(TENSORS, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """The tensors as torch's pickle."""
    torch.save(TENSORS, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def test_tensors_come_back(safe: Path, pickled: Path) -> None:
    """Of either format, which the content tells; shapes by the header alone."""
    for found in (tensors_in([safe]), unpickled([pickled])):
        assert found.keys() == TENSORS.keys()
        assert all(torch.equal(found[key], TENSORS[key]) for key in TENSORS)
    assert shapes_in([safe]) == {"a": (2, 3), "b": ()}
    assert elements(shapes_in([safe])) == 7
    assert [is_pickle(path) for path in (safe, pickled)] == [False, True]


def test_a_length_is_no_pickle(tmp_path: Path) -> None:
    """The first byte of safetensors is of any value, also that of a pickle."""
    for names in range(60):
        path = tmp_path / str(names)
        save_file({"a": TENSORS["a"]}, path, metadata={"x": "y" * 8 * names})
        assert not is_pickle(path)
    assert {(tmp_path / str(n)).read_bytes()[0] for n in range(60)} >= {0x80}


@pytest.mark.parametrize("kept", [0, 4, 20, 0.7])
def test_a_damaged_file_is_named(kept: float, safe: Path, pickled: Path) -> None:
    """Wherever it was cut."""
    for path, read in ((safe, tensors_in), (safe, shapes_in), (pickled, unpickled)):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(kept if kept > 1 else kept * len(whole))])
        with pytest.raises(InputError, match=f"{path.name} is damaged") as refused:
            read([path])
        assert "\n" not in str(refused.value)
        path.write_bytes(whole)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    """And the advice to read it with weights_only=False is not passed on."""
    torch.save({"a": Touch(tmp_path / "ran")}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="more than weights") as refused:
        unpickled([tmp_path / "a.ckpt"])
    assert "weights_only" not in str(refused.value)
    assert not (tmp_path / "ran").exists()
    torch.save([1], tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="holds no weights"):
        unpickled([tmp_path / "a.ckpt"])


def test_too_many_tensors_are_refused(
    safe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs time."""
    monkeypatch.setattr(weights, "MOST_TENSORS", 1)
    with pytest.raises(InputError, match="holds 2 tensors"):
        shapes_in([safe])


def test_a_header_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    """A million names took 11 s and 1 GB."""
    path = tmp_path / "a.safetensors"
    path.write_bytes((8 << 20).to_bytes(8, "little") + b" " * (8 << 20))
    with pytest.raises(InputError, match="has a header of 8388608 bytes, and a model"):
        shapes_in([path])


def test_a_file_of_holes_is_no_larger_than_the_memory(tmp_path: Path) -> None:
    """It takes no room on the disk, and all of the memory where it is read."""
    path, size = tmp_path / "a.safetensors", 2 * memory_bytes()
    header = {"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)
    with pytest.raises(InputError, match="GB of memory: load it on a larger one"):
        shapes_in([path])


def test_names_are_shown_on_one_line() -> None:
    """Neither a terminal's commands nor a page of text."""
    assert some(["a\x1b]0;b\x07"]) == r"'a\x1b]0;b\x07'"
    assert len(some(["a" * 10**5])) < 1000


@pytest.mark.parametrize(
    ("found", "phrase"),
    [
        ({"a": (2, 3), "b": ()}, ""),
        ({"a": (2, 3), "b": (), "c": (9,)}, ""),
        ({}, "2 weights missing (a, b)"),
        ({"a": (2, 3)}, "1 weight missing (b)"),
        ({"a": (3, 2), "b": ()}, "1 weight of another shape (a [3, 2] instead of [2"),
    ],
)
def test_what_is_wrong_is_a_phrase(found: dict, phrase: str) -> None:
    """Missing ones first; what is in excess is not wrong."""
    assert faults(TENSORS, found).startswith(phrase)
    assert bool(faults(TENSORS, found)) is bool(phrase)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_named(value: float) -> None:
    """One value is enough; integers cannot be."""
    spoiled: dict[str, Tensor] = {**TENSORS, "c": torch.tensor([0.0, value])}
    assert broken(TENSORS) == []
    assert broken(spoiled) == ["c"]


def test_any_kind_of_float_is_looked_at() -> None:
    """Also one that torch cannot test as it is, or that float32 does not hold."""
    eighth = torch.ones(2, dtype=torch.float8_e4m3fn)
    assert broken({"a": eighth, "b": torch.tensor(1e300, dtype=torch.float64)}) == ["b"]
