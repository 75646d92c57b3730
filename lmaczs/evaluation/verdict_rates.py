"""How often each verdict is given, and how high presences are.

For each clip: the label that the model ranks first, right or wrong, and some labels of
other classes, explained with the decoder's masks and with those that are refined where
they fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd

from lmaczs.data.segments import segments_of
from lmaczs.interpreter import Refine, ZeroShotInterpreter
from lmaczs.utils.seeds import seed_of
from lmaczs.verdict import Verdict

MASKS: dict[str, Refine] = {"decoder": 0, "refined": "auto"}
"""Values of `refine`, by what masks are called in the tables."""
FIRST, OTHER = "ranked first", "other class"
QUANTILES = (0.1, 0.5, 0.9, 0.99)


def verdicts(
    interpreter: ZeroShotInterpreter,
    clips: pd.DataFrame,
    labels: Sequence[str],
    others: int = 4,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Presences of all labels, and verdicts of some.

    Parameters
    ----------
    interpreter : ZeroShotInterpreter
        With or without a decoder.
    clips : DataFrame
        id, path, label; start and stop where clips are cut from recordings.
    labels : sequence of str
        All classes; prompts are made of them by the interpreter's template.
    others : int
        Labels of other classes that are explained for each clip.
    seed : int
        Of their draw.

    Returns
    -------
    presences : DataFrame
        id, prompt, present (whether it is the clip's label), presence.
    verdicts : DataFrame
        id, prompt, kind (`FIRST` or `OTHER`), masks (a key of `MASKS`), verdict,
        mask_mean.
    """
    template = interpreter.hparams.template
    sentences = {label: template.format(label) for label in labels}
    ranks, judged = [], []
    for clip, segment in zip(clips.itertuples(), segments_of(clips), strict=True):
        wav, rate = segment.load(interpreter.sample_rate), interpreter.sample_rate
        found = interpreter.interpret_waveform(
            wav, rate, list(sentences.values()), verify=False, refine=0
        )
        for label, one in zip(labels, found, strict=True):
            ranks.append((clip.id, label, label == clip.label, one.presence))
        first = labels[int(np.argmax([one.similarity for one in found]))]
        rng = np.random.default_rng(seed_of(seed, clip.id))
        left = [label for label in labels if label not in (first, clip.label)]
        drawn = rng.choice(left, min(others, len(left)), replace=False).tolist()
        asked = [first, *drawn]
        prompts = [sentences[label] for label in asked]
        for masks, refine in MASKS.items():
            explained = interpreter.interpret_waveform(
                wav, rate, prompts, refine=refine
            )
            judged += [
                (clip.id, label, kind, masks, one.verdict, float(one.mask.mean()))
                for label, kind, one in zip(
                    asked, [FIRST, *[OTHER] * len(drawn)], explained, strict=True
                )
            ]
    return (
        pd.DataFrame(ranks, columns=["id", "prompt", "present", "presence"]),
        pd.DataFrame(
            judged, columns=["id", "prompt", "kind", "masks", "verdict", "mask_mean"]
        ),
    )


def rates(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Per cent of each verdict, and prompts n, for each kind of prompt and masks."""
    names = list(get_args(Verdict))
    groups = verdicts.groupby(["kind", "masks"], sort=False)
    shares = groups.verdict.value_counts(normalize=True).unstack(fill_value=0)
    table = 100 * shares.reindex(columns=names, fill_value=0)
    return table.assign(n=groups.size()).reindex(groups.size().index).reset_index()


def presence_quantiles(presences: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of the presences of a clip's own label and of all others.

    Columns: present, n, and those of `QUANTILES`. Silence has no presence.
    """
    groups = presences.dropna().groupby("present", sort=True).presence
    table = groups.quantile(list(QUANTILES)).unstack()
    return table.assign(n=groups.size())[["n", *QUANTILES]].reset_index()
