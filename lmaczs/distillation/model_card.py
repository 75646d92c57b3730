"""The model card of a CLAP that recipes/train_clap.py trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lmaczs import __version__
from lmaczs.utils.files import atomic_write

ATTRIBUTION = "ATTRIBUTION.csv"
CREDITS = ("id", "license", "title", "author", "url")

CARD = """\
---
library_name: transformers
tags: [audio, clap, zero-shot-audio-classification]
license: apache-2.0
---

# {name}

A small CLAP (`transformers.ClapModel`) for {seconds} s of sound at {rate} Hz, made by
`recipes/train_clap.py` of lmaczs {version}. It lets lmaczs work without a download; use
a CLAP of full size where decisions depend on it.

## Figures

On {test} clips that were in no training (zero-shot, "{template}"):

{figures}

`accuracy_esc10`: ESC-10 clips among ten labels. `accuracy_other`, `top5_other`: the
other clips among all {labels} labels (`_all`: every clip). `true_pair`: mean similarity
of a clip and its text. `silence`: the highest similarity of digital silence to a label.

    {command}

## Data

{data}. The text tower is distilled from all-MiniLM-L6-v2 (Apache-2.0) on names of
sounds and WordNet's glosses{teacher}.

## Limits

It knows its {labels} labels from {train} clips. Other words are understood by their
likeness to those and to what the teachers know. Similarities are lower than those of
public checkpoints and are to be compared with one another only.
"""


def write_clap_card(
    folder: Path,
    figures: Mapping[str, float],
    facts: Mapping[str, object],
    table: pd.DataFrame,
    attribution: str | Path | None = None,
    with_tagger: bool = False,
    composites: int = 0,
) -> Path:
    """Write README.md, and ATTRIBUTION.csv for the clips that were trained on.

    Parameters
    ----------
    folder : Path
        Folder of the checkpoint.
    figures : mapping of str to float
        Measured on the test clips.
    facts : mapping of str to object
        name, seconds, rate, template, data (name of the data set), command.
    table : DataFrame
        id, label, text, split of every clip; label and text are empty for one from an
        unlabelled folder.
    attribution : str or Path, optional
        CSV with filename, license, title, author and url of every labelled clip.
    with_tagger : bool
        Whether an audio tagger's scores were learnt from.
    composites : int
        Number of sounds made of the clips whose embedding by the tagger was learnt.

    Returns
    -------
    Path
        README.md.

    Raises
    ------
    ValueError
        If a labelled clip that was trained on is not in the attribution file.
    """
    texts = table.text.where(table.text != "", table.label)
    train = table.split == "train"
    used = table[train & (texts != "")]
    if attribution is not None:
        with atomic_write(folder / ATTRIBUTION) as part:
            credits_of(used, attribution).to_csv(part, index=False)
    lines = [f"- {key}: {value:.3f}" for key, value in figures.items()]
    teacher = "; the audio tower also learnt YAMNet's scores (Apache-2.0)"
    if composites:
        teacher += f", and its embeddings of {composites} sounds made of those clips"
    data = _data_line(facts["data"], len(used), attribution)
    data += _unlabelled_line(int((train & (texts == "")).sum()))
    text = CARD.format(
        **{**facts, "data": data},
        version=__version__,
        figures="\n".join(lines),
        test=int((table.split == "test").sum()),
        train=len(used),
        labels=texts[texts != ""].nunique(),
        teacher=teacher if with_tagger else "",
    )
    with atomic_write(folder / "README.md") as part:
        part.write_text(text, encoding="utf-8")
    return folder / "README.md"


def _data_line(data: object, clips: int, attribution: str | Path | None) -> str:
    credited = "" if attribution is None else f", each credited in `{ATTRIBUTION}`"
    return f"{clips} clips of {data}{credited}"


def _unlabelled_line(clips: int) -> str:
    if not clips:
        return ""
    return f", and {clips} recordings without labels, which are not credited here"


def credits_of(clips: pd.DataFrame, attribution: str | Path) -> pd.DataFrame:
    """Licence, title, author and address of each clip.

    Parameters
    ----------
    clips : DataFrame
        With the column id.
    attribution : str or Path
        CSV with filename, license, title, author and url.

    Returns
    -------
    DataFrame
        The columns of `CREDITS`, a row a clip.

    Raises
    ------
    ValueError
        If a clip is not in the file.
    """
    known = pd.read_csv(attribution)
    known["id"] = known.filename.str.removesuffix(".wav")
    credited = clips[["id"]].merge(known, on="id", how="left")
    unknown = credited[credited.license.isna()]
    if len(unknown):
        raise ValueError(
            f"attribution: {attribution} says nothing of {len(unknown)} clips, the "
            f"first is {unknown.id.iloc[0]}"
        )
    return credited[list(CREDITS)]
