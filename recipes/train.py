"""Train a mask decoder for a CLAP checkpoint: LMAC-ZS, or L-MAC.

    python recipes/train.py hparams/esc50.yaml --data_folder=ESC50

A run that was killed, even in mid-epoch, goes on when the same line is given again.
`lmaczs export OUTPUT_FOLDER DEST` makes a folder that
`ZeroShotInterpreter.from_hparams` loads.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml

from lmaczs.brain import InterpreterBrain
from lmaczs.export import write_run_card
from lmaczs.files import written_whole
from lmaczs.prompted_clips import collate


def main(argv: list[str]) -> dict[str, float]:
    """Train, then test the best checkpoint.

    Parameters
    ----------
    argv : list of str
        Command line without the program's name.

    Returns
    -------
    dict
        Metrics on the test split.
    """
    hparams_file, run_opts, overrides = sb.parse_arguments(argv)
    sb.utils.distributed.ddp_init_group(run_opts)
    with open(hparams_file) as file:
        hparams = load_hyperpyyaml(file, overrides)
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    if hparams["num_threads"] is not None:
        torch.set_num_threads(hparams["num_threads"])
    brain = make_brain(hparams, run_opts)
    loader = {**hparams["dataloader"], "collate_fn": collate}
    brain.fit(
        hparams["epoch_counter"],
        hparams["train_data"],
        hparams["valid_data"],
        train_loader_kwargs={**loader, "shuffle": True, "drop_last": True},
        valid_loader_kwargs=dict(loader),
    )
    return test(brain, hparams, loader)


def make_brain(hparams: dict[str, Any], run_opts: Any) -> InterpreterBrain:
    """Brain, checkpointer and run card of a training.

    Parameters
    ----------
    hparams : dict
        Of a training YAML.
    run_opts : RunOptions
        From the command line.

    Returns
    -------
    InterpreterBrain
    """
    write_run_card(
        hparams["save_folder"],
        **{key: hparams[key] for key in ("domain", "width", "model_name")},
        clap_source=resolved(hparams["clap_source"]),
        template=hparams["templates"][0],
        best_metric=hparams["best_metric"],
        best_mode=hparams["best_mode"],
    )
    brain = InterpreterBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.set_classes(hparams["splits"].labels)
    return brain


def resolved(clap_source: str) -> str:
    """Absolute folder of a local CLAP; a Hub id stays as it is.

    Parameters
    ----------
    clap_source : str
        From the YAML.

    Returns
    -------
    str
    """
    folder = Path(clap_source)
    return str(folder.resolve()) if folder.is_dir() else clap_source


def test(
    brain: InterpreterBrain, hparams: dict[str, Any], loader: dict[str, Any]
) -> dict[str, float]:
    """Test the best checkpoint and write its metrics.

    Parameters
    ----------
    brain : InterpreterBrain
        After training.
    hparams : dict
        Of the training YAML.
    loader : dict
        Arguments of the DataLoader.

    Returns
    -------
    dict
        Metrics, also in <output_folder>/test.json unless this is --debug.
    """
    key = {f"{hparams['best_mode']}_key": hparams["best_metric"]}
    brain.evaluate(hparams["test_data"], **key, test_loader_kwargs=dict(loader))
    if not brain.debug and sb.utils.distributed.if_main_process():
        with written_whole(Path(hparams["output_folder"], "test.json")) as part:
            part.write_text(json.dumps(brain.test_stats, indent=1) + "\n")
    return brain.test_stats


def leave_group() -> None:
    """Let all processes of a run end together.

    One that still talks to another that is gone is aborted.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    metrics = main(sys.argv[1:])
    leave_group()
    print(json.dumps(metrics, indent=1))
