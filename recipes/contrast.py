"""What a contrast is worth, in sums of two clips that the model recognises both.

    python recipes/contrast.py hparams/quality.yaml --data_folder=ESC50 [--source=DIR]
        [--sums=20] [--output_folder=DIR]

Other clips: see recipes/evaluate.py. Prints and writes summary.csv; sums.csv has a row
for each label of a sum and kind of masks. See `lmaczs.evaluation.contrasts`.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

from pathlib import Path

import pandas as pd

from lmaczs.evaluation.contrasts import (
    contrast_rows,
    contrast_summary,
    recognised_sums,
)
from lmaczs.evaluation.decoders import load_source
from lmaczs.utils.errors import InputError, run_recipe
from lmaczs.utils.options import load_hparams, parse_options
from lmaczs.utils.spreadsheets import write_csv


def main(argv: list[str]) -> dict[str, pd.DataFrame]:
    """Measure, write and return the tables."""
    hparams_file, run_opts, overrides = parse_options(argv)
    hparams = load_hparams(hparams_file, overrides)
    clips, labels = hparams["test_clips"]()
    interpreter = load_source(hparams, run_opts.device)
    sums = recognised_sums(interpreter, clips, labels, hparams["seed"])
    rows = contrast_rows(interpreter, sums, hparams["sums"])
    if rows.empty:
        raise InputError(
            "the model recognises both clips in no sum of these: try others"
        )
    tables = {"sums": rows, "summary": contrast_summary(rows)}
    for name, table in tables.items():
        write_csv(Path(hparams["output_folder"], f"{name}.csv"), table)
    return tables


def show(tables: dict[str, pd.DataFrame]) -> None:
    """Print what is made of the rows."""
    print(tables["summary"].round(3).to_string(index=False))


if __name__ == "__main__":
    run_recipe(main, show)
