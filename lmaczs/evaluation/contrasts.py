"""What a contrast is worth: sums of two clips that the model recognises both.

In a sum each label is explained alone, and against the other one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
import pandas as pd
from torch import Tensor

from lmaczs.evaluation.source_mixtures import SourceMixtures
from lmaczs.interpreter import Refine, ZeroShotInterpreter
from lmaczs.metrics.localisation import si_sdr_improvement

WAYS: dict[str, tuple[Refine, bool]] = {
    "decoder": (0, False),
    "decoder, contrast": (0, True),
    "refined": ("auto", False),
    "refined, contrast": ("auto", True),
}
"""Refinement, and whether there is a contrast, by what the tables call the masks."""


@dataclass(frozen=True)
class RecognisedSum:
    """Two clips whose labels the model ranks first and second in their sum."""

    ids: tuple[str, str]
    labels: tuple[str, str]
    wavs: tuple[Tensor, Tensor]

    @property
    def mixture(self) -> Tensor:
        """Waveform of both [samples]."""
        return self.wavs[0] + self.wavs[1]


def recognised_sums(
    interpreter: ZeroShotInterpreter,
    clips: pd.DataFrame,
    labels: Sequence[str],
    seed: int = 0,
) -> Iterator[RecognisedSum]:
    """Yield sums at equal power, of all pairs of clips in random order.

    Parameters
    ----------
    interpreter : ZeroShotInterpreter
        With or without a decoder.
    clips : DataFrame
        id, path, label; start and stop where clips are cut from recordings.
    labels : sequence of str
        All classes, among which the two have to be ahead.
    seed : int
        Of the order.

    Yields
    ------
    RecognisedSum
        Of clips of two labels.
    """
    rate, template = interpreter.sample_rate, interpreter.hparams.template
    data = SourceMixtures(clips, interpreter.clap.front_end, "sum")
    pairs = np.array(list(combinations(range(len(clips)), 2)))
    sentences = [template.format(label) for label in labels]
    for first, second in np.random.default_rng(seed).permutation(pairs).tolist():
        rows = clips.iloc[[first, second]]
        own = [template.format(label) for label in rows.label]
        if own[0] == own[1]:
            continue
        wavs = data[first]["target"], data[second]["target"]
        table = interpreter.classify_waveform(wavs[0] + wavs[1], rate, sentences)
        if set(table.label[:2]) == set(own):
            ids, names = (rows[column].tolist() for column in ("id", "label"))
            yield RecognisedSum((ids[0], ids[1]), (names[0], names[1]), wavs)


def contrast_rows(
    interpreter: ZeroShotInterpreter, sums: Iterator[RecognisedSum], count: int
) -> pd.DataFrame:
    """Explain the first `count` sums for both labels, in each of `WAYS`.

    Columns: id, other, masks (a key of `WAYS`), si_sdr_improvement (dB), margin,
    masked_margin, residual_margin (similarity less that of the other label), verdict,
    mask_mean.
    """
    template, rows = interpreter.hparams.template, []
    for one in islice(sums, count):
        prompts = [template.format(label) for label in one.labels]
        for masks, (refine, against) in WAYS.items():
            found = interpreter.interpret_waveform(
                one.mixture,
                interpreter.sample_rate,
                prompts,
                refine=refine,
                contrast=prompts if against else None,
            )
            for place, explained in enumerate(found):
                given = explained.waveform[None], one.mixture[None]
                gain = si_sdr_improvement(*given, one.wavs[place][None])
                rows.append(
                    {
                        "id": one.ids[place],
                        "other": one.ids[1 - place],
                        "masks": masks,
                        "si_sdr_improvement": float(gain),
                        "margin": explained.margin,
                        "masked_margin": explained.masked_margin,
                        "residual_margin": explained.residual_margin,
                        "verdict": explained.verdict,
                        "mask_mean": float(explained.mask.mean()),
                    }
                )
    return pd.DataFrame(rows)


def contrast_summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Means of each kind of masks, the improvement's median, and per cent kept."""
    groups = rows.groupby("masks", sort=False)
    table = groups.mean(numeric_only=True)
    table.insert(1, "median", groups.si_sdr_improvement.median())
    kept = 100 * (rows.verdict == "kept").groupby(rows.masks, sort=False).mean()
    return table.assign(kept=kept, n=groups.size()).reset_index()
