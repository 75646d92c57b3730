"""How often each verdict is given, and how high presences are, on labelled clips.

    python recipes/verdicts.py hparams/quality.yaml --data_folder=ESC50 [--source=DIR]
        [--output_folder=DIR]

Other clips: see recipes/evaluate.py. Prints and writes rates.csv and quantiles.csv;
presences.csv and verdicts.csv have a row for each clip and prompt. See
`lmaczs.evaluation.verdict_rates`.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

from pathlib import Path

import pandas as pd

from lmaczs.evaluation import verdict_rates
from lmaczs.evaluation.decoders import load_source
from lmaczs.utils.errors import run_recipe
from lmaczs.utils.options import load_hparams, parse_options
from lmaczs.utils.spreadsheets import write_csv


def main(argv: list[str]) -> dict[str, pd.DataFrame]:
    """Measure, write and return the tables."""
    hparams_file, run_opts, overrides = parse_options(argv)
    hparams = load_hparams(hparams_file, overrides)
    clips, labels = hparams["test_clips"]()
    interpreter = load_source(hparams, run_opts.device)
    presences, verdicts = verdict_rates.verdicts(
        interpreter, clips, labels, seed=hparams["seed"]
    )
    tables = {
        "presences": presences,
        "verdicts": verdicts,
        "quantiles": verdict_rates.presence_quantiles(presences),
        "rates": verdict_rates.rates(verdicts),
    }
    for name, table in tables.items():
        write_csv(Path(hparams["output_folder"], f"{name}.csv"), table)
    return tables


def show(tables: dict[str, pd.DataFrame]) -> None:
    """Print what is made of the rows."""
    for name in ("quantiles", "rates"):
        print(tables[name].round(3).to_string(index=False))


if __name__ == "__main__":
    run_recipe(main, show)
