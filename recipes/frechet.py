"""Frechet audio distance between sets of clips, by CLAP's embeddings.

    python recipes/frechet.py hparams/frechet.yaml
        --sets="{ESC-50: ESC50/audio, mine: FILE.csv}" [--output_folder=DIR]

Writes frechet.csv: a row for every two sets. Table 5 of the LMAC-ZS paper has the
distances of training sets to a test set: the farther, the worse the explanations.
Distances of few clips are too large (`lmaczs.metrics.frechet`): --max_clips=N takes as
many of each set.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lmaczs.clap import FrozenClap
from lmaczs.data.clip_sets import clips_of
from lmaczs.data.lists import require_audio
from lmaczs.evaluation.embeddings import embed_clips, frechet_table
from lmaczs.utils.errors import InputError, run_recipe
from lmaczs.utils.options import load_hparams, parse_options
from lmaczs.utils.spreadsheets import write_csv


def main(argv: list[str]) -> pd.DataFrame:
    """Embed all sets, write the table of their distances and return it."""
    hparams_file, run_opts, overrides = parse_options(argv)
    hparams = load_hparams(hparams_file, overrides)
    tables = read_sets(hparams["sets"], hparams["max_clips"], hparams["seed"])
    clap = FrozenClap.from_pretrained(
        hparams["clap_source"], trust_remote_code=hparams["trust_remote_code"]
    )
    clap.to(run_opts.device or "cpu")
    embedded = {
        name: embed_clips(clap, clips, hparams["batch_size"])
        for name, clips in tables.items()
    }
    found = frechet_table(embedded, hparams["seed"])
    write_csv(Path(hparams["output_folder"]) / "frechet.csv", found)
    return found


def read_sets(sets: Any, max_clips: int | None, seed: int) -> dict[str, pd.DataFrame]:
    """Tables of the clips of each set.

    Parameters
    ----------
    sets : mapping of str to str or mapping
        See `lmaczs.data.clip_sets.clips_of`.
    max_clips : int or None
        Of larger sets so many clips are drawn.
    seed : int
        Seed of the draw.

    Returns
    -------
    dict of str to DataFrame

    Raises
    ------
    InputError
        If there are fewer than two sets, or a set has fewer than two clips.
    """
    if not isinstance(sets, Mapping) or len(sets) < 2:
        raise InputError(
            'sets names fewer than two: write --sets="{NAME: FOLDER, NAME: FILE.csv}"'
        )
    found = {}
    for name, place in sets.items():
        clips = clips_of(place)
        if max_clips is not None and len(clips) > max_clips:
            clips = clips.sample(max_clips, random_state=seed).reset_index(drop=True)
        if len(clips) < 2:
            raise InputError(f"set {name} has one clip: a distance needs two at least")
        require_audio(clips.path)
        found[str(name)] = clips
    return found


if __name__ == "__main__":
    run_recipe(main, lambda table: print(table.round(4).to_string(index=False)))
