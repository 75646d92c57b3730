"""CLAP's embeddings of sets of clips, and Frechet distances between the sets."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lmaczs.clap import FrozenClap
from lmaczs.data.clip_reader import FileReader
from lmaczs.metrics.frechet import Embeddings, extrapolated_distance, frechet_distance


@torch.no_grad()
def embed_clips(
    clap: FrozenClap, clips: pd.DataFrame, batch_size: int = 16
) -> NDArray[np.float32]:
    """Embeddings f(X) [N, D], of unit norm, of a table's clips.

    `clips` has what `FileReader` reads. Of clips longer than the encoder's input the
    middle counts.
    """
    front_end = clap.front_end
    reader = FileReader(clips, front_end.sample_rate, keep_in_memory=False)
    parts = []
    starts = range(0, len(clips), batch_size)
    for start in tqdm(starts, desc="embed", unit="batch"):
        rows = range(start, min(start + batch_size, len(clips)))
        wavs = [front_end.fit_length(reader.read(row)[None]) for row in rows]
        log_mel = front_end.stft_to_log_mel(
            front_end.stft(torch.cat(wavs).to(clap.device))
        )
        parts.append(clap.audio_embedding(log_mel).float().cpu().numpy())
    return np.concatenate(parts)


def frechet_table(sets: Mapping[str, Embeddings], seed: int = 0) -> pd.DataFrame:
    """Distances of every two sets.

    Parameters
    ----------
    sets : mapping of str to array [N, D]
        Embeddings by the names of sets; each may have another N.
    seed : int
        Seed of `extrapolated_distance`.

    Returns
    -------
    DataFrame
        first, second (names), first_clips, second_clips (numbers), distance
        (`frechet_distance`) and extrapolated (`extrapolated_distance`).
    """
    rows = [
        {
            "first": one,
            "second": other,
            "first_clips": len(sets[one]),
            "second_clips": len(sets[other]),
            "distance": frechet_distance(sets[one], sets[other]),
            "extrapolated": extrapolated_distance(sets[one], sets[other], seed),
        }
        for one, other in combinations(sets, 2)
    ]
    return pd.DataFrame(rows)
