"""Score a decoder: faithfulness, sparseness, and what chance would give.

    python recipes/evaluate.py hparams/evaluate.yaml --source=DIR --data_folder=ESC50
        --output_folder=DIR [--esc10_only=True]

Writes results.csv (a row a method) and per_clip.csv (a row a clip and method).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml
from torch.utils.data import DataLoader

from lmaczs import ZeroShotInterpreter
from lmaczs.datasets import ESC10
from lmaczs.evaluation import evaluate, summarise
from lmaczs.files import written_whole
from lmaczs.prompted_clips import PromptedClips, collate


def main(argv: list[str]) -> pd.DataFrame:
    """Evaluate and write the tables.

    Parameters
    ----------
    argv : list of str
        Command line without the program's name.

    Returns
    -------
    DataFrame
        results.csv.
    """
    hparams_file, run_opts, overrides = sb.parse_arguments(argv)
    with open(hparams_file) as file:
        hparams = load_hyperpyyaml(file, overrides)
    interpreter = ZeroShotInterpreter.from_hparams(hparams["source"])
    template = interpreter.hparams.template
    table, labels = hparams["splits"].test, hparams["splits"].labels
    if hparams["esc10_only"]:
        table, labels = table[table.esc10], sorted(ESC10)
    data = PromptedClips(table, interpreter.clap.front_end, [template], train=False)
    per_clip = evaluate(
        interpreter.clap,
        interpreter.mods["decoder"],
        DataLoader(data, hparams["batch_size"], collate_fn=collate),
        labels,
        template,
        hparams["seed"],
        hparams["domain"],
    )
    results = summarise(per_clip, "clean")
    folder = Path(hparams["output_folder"])
    for name, frame in (("results", results), ("per_clip", per_clip)):
        with written_whole(folder / f"{name}.csv") as part:
            frame.to_csv(part, index=False)
    return results


if __name__ == "__main__":
    print(main(sys.argv[1:]).round(3).to_string(index=False))
