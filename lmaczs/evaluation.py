"""Score explanations: every method on the same clips, by the same code.

A batch is explained by all methods at once. The unmasked clip is encoded once for all
of them, and once more for each method with what its mask keeps and what it removes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lmaczs.clap import FrozenClap
from lmaczs.kept_table import KeptTable
from lmaczs.methods import Asked, Methods
from lmaczs.metrics import class_probabilities, faithfulness_table

METRICS = ("accuracy", "AI", "AD", "AD_sb", "AG", "FF", "Fid-In", "SPS", "COMP", "MM")
Scorer = Callable[[dict[str, Any], str], pd.DataFrame]


def ask_for_predicted(
    clap: FrozenClap, class_text: Tensor, batch: Mapping[str, Any], seed: int
) -> tuple[Asked, Tensor, Callable[[Tensor], Tensor]]:
    """Classify a batch and ask for what it was taken for.

    Parameters
    ----------
    clap : FrozenClap
        The classifier.
    class_text : Tensor [K, D]
        Embeddings of the class prompts.
    batch : mapping
        wav [B, samples] and samples [B].
    seed : int
        Of what methods draw.

    Returns
    -------
    tuple
        The clips with the prompts of their predicted classes, the probabilities [B, K]
        without a mask, and the function that gives those of other log-mels.
    """
    front_end, class_text = clap.front_end, class_text.to(clap.device)
    spectrum = front_end.stft(batch["wav"].to(clap.device))
    spectrum = spectrum[..., : front_end.n_frames]
    log_mel = front_end.stft_to_log_mel(spectrum)

    def probabilities(log_mel: Tensor) -> Tensor:
        embedding = clap.embed_audio(log_mel)
        return class_probabilities(embedding, class_text, clap.logit_scale)

    unmasked = probabilities(log_mel)
    text = class_text[unmasked.argmax(1)]
    asked = Asked(spectrum, log_mel, text, batch["samples"], seed)
    return asked, unmasked, probabilities


@torch.no_grad()
def score_batch(
    clap: FrozenClap,
    methods: Methods,
    class_text: Tensor,
    labels: Sequence[str],
    batch: Mapping[str, Any],
    seed: int,
) -> pd.DataFrame:
    """Explain a batch's predicted classes with every method and score the masks.

    Parameters
    ----------
    clap : FrozenClap
        The classifier.
    methods : Methods
        What is compared.
    class_text : Tensor [K, D]
        Embeddings of the class prompts.
    labels : sequence of str
        The K classes.
    batch : mapping
        wav [B, samples], samples [B], id and label (lists of B).
    seed : int
        Of what methods draw.

    Returns
    -------
    DataFrame
        One row a clip and method: id, method, the metrics, seconds.
    """
    asked, unmasked, probabilities = ask_for_predicted(clap, class_text, batch, seed)
    input_tf = clap.front_end.input_tf
    target = torch.tensor([labels.index(label) for label in batch["label"]])
    parts = []
    for name, (mask, seconds) in methods(asked).items():
        heard = [
            probabilities(input_tf(asked.spectrum, m, methods.domain))
            for m in (mask, 1 - mask)
        ]
        table = faithfulness_table(unmasked, *heard, mask, target.to(clap.device))
        columns = {k: v.tolist() for k, v in table.items()}
        first = {"id": batch["id"], "method": name}
        parts.append(pd.DataFrame({**first, **columns, "seconds": seconds}))
    return pd.concat(parts, ignore_index=True)


def fill_table(
    table: KeptTable,
    datasets: Mapping[str, Dataset],
    score: Scorer,
    batch_size: int,
    progress: Callable[[Iterable], Iterable] = iter,
) -> pd.DataFrame:
    """Score what a table lacks, condition by condition, batch by batch.

    Batches are the same whether a run was interrupted or not, and each is kept when it
    is done.

    Parameters
    ----------
    table : KeptTable
        Gets columns condition and id, and those that `score` returns.
    datasets : mapping of str to Dataset
        Of each condition.
    score : callable
        Of a batch and its condition; returns rows with a column id.
    batch_size : int
        Clips that are explained at once.
    progress : callable
        Wraps the batches that are left, e.g. ``tqdm``.

    Returns
    -------
    DataFrame
        All rows.
    """
    left = [
        (condition, data, range(start, min(start + batch_size, len(data))))
        for condition, data in datasets.items()
        for start in range(0, len(data), batch_size)
        if not table.has(condition=condition, batch=start)
    ]
    for condition, data, rows in progress(left):
        items = [data[row] for row in rows]
        found = score(as_batch(items), condition)
        found.insert(0, "condition", condition)
        table.add(found.assign(batch=rows.start))
    return table.rows


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
