"""Results of classes that a decoder was not trained on, beside those of the others."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from lmaczs.evaluation import tables
from lmaczs.evaluation.explainers import EXPLAINERS
from lmaczs.metrics.faithfulness import METRICS
from lmaczs.utils.errors import InputError, nearest

LEFT_OUT, TRAINED = "left out", "trained on"
NOTE = (
    "The decoder was trained without the classes that are left out; the CLAP that it "
    "explains need not have been.\n"
)


def require_labels(left_out: Sequence[str], labels: Collection[str]) -> None:
    """Raise an InputError for a label that is none of the classes."""
    for label in left_out:
        if label not in labels:
            raise InputError(
                f"left_out names {label!r}, which is no label of the clips"
                f"{nearest(label, labels)}"
            )


def with_classes(
    per_clip: pd.DataFrame, clips: pd.DataFrame, left_out: Collection[str]
) -> pd.DataFrame:
    """Rows of per_clip.csv with label, and classes: `LEFT_OUT` or `TRAINED`.

    `clips` has id and label.
    """
    labels = per_clip.id.map(dict(zip(clips.id, clips.label, strict=True)))
    classes = labels.isin(list(left_out)).map({True: LEFT_OUT, False: TRAINED})
    return per_clip.assign(label=labels, classes=classes)


def left_out_results(
    per_clip: pd.DataFrame, clips: pd.DataFrame, left_out: Collection[str]
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Table left_out and the section about it, by name; nothing without such classes.

    Arguments as of `with_classes`.
    """
    if not left_out:
        return {}, {}
    rows = with_classes(per_clip, clips, left_out)
    heading = "Classes that the decoder was not trained on"
    return {"left_out": left_out_table(rows)}, {heading: left_out_section(rows)}


def left_out_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over the clips of left-out and of other classes, in rows of `with_classes`.

    Columns: condition, method, classes, n, then the metrics.
    """
    groups = rows.groupby(["condition", "method", "classes"], sort=False)
    means = groups[list(METRICS)].mean()
    means.insert(0, "n", groups.size())
    return means.reset_index()


def left_out_section(rows: pd.DataFrame) -> str:
    """Markdown of rows of `with_classes`: decoders, and methods that need no model.

    Two tables for each condition. left_out.csv has every method.
    """
    shown = [
        name
        for name in rows.method.unique()
        if name not in EXPLAINERS or EXPLAINERS[name].passes == 0
    ]
    rows, parts = rows[rows.method.isin(shown)], []
    for (condition, classes), group in rows.groupby(
        ["condition", "classes"], sort=False
    ):
        counts = group.drop_duplicates("id").label.value_counts().sort_index()
        named = ", ".join(f"{label} {count}" for label, count in counts.items())
        clips = f"{counts.sum()} clips of {len(counts)} classes"
        listed = f" ({named})" if classes == LEFT_OUT else ""
        parts.append(f"**{condition}, classes {classes}**: {clips}{listed}\n")
        parts.append(tables.markdown_table(group, tables.printed_metrics()[:-1]))
    return "\n".join([*parts, NOTE])
