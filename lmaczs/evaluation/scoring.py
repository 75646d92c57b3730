"""Score explanations: every method on the same clips, by the same code.

A batch is explained by all methods at once, and every table takes what it needs of
that. The unmasked clip is encoded once for all of them, and once more for each method
with what its mask keeps and what it removes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.explainers import Asked, Methods
from lmaczs.evaluation.result_table import KeptTable
from lmaczs.frontend import cell_power
from lmaczs.metrics.faithfulness import class_probabilities, faithfulness_table

METRICS = ("accuracy", "AI", "AD", "AD_sb", "AG", "FF", "Fid-In", "SPS", "COMP", "MM")


@dataclass(frozen=True)
class Explained:
    """A batch of clips and every method's masks of what they are taken for.

    Attributes
    ----------
    batch : mapping
        The clips: id and, where they have one, label.
    asked : Asked
        The clips with the prompts of their predicted classes.
    unmasked : Tensor [B, K]
        Probabilities of the classes.
    cells : Tensor [B, F, T] (or [B, n_mels, T])
        Power on the masks' grid.
    masks : dict of str to tuple
        Of each method, see `Methods`.
    classify : callable
        Of a mask [B, F, T] (or [B, n_mels, T]): the probabilities [B, K] under it.
    """

    batch: Mapping[str, Any]
    asked: Asked
    unmasked: Tensor
    cells: Tensor
    masks: dict[str, tuple[Tensor, float]]
    classify: Callable[[Tensor], Tensor]


@torch.no_grad()
def explain_predicted(
    clap: FrozenClap,
    methods: Methods,
    class_text: Tensor,
    batch: Mapping[str, Any],
    seed: int,
) -> Explained:
    """Classify a batch and explain what it is taken for with every method.

    Parameters
    ----------
    clap : FrozenClap
        The classifier.
    methods : Methods
        What is compared.
    class_text : Tensor [K, D]
        Embeddings of the class prompts.
    batch : mapping
        wav [B, samples], samples [B], id and label (lists of B).
    seed : int
        Of what methods draw.

    Returns
    -------
    Explained
    """
    front_end, class_text = clap.front_end, class_text.to(clap.device)
    spectrum = front_end.stft(batch["wav"].to(clap.device))
    spectrum = spectrum[..., : front_end.n_frames]

    def probabilities(log_mel: Tensor) -> Tensor:
        embedding = clap.audio_embedding(log_mel)
        return class_probabilities(embedding, class_text, clap.logit_scale)

    def classify(mask: Tensor) -> Tensor:
        return probabilities(front_end.input_tf(spectrum, mask, methods.domain))

    log_mel = front_end.stft_to_log_mel(spectrum)
    unmasked = probabilities(log_mel)
    text = class_text[unmasked.argmax(1)]
    asked = Asked(spectrum, log_mel, text, batch["samples"], seed)
    cells = cell_power(front_end, spectrum, methods.domain)
    return Explained(batch, asked, unmasked, cells, methods(asked), classify)


@torch.no_grad()
def score_batch(explained: Explained, labels: Sequence[str]) -> pd.DataFrame:
    """Score every method's masks of a batch.

    Parameters
    ----------
    explained : Explained
        The batch.
    labels : sequence of str
        The K classes.

    Returns
    -------
    DataFrame
        One row a clip and method: id, method, the metrics, seconds.
    """
    batch, unmasked = explained.batch, explained.unmasked
    target = [labels.index(label) for label in batch["label"]]
    target = torch.tensor(target, device=unmasked.device)
    parts = []
    for name, (mask, seconds) in explained.masks.items():
        heard = [explained.classify(m) for m in (mask, 1 - mask)]
        table = faithfulness_table(unmasked, *heard, mask, target)
        columns = {k: v.tolist() for k, v in table.items()}
        first = {"id": batch["id"], "method": name}
        parts.append(pd.DataFrame({**first, **columns, "seconds": seconds}))
    return pd.concat(parts, ignore_index=True)


# --------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Task:
    """Clips under one condition, and what is made of them.

    Attributes
    ----------
    data : Dataset
        Items for `as_batch`.
    explain : callable
        Of a batch, what all scorers take: it is done once.
    scorers : mapping of str to callable
        For each table, its rows of what `explain` returns, with a column id.
    """

    data: Dataset
    explain: Callable[[dict[str, Any]], Any]
    scorers: Mapping[str, Callable[[Any], pd.DataFrame]]


def fill_tables(
    tables: Mapping[str, KeptTable],
    tasks: Mapping[str, Task],
    batch_size: int,
    progress: Callable[[Iterable], Iterable] = iter,
) -> None:
    """Score what tables lack, condition by condition, batch by batch.

    Batches are the same whether a run was interrupted or not, and each is kept when it
    is done.

    Parameters
    ----------
    tables : mapping of str to KeptTable
        Get columns condition, id, those of the scorer of their name, and batch.
    tasks : mapping of str to Task
        Of each condition.
    batch_size : int
        Clips that are explained at once.
    progress : callable
        Wraps the batches that are left, e.g. ``tqdm``.
    """

    def lacking(condition: str, start: int) -> list[str]:
        place = {"condition": condition, "batch": start}
        names = tasks[condition].scorers
        return [name for name in names if not tables[name].has(**place)]

    left = [
        (condition, start, names)
        for condition, task in tasks.items()
        for start in range(0, len(task.data), batch_size)
        if (names := lacking(condition, start))
    ]
    for condition, start, names in progress(left):
        task = tasks[condition]
        rows = range(start, min(start + batch_size, len(task.data)))
        explained = task.explain(as_batch([task.data[row] for row in rows]))
        for name in names:
            found = task.scorers[name](explained)
            found.insert(0, "condition", condition)
            tables[name].add(found.assign(batch=start))


def as_batch(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put clips beside each other.

    Parameters
    ----------
    items : sequence of mapping
        With the same keys.

    Returns
    -------
    dict
        Of each key a list, or the stack of tensors; numbers become a tensor.
    """
    batch: dict[str, Any] = {}
    for key, first in items[0].items():
        values = [item[key] for item in items]
        if isinstance(first, Tensor):
            values = torch.stack(values)
        elif isinstance(first, int | float):
            values = torch.tensor(values)
        batch[key] = values
    return batch
