"""Is it an explanation or an attack on the model? A table for every method.

    python recipes/robustness.py hparams/robustness.yaml --data_folder=ESC50
        [--tagger_model=F --tagger_class_map=F] [--source=DIR] [--clips=24]
        [--output_folder=DIR]

Other clips: see recipes/evaluate.py.

Needs the extra eval, and distill for a tagger: pip install -e ".[eval,distill]".
Measures whether the mask of a clip works on the clip 10 ms later, 6 dB louder and with
noise at 30 dB (robustness.csv, a row a clip, method and transform); whether the tagger,
YAMNet, recognises the prompt's class in what is kept and not in what is left out
(tagged.csv, a row a clip and method); and whether the method's mask changes for a model
with random weights (randomised.csv, a row a clip, method and stage). robustness.md has
the tables; recipes/results_page.py takes it from the folder.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch.utils.data import default_collate
from tqdm import tqdm

from lmaczs.distillation.yamnet import open_tagger
from lmaczs.evaluation.conditions import ContaminatedClips
from lmaczs.evaluation.decoders import load_source
from lmaczs.evaluation.explainers import MAIN, ExplainerSuite, chosen
from lmaczs.evaluation.facts import tested_set
from lmaczs.evaluation.results_page import NAMES
from lmaczs.evaluation.robustness import (
    explain_clips,
    randomised_table,
    score_by_tagger,
    score_transforms,
)
from lmaczs.evaluation.robustness_page import robustness_page
from lmaczs.evaluation.source_mixtures import prompts_of
from lmaczs.utils.errors import InputError, run_recipe
from lmaczs.utils.extras import EVALUATION, require_packages
from lmaczs.utils.files import atomic_write
from lmaczs.utils.options import load_hparams, parse_options
from lmaczs.utils.spreadsheets import write_csv

logger = logging.getLogger(__name__)


def main(argv: list[str]) -> str:
    """Measure, write the tables and return robustness.md."""
    hparams_file, run_opts, overrides = parse_options(argv)
    require_packages(EVALUATION, "eval")
    hparams = load_hparams(hparams_file, overrides)
    for name in ("clips", "slow_clips", "randomisation_clips", "batch_size"):
        if hparams[name] < 1:
            raise InputError(f"--{name}={hparams[name]}: give one or more")
    rest = chosen([name for name in hparams["methods"] if name != MAIN], "methods")
    tagger = open_tagger(hparams["tagger_model"], hparams["tagger_class_map"])
    clips, labels = hparams["test_clips"]()
    if tagger is None:
        logger.warning(
            "No other model judges the masks: give --tagger_model and "
            "--tagger_class_map"
        )
    interpreter = load_source(hparams, run_opts.device)
    clap, decoder = interpreter.clap, interpreter.mods["decoder"]
    suite = ExplainerSuite(clap, {MAIN: decoder}, hparams["domain"], rest)
    prompts = prompts_of(clap, labels, interpreter.hparams.template)
    data = ContaminatedClips(clips, clap.front_end, "clean")
    rows = evenly_spaced(range(len(data)), hparams["clips"])
    slow_rows = evenly_spaced(rows, hparams["slow_clips"])
    slow = [n for n, m in suite.methods.items() if m.passes > hparams["slow_passes"]]
    scores, tagged, size = [], [], hparams["batch_size"]
    for start in tqdm(range(0, len(rows), size), desc="masks", unit="batch"):
        some = rows[start : start + size]
        batch = default_collate([data[row] for row in some])
        own = [place for place, row in enumerate(some) if row in slow_rows]
        found = explain_clips(
            suite, prompts, batch, hparams["seed"], dict.fromkeys(slow, own)
        )
        scores.append(score_transforms(found, prompts, hparams["seed"]))
        if tagger is not None:
            tagged.append(score_by_tagger(found, tagger))
    some = evenly_spaced(rows, hparams["randomisation_clips"])
    batch = default_collate([data[row] for row in some])
    tables = {
        "robustness": by_method(scores, suite),
        "tagged": by_method(tagged, suite) if tagged else None,
        "randomised": randomised_table(suite, prompts, batch, hparams["seed"]),
    }
    return write(hparams, tables)


def evenly_spaced(rows: Sequence[int], count: int) -> list[int]:
    """At most `count` of some rows, the first one among them."""
    count = min(count, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]


def by_method(parts: Sequence[pd.DataFrame], suite: ExplainerSuite) -> pd.DataFrame:
    """Rows of several batches, by method in the order of the tables."""
    places = {name: place for place, name in enumerate(suite.names)}
    table = pd.concat(parts, ignore_index=True)
    if table.empty:
        return table
    order = table.method.map(places).sort_values(kind="stable").index
    return table.loc[order].reset_index(drop=True)


def write(hparams: dict[str, Any], tables: dict[str, pd.DataFrame | None]) -> str:
    """Write the CSV files and robustness.md, and return the latter."""
    folder, tested = Path(hparams["output_folder"]), tested_set(hparams)
    for name, table in tables.items():
        if table is None:  # of an earlier call with a tagger
            (folder / f"{name}.csv").unlink(missing_ok=True)
            continue
        write_csv(folder / f"{name}.csv", table)
    page = robustness_page(*tables.values(), of=NAMES.get(tested, tested))
    with atomic_write(folder / "robustness.md") as part:
        part.write_text(page, encoding="utf-8")
    return page


if __name__ == "__main__":
    run_recipe(main, print)
