"""Metrics as table columns: name, direction, function of a batch, source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor

Batch = TypeVar("Batch")
Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Column:
    """How a column of figures is printed and compared.

    Attributes
    ----------
    name : str
        In CSV files and tables.
    better : {"higher", "lower"}, optional
        None for a column that only describes.
    digits : int
        After the point, in printed tables.
    printed : bool
        Whether results.md has it; CSV files have every column.
    """

    name: str
    _: KW_ONLY
    better: Better | None = None
    digits: int = 2
    printed: bool = True


@dataclass(frozen=True)
class Metric(Column, Generic[Batch]):
    """A column that is computed from a batch of masks.

    Attributes
    ----------
    compute : callable
        From a batch, one value per sample: Tensor [B].
    source : str
        Where the literature defines it.
    limits : tuple of float
        Lowest and highest value.
    needs_labels : bool
        Whether it needs labelled clips.
    meaning : str
        What it tells, in a legend.
    """

    compute: Callable[[Batch], Tensor]
    _: KW_ONLY
    source: str = ""
    limits: tuple[float, float] = (-torch.inf, torch.inf)
    needs_labels: bool = False
    meaning: str = ""


def legend(meanings: Mapping[str, str], names: Iterable[str]) -> str:
    """What columns of a table mean, in one line; those without a meaning left out."""
    known = [f"{name}: {meanings[name]}" for name in names if meanings.get(name)]
    return "; ".join(known)


def by_name(*metrics: Metric[Batch]) -> dict[str, Metric[Batch]]:
    """Make a registry of metrics; its entries appear in every table."""
    return {metric.name: metric for metric in metrics}


def values_of(metrics: Mapping[str, Metric[Batch]], batch: Batch) -> dict[str, Tensor]:
    """Compute every metric of a registry: name to Tensor [B]."""
    return {name: metric.compute(batch) for name, metric in metrics.items()}


def ratio_or_zero(part: Tensor, whole: Tensor) -> Tensor:
    """Divide by a `whole` of at least 0; a ratio to 0 is 0."""
    return part / torch.where(whole > 0, whole, 1.0) * (whole > 0)


def require_equal_shapes(*tensors: Tensor | None) -> None:
    """Raise ValueError where shapes differ: nothing is broadcast. None is skipped."""
    shapes = {tuple(t.shape) for t in tensors if t is not None}
    if len(shapes) > 1:
        raise ValueError(f"These shapes must be equal: {sorted(shapes)}.")
