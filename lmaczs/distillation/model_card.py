"""The model card of a CLAP that recipes/train_clap.py trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lmaczs import __version__
from lmaczs.utils.errors import InputError
from lmaczs.utils.files import atomic_write

ATTRIBUTION = "ATTRIBUTION.csv"
CREDITS = ("id", "license", "title", "author", "url")
TASK = "zero-shot-audio-classification"
ACCURACIES = ("accuracy", "top5")

CARD = """\
---
{{ card_data }}
---

# {{ name }}

A small CLAP (`transformers.ClapModel`) for {{ seconds }} s of sound at {{ rate }} Hz,
made by `recipes/train_clap.py` of lmaczs {{ version }}. It lets lmaczs work without a
download; use a CLAP of full size where decisions depend on it.

## Figures

On {{ test }} clips that were in no training (zero-shot, "{{ template }}"):

{% for key, value in metrics.items() -%}
- {{ key }}: {{ "%.3f" | format(value) }}
{% endfor %}
`accuracy_esc10`: ESC-10 clips among ten labels. `accuracy_other`, `top5_other`: the
other clips among all {{ labels }} labels (`_all`: every clip). `true_pair`: mean
similarity of a clip and its text. `silence`: the highest similarity of digital
silence to a label.

    {{ command }}

## Data

{{ clips }} clips of {{ data }}
{%- if credited %}, each credited in `{{ credited }}`{% endif %}
{%- if unlabelled -%}
, and {{ unlabelled }} recordings without labels, which are not credited here
{%- endif %}.
The text tower is distilled from all-MiniLM-L6-v2 (Apache-2.0) on names of sounds and
WordNet's glosses
{%- if with_tagger -%}
; the audio tower also learnt YAMNet's scores (Apache-2.0)
{%- if composites %}, and its embeddings of {{ composites }} sounds made of those clips
{%- endif %}{% endif %}.

## Limits

It knows its {{ labels }} labels from {{ clips }} clips. Other words are understood by
their likeness to those and to what the teachers know. Similarities are lower than
those of public checkpoints and are to be compared with one another only.
"""


def write_clap_card(
    folder: Path,
    metrics: Mapping[str, float],
    facts: Mapping[str, Any],
    table: pd.DataFrame,
    attribution: str | Path | None = None,
    with_tagger: bool = False,
    composites: int = 0,
) -> Path:
    """Write README.md, and ATTRIBUTION.csv for the labelled clips that were trained on.

    `facts` has name, seconds, rate, template, data (the data set's name) and command;
    `table` id, label, text and split of every clip, trained on or not. `attribution` is
    a CSV file with filename, license, title, author and url of every labelled clip;
    `composites` the number of sounds that were made of them.
    """
    texts = table.text.where(table.text != "", table.label)
    train = table.split == "train"
    used = table[train & (texts != "")]
    if attribution is not None:
        with atomic_write(folder / ATTRIBUTION) as part:
            credits_of(used, attribution).to_csv(part, index=False)
    card = ModelCard.from_template(
        _card_data(metrics, facts),
        template_str=CARD,
        **facts,
        version=__version__,
        metrics=metrics,
        test=int((table.split == "test").sum()),
        clips=len(used),
        labels=texts[texts != ""].nunique(),
        credited=ATTRIBUTION if attribution else None,
        unlabelled=int((train & (texts == "")).sum()),
        with_tagger=with_tagger,
        composites=composites,
    )
    with atomic_write(folder / "README.md") as part:
        card.save(part)
    return folder / "README.md"


def _card_data(metrics: Mapping[str, float], facts: Mapping[str, Any]) -> ModelCardData:
    """Metadata for the Hub, accuracies included."""
    name, data = str(facts["name"]), str(facts["data"])
    results = [
        EvalResult(TASK, data, data, key.partition("_")[0], value, metric_name=key)
        for key, value in metrics.items()
        if key.startswith(ACCURACIES)
    ]
    return ModelCardData(
        library_name="transformers",
        tags=["audio", "clap", TASK],
        license="apache-2.0",
        model_name=name if results else None,
        eval_results=results or None,
    )


def credits_of(clips: pd.DataFrame, attribution: str | Path) -> pd.DataFrame:
    """The columns `CREDITS` of each clip, from a CSV file that has to list them all."""
    known = pd.read_csv(attribution)
    known["id"] = known.filename.str.removesuffix(".wav")
    credited = clips[["id"]].merge(known, on="id", how="left")
    unknown = credited[credited.license.isna()]
    if len(unknown):
        raise InputError(
            f"attribution: {attribution} lacks {len(unknown)} clips, the first is "
            f"{unknown.id.iloc[0]}: add their rows"
        )
    return credited[list(CREDITS)]
