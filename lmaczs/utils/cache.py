"""Results that are computed once and cached in a file, as long as their key holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from lmaczs.utils.files import atomic_write

Value = TypeVar("Value")


def cached(path: str | Path, key: str, make: Callable[[], Value]) -> Value:
    """Read a result from a file, or compute it and write the file.

    Parameters
    ----------
    path : str or Path
        Appears whole or not at all; replaced where it holds another key or cannot be
        read.
    key : str
        States everything that the result depends on, e.g. a digest of files and
        settings.
    make : callable
        Computes the result: tensors, numbers or text, or lists and dicts of those.

    Returns
    -------
    Any
        The result; tensors on the CPU.
    """
    path = Path(path)
    found = _read(path)
    if isinstance(found, dict) and found.get("key") == key and "value" in found:
        return found["value"]
    value = make()
    with atomic_write(path) as part:
        torch.save({"key": key, "value": value}, part)
    return value


def _read(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except OSError:
        raise
    except Exception:  # unpickling what is damaged may raise anything
        return None
