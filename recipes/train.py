"""Train a mask decoder for a CLAP checkpoint: LMAC-ZS, LMAC-ZS+ (ours) or L-MAC.

    python recipes/train.py hparams/esc50.yaml --data_folder=ESC50
    python recipes/train.py hparams/esc50_lmac.yaml --data_folder=ESC50
    python recipes/train.py hparams/captions.yaml --manifest=FILE.csv
    python recipes/train.py hparams/paper.yaml --manifest=FILE.csv
    python recipes/train.py hparams/finetune.yaml --manifest=FILE.csv [--source=DIR]

A run that was killed, even in mid-epoch, resumes when the same line is given again.
Another run needs another --output_folder, or --resume-anyway. `lmaczs export
OUTPUT_FOLDER DEST` makes a folder that `ZeroShotInterpreter.from_hparams` loads.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

import json
import os

import speechbrain as sb

from lmaczs.training.distributed import join_group, run_together
from lmaczs.training.finetuning import comparison
from lmaczs.training.run import make_brain, train
from lmaczs.utils.errors import run_recipe
from lmaczs.utils.options import parse_options


def main(argv: list[str]) -> dict[str, float]:
    """Train, test the best checkpoint and return the metrics of the test split."""
    hparams_file, run_opts, overrides = parse_options(argv)
    done = train(hparams_file, join_group(run_opts), overrides, make_brain)
    if done.before and sb.utils.distributed.if_main_process():
        print(comparison(done.before, done.after, len(done.data["test"])))
    return done.after


def show(metrics: dict[str, float]) -> None:
    """Print the metrics once, whatever the number of processes."""
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(metrics, indent=1))


if __name__ == "__main__":
    run_recipe(lambda argv: run_together(main, argv), show)
