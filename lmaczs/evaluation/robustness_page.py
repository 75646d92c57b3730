"""Tables of robustness.md: whether masks are explanations or attacks on the model."""

from __future__ import annotations

import pandas as pd

from lmaczs.evaluation.explainers import KEEP_ALL
from lmaczs.evaluation.robustness import FIRST, LEAST_SCORE, TRANSFORMS
from lmaczs.evaluation.tables import heading, printed
from lmaczs.metrics.faithfulness import METRICS
from lmaczs.report import markdown

HELD = ("AI", "AD", "FF", "Fid-In")
PARTS = ("input", "kept", "left")


def robustness_page(
    scores: pd.DataFrame, tagged: pd.DataFrame | None, randomised: pd.DataFrame, of: str
) -> str:
    """Markdown of what recipes/robustness.py measured on clips of a set.

    `scores`, `tagged` and `randomised` are from `score_transforms`, `score_by_tagger`
    (None: there was no tagger) and `randomised_table`; `of` is the set's name.
    """
    clips = scores.id.nunique()
    *names, last = TRANSFORMS
    parts = [
        f"# Is it an explanation or an attack? {of}\n",
        f"{clips} clips, each with the prompt of the class that the CLAP predicts, by "
        "recipes/robustness.py. A mask that exploits the model, and shows no sound, "
        "works on the very clip and for the very weights that it was made for. n is "
        "the number of clips: slow methods have fewer.\n",
        "### The same mask on a changed clip\n",
        transforms_table(scores),
        "The mask of the clip as it is, applied to a changed clip. Each cell has four "
        f"means: {', '.join(names)} and {last} (white). The class stays that of the "
        "clip as it is, and its probabilities on what the mask keeps and leaves out of "
        "the changed clip are compared with that on the changed clip. AI: how often "
        "it is higher under the mask, %; AD: what is lost under the mask, %; FF: what "
        "is lost on the rest; Fid-In: how often the class is the predicted one under "
        f"the mask ({KEEP_ALL}: how often it survives the change alone); MM: mean of "
        "the mask.\n",
        "### What another model recognises\n",
        *_tagger_part(tagged, clips),
        "### The same method on a random model\n",
        randomised_markdown(randomised),
        "How similar a clip's mask is to the one that the method makes where the top "
        "stage, or all, of the audio encoder has random weights. Overlap is "
        "intersection over union: two unrelated masks that keep a fraction m of the "
        "cells have about m / (2 - m), so compare it with MM. SSIM is high where "
        "both masks are empty: in brackets that with an empty mask. An explanation "
        "of a model changes with it. "
        f"{KEEP_ALL} does not depend on the model, and energy on it through the area "
        "of the decoder's masks alone.\n",
    ]
    return "\n".join(parts)


def _tagger_part(tagged: pd.DataFrame | None, clips: int) -> list[str]:
    if tagged is None:
        return ["Not measured: no tagger was given.\n"]
    if tagged.empty:
        return ["Not measured: AudioSet has no class for the label of any prompt.\n"]
    return [
        tagger_markdown(tagged),
        "YAMNet, which was trained on AudioSet, listens to the clip, to what a mask "
        "keeps of it and to what it leaves out. It recognises a prompt if the class of "
        f"AudioSet that belongs to its label is among its first {FIRST} of 521, "
        f"with a score of {LEAST_SCORE} or more. "
        f"{clips - tagged.id.nunique()} of the {clips} clips are left out, for whose "
        "label there is no such class. The other columns are of the clips whose prompt "
        "it recognises in the input: in how many, in %, it does in what is kept, in "
        "what is left, and in what is kept but not in what is left; and the class's "
        f"mean score. {KEEP_ALL} passes this test: read it together with MM.\n",
    ]


def transforms_table(scores: pd.DataFrame) -> str:
    """Methods against metrics; a cell has the means for each transform."""
    means = scores.groupby(["method", "transform"], sort=False)[list(HELD)].mean()
    rows = []
    for method, own in scores.groupby("method", sort=False):
        cells = [str(method), str(own.id.nunique()), printed(own.MM.mean(), 2)]
        for name in HELD:
            values = [float(means.loc[(method, one), name]) for one in TRANSFORMS]
            cells.append(
                " · ".join(printed(value, METRICS[name].digits) for value in values)
            )
        rows.append(cells)
    header = [heading(METRICS[name]) for name in HELD]
    return markdown.table(["method", "n", "MM", *header], rows)


def tagger_markdown(tagged: pd.DataFrame) -> str:
    """Methods against how often, and how much, a tagger recognises the class."""
    rows = []
    for method, own in tagged.groupby("method", sort=False):
        there = own[recognised(own, "input")]
        kept, left = recognised(there, "kept"), recognised(there, "left")
        cells = [str(method), f"{len(there)} of {len(own)}"]
        for share in (kept, left, kept & ~left):
            cells.append(printed(100 * float(share.mean()), 0) if len(there) else "")
        for part in PARTS:
            mean = float(there[f"score_{part}"].mean())
            cells.append(printed(mean, 2) if len(there) else "")
        rows.append(cells)
    header = ["recognised", "kept ↑", "left ↓", "kept, not left ↑"]
    scores = ["score: input", "kept ↑", "left ↓"]
    return markdown.table(["method", *header, *scores], rows)


def recognised(tagged: pd.DataFrame, part: str) -> pd.Series:
    """Whether the tagger recognises the class in the input, kept or left sound."""
    score, rank = tagged[f"score_{part}"], tagged[f"rank_{part}"]
    return (rank <= FIRST) & (score >= LEAST_SCORE)


def randomised_markdown(table: pd.DataFrame) -> str:
    """Methods against the similarity of their masks to those of random models."""
    columns = ["overlap", "ssim", "empty"]
    means = table.groupby(["method", "stage"], sort=False)[columns].mean()
    rows = []
    for method, own in table.groupby("method", sort=False):
        top, every = means.loc[(method, "top")], means.loc[(method, "all")]
        cells = [printed(float(one.overlap), 2) for one in (top, every)]
        cells += [printed(float(one.ssim), 2) for one in (top, every)]
        cells[-1] += f" ({printed(float(every['empty']), 2)})"
        rows.append([str(method), str(own.id.nunique()), *cells])
    header = ["overlap: top stage ↓", "all ↓", "SSIM: top stage ↓", "all ↓"]
    return markdown.table(["method", "n", *header], rows)
