"""Measure whether a decoder deserves trust.

    python recipes/quality.py hparams/quality.yaml --data_folder=ESC50 [--source=DIR]
        [--output_folder=DIR]

Other clips: see recipes/evaluate.py.
Writes quality.json (a figure for each measurement) and a CSV with a row a sample for
each. The measurements are explained in `lmaczs.evaluation.sanity_checks`.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

import json
from pathlib import Path
from typing import Any

from lmaczs.data.esc50 import ESC10
from lmaczs.evaluation import sanity_checks as checks
from lmaczs.evaluation.decoders import load_source
from lmaczs.evaluation.explainers import MAIN, ExplainerSuite
from lmaczs.evaluation.source_mixtures import (
    prompts_of,
    require_two_labels,
    score_source_mixtures,
)
from lmaczs.utils.errors import run_recipe
from lmaczs.utils.files import atomic_write
from lmaczs.utils.options import load_hparams, parse_options
from lmaczs.utils.spreadsheets import write_csv


def main(argv: list[str]) -> dict[str, Any]:
    """Measure, write and return what quality.json holds."""
    hparams_file, run_opts, overrides = parse_options(argv)
    hparams = load_hparams(hparams_file, overrides)
    clips, labels = hparams["test_clips"]()
    require_two_labels(clips, "known sources")
    interpreter = load_source(hparams, run_opts.device)
    clap, decoder = interpreter.clap, interpreter.mods["decoder"]
    template = interpreter.hparams.template
    suite = ExplainerSuite(clap, {MAIN: decoder}, decoder.domain, explainers={})
    prompts = prompts_of(clap, labels, template)
    tables = {
        "presence": checks.presence(clap, decoder, clips, labels, template),
        "known_sources": score_source_mixtures(suite, clips, prompts, hparams["seed"]),
        "silence": checks.silence(clap, labels, template),
        "paraphrases": checks.paraphrase_hits(clap, clips, hparams["paraphrases"]),
    }
    figures = checks.summary(tables, ESC10)
    folder = Path(hparams["output_folder"])
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table)
    figures = {name: round(float(value), 4) for name, value in figures.items()}
    with atomic_write(folder / "quality.json") as part:
        part.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


if __name__ == "__main__":
    run_recipe(main, lambda figures: print(json.dumps(figures, indent=1)))
