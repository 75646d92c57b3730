"""One training: from a YAML and its data to a decoder and its metrics."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.core import DEFAULT_LOG_CONFIG
from speechbrain.utils.distributed import run_on_main
from speechbrain.utils.run_opts import RunOptions

from lmaczs.data.prompted_dataset import PromptedDataset, collate
from lmaczs.data.shards.dataset import ShardDataset
from lmaczs.data.splits import SPLITS, Splits
from lmaczs.hub import decoder_folder, default_source
from lmaczs.objectives.objective import Objective, make_objective
from lmaczs.training.brain import InterpreterBrain, TrainingOptions
from lmaczs.training.distributed import TrainingError, gather
from lmaczs.training.export import write_run_card
from lmaczs.training.run_clips import PLACES, RunClips, clips_of_run, note_clips
from lmaczs.training.run_identity import (
    begin_run,
    clap_digest,
    held,
    settings_of,
    start_digest,
)
from lmaczs.utils.digests import clips_digest, files_digest, fingerprint
from lmaczs.utils.errors import InputError
from lmaczs.utils.files import atomic_write
from lmaczs.utils.options import load_part

logger = logging.getLogger(__name__)

OBJECTIVE = (
    *("objective", "loss_weights", "absent_prompts", "present_prompts", "margin"),
    *("absent_presence", "same_prompt_cosine", "crosscor_threshold", "binarise_level"),
)
CARD = ("domain", "width", "model_name", "checkpoint_metric", "checkpoint_mode")


@dataclass(frozen=True)
class Trained:
    """What a training ends with.

    `before` are the metrics of the split test before it, empty where the YAML does not
    ask for them, and `after` those of the best checkpoint. `data` are the splits.
    """

    brain: InterpreterBrain
    data: dict[str, Any]
    before: dict[str, float]
    after: dict[str, float]


BrainMaker = Callable[[dict[str, Any], Any, Splits], InterpreterBrain]


def train(
    hparams_file: str,
    run_opts: RunOptions,
    overrides: str,
    brain_of: BrainMaker | None = None,
    log_config: str = DEFAULT_LOG_CONFIG,
) -> Trained:
    """Train what a YAML says, or resume it; then test the best checkpoint.

    Parameters
    ----------
    hparams_file : str
        The YAML.
    run_opts : RunOptions
        SpeechBrain's, of a process that has joined its group.
    overrides : str
        YAML of the keys to replace.
    brain_of : callable, optional
        Default: `make_brain`.
    log_config : str
        YAML of the log's handlers; default: SpeechBrain's.

    Returns
    -------
    Trained

    Raises
    ------
    InputError
        If an epoch would have no step.
    OtherRunError
        If another run was trained in the output folder.
    """
    objective_of(load_part(hparams_file, overrides, OBJECTIVE))  # before models load
    splits = read_data(hparams_file, overrides)
    places = load_part(hparams_file, overrides, PLACES)
    starts = decoders_at_start(hparams_file, overrides)
    with held(places["output_folder"], run_opts.debug):
        clips = clips_of_run(splits, **places, starts=starts)
        with open(hparams_file) as file:
            hparams = load_hyperpyyaml(file, overrides)
        if run_opts.device is not None:  # data may be prepared by the model
            hparams["clap"].to(run_opts.device)
        data = hparams["build_datasets"](clips.splits)
        hparams |= {f"{split}_data": data[split] for split in SPLITS}
        require_a_batch(hparams)
        begin(hparams_file, overrides, hparams, run_opts, clips)
        sb.create_experiment_directory(
            hparams["output_folder"], hparams_file, overrides, log_config
        )
        if hparams["num_threads"] is not None:
            torch.set_num_threads(hparams["num_threads"])
        with readers_that_end():
            brain = (brain_of or make_brain)(hparams, run_opts, clips.splits)
            before, after = fit_and_test(brain, hparams)
        return Trained(brain, data, before, after)


def decoders_at_start(hparams_file: str, overrides: str) -> list[Path]:
    """Folder of the decoder that a training begins with, if it does."""
    given = load_part(hparams_file, overrides, ["source", "decoder_source"])
    if "source" in given and given["source"] is None:
        return [default_source()]
    return [decoder_folder(name) for name in given.values() if name is not None]


def begin(
    hparams_file: str,
    overrides: str,
    hparams: dict[str, Any],
    run_opts: RunOptions,
    clips: RunClips,
) -> None:
    """Note what a run begins with and learns from, or refuse another run's folder."""
    folder = hparams["output_folder"]
    begin_run(
        folder,
        hparams["save_folder"],
        lambda: {
            **settings_of(hparams_file, overrides, run_opts),
            **digests(hparams),
        },
        debug=run_opts.debug,
        stale=["before.json", "test.json"],
        resume_anyway=hparams["resume_anyway"],
        changed=clips.changed,
    )
    if not run_opts.debug:
        run_on_main(note_clips, [folder, clips])


def fit_and_test(
    brain: InterpreterBrain, hparams: dict[str, Any]
) -> tuple[dict[str, float], dict[str, float]]:
    """Train; metrics of the split test before it, see `measure_before`, and after."""
    loader = {**hparams["valid_dataloader_opts"], "collate_fn": collate}
    before = measure_before(brain, hparams, loader)
    brain.fit(
        brain.epoch_counter,
        hparams["train_data"],
        hparams["valid_data"],
        train_loader_kwargs={**hparams["train_dataloader_opts"], "collate_fn": collate},
        valid_loader_kwargs=dict(loader),
    )
    return before, test(brain, hparams, loader)


@contextmanager
def readers_that_end() -> Iterator[None]:
    """Raise a TrainingError where a process that reads clips is killed."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise TrainingError(
            "a process that reads clips was killed; is there memory enough? Give fewer "
            "--num_workers; the same line resumes"
        ) from error


def read_data(hparams_file: str, overrides: str) -> Splits:
    """Prepare the data set that a training YAML names, in one process, and read it."""
    data = load_part(hparams_file, overrides, ["prepare_data", "read_splits"])
    if "prepare_data" in data:
        run_on_main(data["prepare_data"])
    return data["read_splits"]()


def require_a_batch(hparams: dict[str, Any]) -> None:
    """Raise an InputError if an epoch would have no step."""
    clips, batch_size = len(hparams["train_data"]), hparams["batch_size"]
    if clips < batch_size:
        raise InputError(
            f"batch_size is {batch_size}, but there are {clips} clips to train on: "
            "give a lower --batch_size or more clips"
        )


def digests(hparams: dict[str, Any]) -> dict[str, str]:
    """What a training depends on: its CLAP, the decoder it starts from, its clips."""
    found = {"CLAP": clap_digest(hparams["clap"])}
    if "start" in hparams:
        found["starting decoder"] = start_digest(hparams["start"])
    if hparams.get("decoder_source") is not None:  # nothing is trained yet
        found["starting decoder"] = fingerprint(hparams["decoder"])
    if "vocabulary" in hparams:
        found["vocabulary"] = files_digest([hparams["vocabulary"]])
    for split in SPLITS:
        found[f"{split} clips"] = clips_digest(hparams[f"{split}_data"].table)
    return found


def objective_of(hparams: Mapping[str, Any]) -> Objective:
    """Make the objective of a training YAML."""
    return make_objective(**{k: hparams[k] for k in OBJECTIVE if k in hparams})


def make_brain(
    hparams: dict[str, Any], run_opts: Any, splits: Splits
) -> InterpreterBrain:
    """Brain and run card of a training YAML."""
    card = {
        **{key: hparams[key] for key in CARD},
        "clap_source": hparams["clap_source"],
        "template": hparams["templates"][0],
        "split": splits.split_by,
        "decoder": import_path(type(hparams["decoder"])),
        "clips": {split: len(hparams[f"{split}_data"].table) for split in SPLITS},
    }
    run_on_main(write_run_card, [hparams["save_folder"]], card)
    return InterpreterBrain(
        hparams["clap"],
        hparams["decoder"],
        objective_of(hparams),
        {split: hparams[f"{split}_data"] for split in SPLITS},
        TrainingOptions.from_hparams(hparams),
        hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
        train_logger=hparams["train_logger"],
        tensorboard=hparams["tensorboard"],
        start_loader_opts=hparams["valid_dataloader_opts"]
        if is_fine_tuning(hparams)
        else None,
    )


def import_path(kind: type) -> str:
    """Where a class is imported from."""
    return f"{kind.__module__}.{kind.__qualname__}"


def is_fine_tuning(hparams: Mapping[str, Any]) -> bool:
    """Whether the decoder before the training is measured, too."""
    return hparams.get("measure_before", False)


def measure_before(
    brain: InterpreterBrain, hparams: dict[str, Any], loader: dict[str, Any]
) -> dict[str, float]:
    """Test a fine-tuning's starting point, once in all of a run.

    Its metrics go to <output_folder>/before.json; they are empty where the YAML does
    not ask for them.
    """
    if not is_fine_tuning(hparams):
        return {}
    path = Path(hparams["output_folder"], "before.json")
    known = _read_metrics(path)
    if known is not None:
        return known
    # the checkpoints are those of the training, should there be any
    checkpointer, brain.checkpointer = brain.checkpointer, None
    brain.evaluate(hparams["test_data"], test_loader_kwargs=dict(loader))
    brain.checkpointer = checkpointer
    require_every_clip(hparams["test_data"])
    write_metrics(brain, path)
    return brain.test_stats


def require_every_clip(data: PromptedDataset | ShardDataset) -> None:
    """Raise a TrainingError if clips could not be tested on."""
    lost = sum(gather(data.unreadable))
    if lost:
        raise TrainingError(
            f"{lost} of {len(data)} clips of split test can no longer be read, and the "
            "figures before and after the training must be of the same clips: see "
            "whether their disk is there; the same line resumes"
        )


def _read_metrics(path: Path) -> dict[str, float] | None:
    """Metrics of a file; None where it is missing, or was cut."""
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        logger.warning("%s is damaged (%s): it is measured anew", path, error)
        return None


def write_metrics(brain: InterpreterBrain, path: Path) -> None:
    """Write what was tested, from one process and not with --debug."""
    if not brain.debug and sb.utils.distributed.if_main_process():
        with atomic_write(path) as part:
            part.write_text(json.dumps(brain.test_stats, indent=1) + "\n")


def test(
    brain: InterpreterBrain, hparams: dict[str, Any], loader: dict[str, Any]
) -> dict[str, float]:
    """Test the best checkpoint; its metrics go to <output_folder>/test.json, too."""
    key = {f"{hparams['checkpoint_mode']}_key": hparams["checkpoint_metric"]}
    brain.evaluate(hparams["test_data"], **key, test_loader_kwargs=dict(loader))
    if is_fine_tuning(hparams):
        require_every_clip(hparams["test_data"])
    write_metrics(brain, Path(hparams["output_folder"], "test.json"))
    return brain.test_stats
