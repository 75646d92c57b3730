"""Weights in files: read without running code, and refused unless they are whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lmaczs.utils.ending import sentence_of
from lmaczs.utils.errors import InputError

NAMED, LONGEST_NAME = 3, 200  # weights that a sentence names, and characters of each
MOST_TENSORS = 4000
"""Of one model: a large CLAP has 500. Each costs time, however small it is."""

MOST_HEADER = 4 << 20
"""Bytes of a safetensors file's header: a large CLAP's has 60,000."""

Shapes = dict[str, tuple[int, ...]]


def is_pickle(path: str | Path) -> bool:
    """Whether a file is one of torch's, by its content: an archive, or older.

    A safetensors file is a length of eight bytes, whatever they are, and JSON.
    """
    with Path(path).open("rb") as file:
        head = file.read(9)
    return head.startswith((b"PK", b"\x80")) and head[8:] != b"{"


def shapes_in(paths: Iterable[Path]) -> Shapes:
    """Names and shapes of the tensors in safetensors files, by their headers alone.

    InputError if a file is damaged, holds too many or is larger than the memory.
    """
    found: Shapes = {}
    for path in paths:
        _require_room(path)
        try:
            with safe_open(path, "pt") as file:
                names = list(file.keys())
                if len(found) + len(names) > MOST_TENSORS:
                    raise InputError(
                        f"{path} holds {len(names)} tensors, more than any model's"
                    )
                found |= {key: tuple(file.get_slice(key).get_shape()) for key in names}
        except InputError:
            raise
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{path} is damaged: {sentence_of(error)}") from error
    return found


def _require_room(path: Path) -> None:
    """Refuse a header, or a file of holes, that takes more memory than any model's."""
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    size = path.stat().st_size
    if MOST_HEADER < header <= size:  # else safetensors says what is wrong
        raise InputError(
            f"{path} has a header of {header} bytes, and a model's has at most "
            f"{MOST_HEADER}"
        )
    if size > (memory := memory_bytes()):
        raise InputError(
            f"{path} has {size / 1e9:.0f} GB, and this machine {memory / 1e9:.0f} GB "
            "of memory: load it on a larger one"
        )


def memory_bytes() -> int:
    """Memory of this machine; where the system does not say, more than any has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


def tensors_in(paths: Iterable[Path]) -> dict[str, Tensor]:
    """Tensors in safetensors files, on the CPU; InputError if one is damaged."""
    found: dict[str, Tensor] = {}
    for path in paths:
        try:
            with safe_open(path, "pt") as file:
                found |= {key: file.get_tensor(key) for key in file.keys()}
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            raise InputError(f"{path} is damaged: {sentence_of(error)}") from error
    return found


def unpickled(paths: Iterable[Path]) -> dict[str, Tensor]:
    """Tensors in pickles of torch, whose code is not run; InputError if damaged.

    For files that the user trusts: torch's reader of weights alone refuses what is none
    of torch's, but is no guard against an attack on itself.
    """
    found: dict[str, Tensor] = {}
    for path in paths:
        try:
            one = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # unpickling may raise anything
            # torch's own sentence advises weights_only=False, which runs any code
            kind = type(error).__name__
            raise InputError(
                f"{path} is damaged, or holds more than weights ({kind})"
            ) from None
        if not isinstance(one, Mapping):
            raise InputError(f"{path} holds no weights by their names")
        tensors = {str(k): v for k, v in one.items() if isinstance(v, Tensor)}
        found.update(tensors)
    return found


def elements(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many numbers tensors of these shapes hold."""
    return sum(prod(shape) for shape in shapes.values())


def faults(wanted: Mapping[str, Tensor], found: Shapes) -> str:
    """Which weights are missing or have another shape, in a phrase; empty if none."""
    missing = [key for key in wanted if key not in found]
    if missing:
        return f"{counted(missing)} missing ({some(missing)})"
    other = [
        f"{key} {list(found[key])} instead of {list(value.shape)}"
        for key, value in wanted.items()
        if found[key] != tuple(value.shape)
    ]
    return f"{counted(other)} of another shape ({some(other)})" if other else ""


def broken(weights: Mapping[str, Tensor]) -> list[str]:
    """Names of the weights that hold NaN or infinite values, as float32."""
    learnt = {key: w.float() for key, w in weights.items() if w.is_floating_point()}
    return [key for key, w in learnt.items() if not bool(w.isfinite().all())]


def counted(names: list[str]) -> str:
    """Their number in words."""
    return f"{len(names)} weight{'s' * (len(names) > 1)}"


def some(names: list[str]) -> str:
    """The first of them."""
    shown = [name if name.isprintable() else ascii(name) for name in names[:NAMED]]
    shown = [name[:LONGEST_NAME] for name in shown]
    return ", ".join([*shown, *(["..."] if len(names) > NAMED else [])])
