"""The model card of a CLAP that recipes/train_clap.py trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lmaczs import __version__
from lmaczs.files import written_whole

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
`recipes/train_clap.py` of lmaczs {version} so that lmaczs works without a download. It
is a demonstration: use a CLAP of full size where decisions depend on it.

## Figures

On {test} clips that were in no training (zero-shot, "{template}"):

{figures}

`accuracy_esc10`: ESC-10 clips among ten labels. `accuracy_other`, `top5_other`: the
other clips among all {labels} labels. `true_pair`: mean similarity of a clip and its
label. `silence`: the highest similarity of digital silence to a label.

    python recipes/train_clap.py hparams/clap_small.yaml --data_folder=ESC50{tagger}

## Data

{train} clips of ESC-50 (Piczak, 2015){credits}. The text tower is distilled from
all-MiniLM-L6-v2 (Apache-2.0) on names of sounds and WordNet's glosses{teacher}.

## Limits

It knows the fifty classes of ESC-50 from a few hundred clips, half of them of ten
classes. Other words are understood by their likeness to those. Similarities are
lower than those of public checkpoints and are to be compared with one another only.
"""


def write_clap_card(
    folder: Path,
    figures: Mapping[str, float],
    facts: Mapping[str, object],
    table: pd.DataFrame,
    attribution: str | Path | None = None,
    with_tagger: bool = False,
) -> Path:
    """Write README.md, and ATTRIBUTION.csv for the clips that were trained on.

    Parameters
    ----------
    folder : Path
        Folder of the checkpoint.
    figures : mapping of str to float
        Measured on the test clips.
    facts : mapping of str to object
        name, seconds, rate, template.
    table : DataFrame
        id, label, split of every clip.
    attribution : str or Path, optional
        CSV with filename, license, title, author and url of every clip.
    with_tagger : bool
        Whether an audio tagger's scores were learnt from.

    Returns
    -------
    Path
        README.md.

    Raises
    ------
    ValueError
        If a clip that was trained on is not in the attribution file.
    """
    used = table[table.split == "train"]
    if attribution is not None:
        with written_whole(folder / ATTRIBUTION) as part:
            credits_of(used, attribution).to_csv(part, index=False)
    lines = [f"- {key}: {value:.3f}" for key, value in figures.items()]
    teacher = "; the audio tower also learnt YAMNet's scores (Apache-2.0)"
    text = CARD.format(
        **facts,
        version=__version__,
        figures="\n".join(lines),
        test=int((table.split == "test").sum()),
        train=len(used),
        labels=table.label.nunique(),
        credits="" if attribution is None else f", each credited in `{ATTRIBUTION}`",
        tagger=" --tagger_model=F --tagger_class_map=F" if with_tagger else "",
        teacher=teacher if with_tagger else "",
    )
    with written_whole(folder / "README.md") as part:
        part.write_text(text, encoding="utf-8")
    return folder / "README.md"


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
