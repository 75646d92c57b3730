"""Which wording of one idea a model understands best.

On labelled clips: which tells those with the label from the others. On single
recordings: which is ahead of most reference prompts. Both with what its text tower
reads of each wording, and how near the wordings are to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from lmaczs.metrics.ranking import average_precision, roc_auc
from lmaczs.vocabulary import Reading

SAME = 1e-5
"""Embeddings whose cosine is nearer to 1 are those of one prompt, up to rounding."""


def single_table(
    files: Sequence[str],
    prompts: Sequence[str],
    similarity: Tensor,
    presence: Tensor,
) -> pd.DataFrame:
    """Rank of each wording in each recording.

    Columns: file, rank (1 for the highest presence; of equal ones, the highest
    similarity), prompt, presence, similarity. `similarity` and `presence` are [N, P];
    silence to the model has a presence of NaN.
    """
    count = len(prompts)
    table = pd.DataFrame(
        {
            "file": [file for file in files for _ in prompts],
            "number": [number for number in range(len(files)) for _ in prompts],
            "prompt": list(prompts) * len(files),
            "presence": presence.flatten().tolist(),
            "similarity": similarity.flatten().tolist(),
        }
    )
    keys, rising = ["number", "presence", "similarity"], [True, False, False]
    table = table.sort_values(keys, ascending=rising, kind="stable", ignore_index=True)
    table.insert(1, "rank", [row % count + 1 for row in range(len(table))])
    return table.drop(columns="number")


def labelled_table(
    prompts: Sequence[str], similarity: Tensor, presence: Tensor, present: Tensor
) -> pd.DataFrame:
    """How well each wording tells clips with a label from the others.

    Parameters
    ----------
    prompts : sequence of str
        The wordings.
    similarity : Tensor [N, P]
        Of the clips and the wordings, whose order is judged.
    presence : Tensor [N, P]
        NaN for clips that are silence to the model.
    present : Tensor [N], bool
        Which clips have the label.

    Returns
    -------
    DataFrame
        rank, prompt, average_precision, auc, presence (mean, of clips with the label),
        presence_elsewhere (of the others), clips, others (how many); the highest
        average precision first (of equal ones, the highest auc, then presence).
    """
    table = pd.DataFrame(
        {
            "prompt": list(prompts),
            "average_precision": average_precision(similarity, present).tolist(),
            "auc": roc_auc(similarity, present).tolist(),
            "presence": presence[present].nanmean(0).tolist(),
            "presence_elsewhere": presence[~present].nanmean(0).tolist(),
            "clips": int(present.sum()),
            "others": int((~present).sum()),
        }
    )
    keys = ["average_precision", "auc", "presence"]
    table = table.sort_values(keys, ascending=False, kind="stable", ignore_index=True)
    table.insert(0, "rank", range(1, len(table) + 1))
    return table


def reading_table(readings: Sequence[Reading], text: Tensor) -> pd.DataFrame:
    """What the text tower makes of each wording.

    Columns: prompt; agreement, the mean cosine of its embedding with the others' (NaN
    for a single one); same_as, the first other wording of the same embedding, or "";
    tokens; cut, whether its end is not read; unread, characters without a token.
    `text` [P, D] are the embeddings.
    """
    cosines = text @ text.T
    others = ~torch.eye(len(text), dtype=torch.bool, device=text.device)
    same = ((cosines > 1 - SAME) & others).tolist()
    mean = (cosines * others).sum(1) / others.sum(1)
    names = [one.prompt for one in readings]
    return pd.DataFrame(
        {
            "prompt": names,
            "agreement": mean.tolist(),
            "same_as": [names[row.index(True)] if any(row) else "" for row in same],
            "tokens": [one.tokens for one in readings],
            "cut": [one.cut for one in readings],
            "unread": ["".join(one.unread) for one in readings],
        }
    )
