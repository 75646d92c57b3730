"""Score explanations: every method on the same clips, by the same code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor

from lmaczs.attribution import keep_all, shuffled_bins, shuffled_patches
from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.frontend import Domain
from lmaczs.metrics import class_probabilities, faithfulness_table

METRICS = ("accuracy", "AI", "AD", "AD_sb", "AG", "FF", "Fid-In", "SPS", "COMP", "MM")
HEADER = ("method", "condition", "n", *METRICS, "seconds_per_clip")
Baseline = Callable[[Tensor, Generator], Tensor]

BASELINES: dict[str, Baseline] = {
    "keep-all": lambda mask, rng: keep_all(mask),
    "random patches": shuffled_patches,
    "random bins": shuffled_bins,
}


@torch.no_grad()
def score_batch(
    clap: FrozenClap,
    decoder: MaskDecoder,
    batch: dict[str, Any],
    labels: list[str],
    class_text: Tensor,
    rng: Generator,
    domain: Domain = "stft",
) -> pd.DataFrame:
    """Explain a batch's predicted classes with every method and score the masks.

    The unmasked clip is encoded once for all methods.

    Parameters
    ----------
    clap : FrozenClap
        The classifier.
    decoder : MaskDecoder
        LMAC-ZS.
    batch : dict
        From `lmaczs.prompted_clips.collate`.
    labels : list of str
        The K classes.
    class_text : Tensor [K, D]
        Embeddings of the class prompts.
    rng : Generator
        Source of chance of the random masks.
    domain : {"mel", "stft", "waveform"}
        Where masks are applied.

    Returns
    -------
    DataFrame
        One row a clip and method: id, method, the metrics, seconds.
    """
    front_end = clap.front_end
    spectrum = front_end.stft(batch["wav"].to(clap.device))
    log_mel = front_end.stft_to_log_mel(spectrum)
    start = time.perf_counter()
    encoding = clap.encode_audio(log_mel)
    predicted = class_text[(encoding.embedding @ class_text.T).argmax(-1)]
    masks = decoder(predicted[:, None], encoding.features, log_mel)[:, 0]
    seconds = (time.perf_counter() - start) / len(masks)
    masks = front_end.tile_mask(masks, batch["samples"].to(clap.device))
    methods = {"LMAC-ZS": masks}
    methods.update({name: make(masks, rng) for name, make in BASELINES.items()})

    def probabilities(mask: Tensor | None) -> Tensor:
        embedding = encoding.embedding
        if mask is not None:
            embedding = clap.embed_audio(front_end.input_tf(spectrum, mask, domain))
        return class_probabilities(embedding, class_text, clap.logit_scale)

    unmasked = probabilities(None)
    target = torch.tensor([labels.index(label) for label in batch["label"]])
    tables = []
    for name, mask in methods.items():
        table = faithfulness_table(
            unmasked,
            probabilities(mask),
            probabilities(1 - mask),
            mask,
            target.to(clap.device),
        )
        columns = {k: v.tolist() for k, v in table.items()}
        took = seconds if name == "LMAC-ZS" else float("nan")
        tables.append(
            pd.DataFrame(
                {"id": batch["id"], "method": name, **columns, "seconds": took}
            )
        )
    return pd.concat(tables, ignore_index=True)


def summarise(per_clip: pd.DataFrame, condition: str) -> pd.DataFrame:
    """Means over clips, in the columns of results.csv.

    Parameters
    ----------
    per_clip : DataFrame
        Rows of `score_batch`.
    condition : str
        What was done to the clips, e.g. ``clean``.

    Returns
    -------
    DataFrame
        One row a method, in the order of first appearance.
    """
    groups = per_clip.groupby("method", sort=False)
    means = groups[list(METRICS)].mean()
    means.insert(0, "n", groups.size())
    means.insert(0, "condition", condition)
    means["seconds_per_clip"] = groups["seconds"].mean()
    return means.reset_index()[list(HEADER)]


def evaluate(
    clap: FrozenClap,
    decoder: MaskDecoder,
    batches: Iterable[dict[str, Any]],
    labels: list[str],
    template: str,
    seed: int,
    domain: Domain = "stft",
) -> pd.DataFrame:
    """Score every method on all batches.

    Parameters
    ----------
    clap : FrozenClap
        The classifier.
    decoder : MaskDecoder
        LMAC-ZS.
    batches : iterable of dict
        From `lmaczs.prompted_clips.collate`.
    labels : list of str
        The classes.
    template : str
        Makes their prompts.
    seed : int
        Of the random masks.
    domain : {"mel", "stft", "waveform"}
        Where masks are applied.

    Returns
    -------
    DataFrame
        One row a clip and method.
    """
    class_text = clap.encode_text([template.format(label) for label in labels])
    rng = torch.Generator().manual_seed(seed)
    rows = [
        score_batch(clap, decoder, batch, labels, class_text, rng, domain)
        for batch in batches
    ]
    return pd.concat(rows, ignore_index=True)
