r"""Fine-tune a decoder on classes that it was not trained on; the gain for each.

    python recipes/train.py hparams/esc50.yaml --data_folder=ESC50 \
        --leave_out="[dog, rain]" --output_folder=results/without
    lmaczs export results/without without
    python recipes/leave_one_out.py --data_folder=ESC50 --source=without \
        --labels dog rain

Each label is trained on its own clips alone (hparams/finetune.yaml), with all labels as
prompts, and tested on its clips of the split test, among all classes. Other options are
passed to recipes/train.py. An interrupted run resumes with the same command.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from lmaczs.data.build import read_splits
from lmaczs.data.splits import Splits
from lmaczs.metrics.faithfulness import MEANINGS, METRICS
from lmaczs.metrics.metric import legend
from lmaczs.utils.errors import InputError, run_recipe
from lmaczs.utils.files import atomic_write
from lmaczs.utils.spreadsheets import unescaped_csv_text, write_csv

ROOT = Path(__file__).resolve().parents[1]


def main(argv: list[str]) -> pd.DataFrame:
    """Fine-tune on each label: metrics before and after, a row a label and stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_folder", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--labels", nargs="+", required=True)
    parser.add_argument("--output_folder", type=Path, default="results/leave_one_out")
    args, options = parser.parse_known_args(argv)
    splits = read_splits(args.data_folder)
    if unknown := sorted(set(args.labels) - set(splits.labels)):
        raise InputError(f"--labels names {unknown}, which ESC-50 does not have")
    options = [f"--source={args.source}", *options]
    rows = [
        row
        for label in args.labels
        for row in fine_tune(splits, label, args.output_folder, options)
    ]
    table = pd.DataFrame(rows)
    write_csv(args.output_folder / "leave_one_out.csv", table)
    return table


def fine_tune(
    splits: Splits, label: str, folder: Path, options: list[str]
) -> list[dict[str, str | float]]:
    """Fine-tune on one label's clips.

    Parameters
    ----------
    splits : Splits
        Of the whole set.
    label : str
        What is learnt.
    folder : Path
        Where to write.
    options : list of str
        For `recipes/train.py`.

    Returns
    -------
    list of dict
        Rows of the table, before and after.
    """
    out = folder / label.replace(" ", "_")
    manifest = out.with_suffix(".csv")
    tables = (splits.train, splits.valid, splits.test)
    clips = pd.concat(tables).query("label == @label")
    with atomic_write(manifest) as part:
        text = unescaped_csv_text(clips[["path", "label", "split"]])
        part.write_text(text, encoding="utf-8")
    others = json.dumps([other for other in splits.labels if other != label])
    recipe = [
        str(ROOT / name) for name in ("recipes/train.py", "hparams/finetune.yaml")
    ]
    ours = [f"--manifest={manifest}", f"--extra_labels={others}"]
    out_folder = f"--output_folder={out}"
    subprocess.run([sys.executable, *recipe, *ours, out_folder, *options], check=True)
    count = {"label": label, "clips": int((clips.split == "test").sum())}
    stages = {"before": "before.json", "after": "test.json"}
    found = {
        stage: json.loads((out / name).read_text()) for stage, name in stages.items()
    }
    names = [*METRICS, "MM_absent"]
    return [
        {**count, "stage": stage, **{name: figures[name] for name in names}}
        for stage, figures in found.items()
    ]


def show(table: pd.DataFrame) -> None:
    """Print the table and what its columns mean."""
    print(table.round(3).to_string(index=False))
    print(f"\nMeans over `clips` clips of the split test. {legend(MEANINGS, table)}.")


if __name__ == "__main__":
    try:
        run_recipe(main, show)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
