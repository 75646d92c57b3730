"""Sanity checks of a decoder: present and absent prompts, silence, paraphrases.

Every measurement is a table with a row for each sample; `summary` makes one figure of
each. Mixtures with known sources are in `source_mixtures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from lmaczs.clap import FrozenClap
from lmaczs.data.segments import segments_of
from lmaczs.decoder import Decoder
from lmaczs.evaluation.figure_data import decoded_masks, similarity_table
from lmaczs.explanation import similarities
from lmaczs.metrics.classification import accuracies

QUANTILES = (10, 50, 90, 99)  # per cent


def presence(
    clap: FrozenClap,
    decoder: Decoder,
    clips: pd.DataFrame,
    labels: Sequence[str],
    template: str,
) -> pd.DataFrame:
    """`similarity_table` of a decoder and clips (id, path, label) of any length."""
    rate = clap.front_end.sample_rate
    wavs = (segment.load(rate) for segment in segments_of(clips))
    sounds = zip(clips.id, clips.label, wavs, strict=True)
    methods = {"decoder": decoded_masks(clap, decoder)}
    table = similarity_table(clap, methods, sounds, labels, template)
    return table.drop(columns="method")


@torch.no_grad()
def silence(clap: FrozenClap, labels: Sequence[str], template: str) -> pd.DataFrame:
    """Similarity of digital silence to every label: prompt, similarity."""
    text = clap.encode_text([template.format(label) for label in labels])
    nothing = torch.zeros(1, clap.front_end.max_samples, device=clap.device)
    similar = clap.audio_embedding(clap.front_end.log_mel(nothing)) @ text.T
    return pd.DataFrame({"prompt": list(labels), "similarity": similar[0].tolist()})


@torch.no_grad()
def paraphrase_hits(
    clap: FrozenClap, clips: pd.DataFrame, paraphrases: Mapping[str, str]
) -> pd.DataFrame:
    """Classify clips (id, path, label) by paraphrases, one sentence for each label.

    Clips of other labels are left out. Columns: id, label, chosen, hit.
    """
    labels = list(paraphrases)
    text = clap.encode_text([paraphrases[label] for label in labels])
    rows, clips = [], clips[clips.label.isin(labels)]
    for clip, segment in zip(clips.itertuples(), segments_of(clips), strict=True):
        wav = segment.load(clap.front_end.sample_rate).to(clap.device)
        chosen = labels[int(similarities(clap, wav, text).argmax())]
        rows.append((clip.id, clip.label, chosen, chosen == clip.label))
    return pd.DataFrame(rows, columns=("id", "label", "chosen", "hit"))


def summary(
    tables: Mapping[str, pd.DataFrame], frequent: Sequence[str]
) -> dict[str, float]:
    """One figure for each measurement, see docs/results.md.

    `tables` are presence, silence and paraphrases, from the functions above, and
    known_sources, from `score_source_mixtures`. Accuracy of clips with `frequent`
    labels is among these, that of others among all. si_sdr_improvement is that of sums,
    mass_on_source that of sequences. Undefined figures (accuracy without a clip, the
    correlation of a constant) are left out.
    """
    pairs = tables["presence"]
    present = pairs[pairs.present].set_index("id")
    kept = ["mask_mean", "power_kept"]
    absent = pairs[~pairs.present].groupby("id")[kept].mean()
    least = absent.mask_mean.reindex(present.index).clip(lower=1e-9)
    known = tables["known_sources"].groupby("condition").mean(numeric_only=True)
    figures = {
        **_accuracies(pairs, frequent),
        "paraphrase_accuracy": tables["paraphrases"].hit.mean(),
        "true_pair": present.similarity.mean(),
        "silence": tables["silence"].similarity.max(),
        "mask_present": present.mask_mean.mean(),
        "mask_absent": absent.mask_mean.mean(),
        "power_present": present.power_kept.mean(),
        "power_absent": absent.power_kept.mean(),
        "present_to_absent": (present.mask_mean / least).median(),
        "correlation": pairs.similarity.corr(pairs.mask_mean),
        "si_sdr_improvement": known.si_sdr_improvement["sum"],
        "mass_on_source": known.mass_on_source["sequence"],
    }
    figures |= _quantiles(present.similarity, "present")
    figures |= _quantiles(pairs.similarity[~pairs.present], "absent")
    return {name: float(v) for name, v in figures.items() if not np.isnan(v)}


def _quantiles(similarity: pd.Series, name: str) -> dict[str, float]:
    """How high is high: quantiles of the similarities of present or absent labels."""
    return {f"similarity_{name}_q{q}": similarity.quantile(q / 100) for q in QUANTILES}


def _accuracies(pairs: pd.DataFrame, frequent: Sequence[str]) -> dict[str, float]:
    """Accuracy of the frequent labels' clips among these, and of the others."""
    labels = list(dict.fromkeys(pairs.prompt))
    table = pairs.pivot(index="id", columns="prompt", values="similarity")[labels]
    own = pairs[pairs.present].set_index("id").prompt.reindex(table.index)
    return accuracies(
        torch.tensor(table.to_numpy()),
        torch.tensor([labels.index(label) for label in own]),
        labels,
        [label for label in frequent if label in labels],
        "frequent",
    )
