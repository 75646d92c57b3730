"""A decoder for any CLAP, from sounds without labels or from sounds that are made.

The training is that of `hparams/adapt.yaml`, with values that depend on the CLAP: the
length of its clips, and what a cosine of its embeddings is worth. What is half-done
lies in a run folder, from which the same call resumes; the decoder's own folder appears
when all is done.
"""

from __future__ import annotations

import json
import logging.config
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
import yaml
from speechbrain.utils.run_opts import RunOptions
from torch.utils.data import DataLoader
from tqdm import tqdm

from lmaczs.clap import FrozenClap
from lmaczs.data.prompted_dataset import collate
from lmaczs.data.ranked_prompts import read_vocabulary
from lmaczs.data.unlabelled import FEWEST, read_unlabelled
from lmaczs.demo.random_sounds import write_random_sounds
from lmaczs.hub import clap_folder, resolve, unpinned_folder
from lmaczs.presence import reference_text
from lmaczs.training.export import export_run, require_free
from lmaczs.training.held_out import HELD_OUT_FILE, Rows, compare
from lmaczs.training.run import Trained, train
from lmaczs.training.run_identity import OtherRunError
from lmaczs.utils.errors import InputError
from lmaczs.utils.files import atomic_write
from lmaczs.utils.options import plain_values, require_device
from lmaczs.utils.shipped import shipped_folder

SOUNDS = "sounds"  # folder of a run with the sounds that are made
MADE_SECONDS = (3.0, 5.0)  # shortest and longest of them
LOG_CONFIG = "log.yaml"
LINE = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
COSINE_TERMS = ("similarity", "masked_out_similarity", "leakage")
"""Terms whose values are cosines, not nats."""


@dataclass(frozen=True)
class AdaptOptions:
    """How a decoder is made.

    Attributes
    ----------
    data : str or Path, optional
        Folder of recordings, or manifest; None: sounds are made.
    prompts : str or Path, optional
        Vocabulary: a text file, a prompt a line; None: the names of AudioSet's classes.
    run_folder : str or Path, optional
        For what is half-done; None: DEST-run, beside the decoder's folder.
    epochs : int
        Passes over the clips; the learning rate falls to 0 over them.
    clips : int
        Most clips; so many sounds are made.
    batch_size : int
        Clips a step.
    width : int
        Channels of the decoder.
    device : str, optional
        Default: cuda where there is one, else cpu.
    seed : int
        Of everything that is drawn; 0 or more.
    force : bool
        Replace a decoder at DEST.
    resume_anyway : bool
        Resume in a run folder that was begun with something else.
    trust_remote_code : bool
        Whether you trust who made the CLAP: its weights may be pickles.
    revision : str, optional
        Commit, tag or branch of a CLAP of the Hub, which is then copied into DEST.
    """

    data: str | Path | None = None
    prompts: str | Path | None = None
    run_folder: str | Path | None = None
    epochs: int = 20
    clips: int = 480
    batch_size: int = 8
    width: int = 32
    device: str | None = None
    seed: int = 1234
    force: bool = False
    resume_anyway: bool = False
    trust_remote_code: bool = False
    revision: str | None = None

    def __post_init__(self) -> None:
        least = {"epochs": 1, "clips": FEWEST, "batch_size": 1, "width": 8, "seed": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                option = name.replace("_", "-")
                raise InputError(
                    f"--{option} is {getattr(self, name)}: give {value} or more"
                )


@dataclass(frozen=True)
class Adapted:
    """A decoder that was made: its folder, and how it does on held-out clips."""

    dest: Path
    run_folder: Path
    rows: Rows
    clips: int
    classes: int


def adapt(
    clap_source: str | Path, dest: str | Path, options: AdaptOptions | None = None
) -> Adapted:
    """Make a decoder for a CLAP, or resume making it.

    Parameters
    ----------
    clap_source : str or Path
        A Hugging Face CLAP checkpoint: a folder, or a Hub id.
    dest : str or Path
        Folder of the decoder, for `ZeroShotInterpreter.from_hparams`; written whole or
        not at all.
    options : AdaptOptions, optional
        Default: `AdaptOptions()`.

    Returns
    -------
    Adapted

    Raises
    ------
    InputError
        If an option or the CLAP cannot be used, or folders contain one another; if a
        folder has a `revision`.
    ExportError
        If `dest` exists, without `force`; or is something else than a decoder.
    OptionError
        If there is no such device.
    OtherRunError
        If the run folder is that of another training.
    FileNotFoundError
        If there is no such CLAP.
    ClapError
        If it is damaged.
    """
    options, dest = options or AdaptOptions(), Path(dest)
    run = Path(options.run_folder or f"{os.path.normpath(dest)}-run")
    _require_places(clap_source, dest, run, options)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    require_device(device)
    read_vocabulary(options.prompts)
    source = _place_of(clap_source, options)
    values = _values(source, dest, run, device, options)
    with _logged_in(run) as config, _own_options(run):
        done = train(
            str(recipe()),
            _run_options(device),
            yaml.safe_dump(values),
            log_config=config,
        )
        rows, classes = _compare(done, options.batch_size)
    clips = len(done.data["test"])
    found = {
        "made": options.data is None,
        "clips": clips,
        "classes": classes,
        "rows": rows,
    }
    with atomic_write(run / HELD_OUT_FILE) as part:
        part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return Adapted(export_run(run, dest, options.force), run, rows, clips, classes)


def _place_of(clap: str | Path, options: AdaptOptions) -> str:
    """Folder or Hub id of a CLAP; the folder of what a revision has."""
    if options.revision is None or unpinned_folder(clap, options.revision) is not None:
        return resolve(clap)
    return str(clap_folder(clap, options.revision, options.trust_remote_code))


def _values(
    source: str, dest: Path, run: Path, device: str, options: AdaptOptions
) -> dict[str, Any]:
    """Values to replace in the YAML; sounds are made if none are given."""
    clap = _load_clap(source, options.trust_remote_code).to(device)
    front_end, on_gpu = clap.front_end, torch.device(device).type != "cpu"
    seconds = front_end.max_samples / front_end.sample_rate
    cores = min(8, os.cpu_count() or 1)
    data = options.data
    if data is None:
        shortest, longest = MADE_SECONDS
        data = write_random_sounds(
            run / f"{SOUNDS}-{options.clips}-{options.seed}",
            options.clips,
            front_end.sample_rate,
            min(max(seconds, shortest), longest),
            options.seed,
            workers=cores if cores > 1 else 0,
        )
    else:  # refused before anything is written
        read_unlabelled(data, seconds, options.clips, options.seed)
    vocabulary = options.prompts and str(Path(options.prompts).resolve())
    return {
        "clap_source": source,
        "trust_remote_code": options.trust_remote_code,
        "recordings": str(Path(data).resolve()),
        "clip_seconds": seconds,
        "most_clips": options.clips,
        "vocabulary": vocabulary,
        "output_folder": str(run.resolve()),
        "model_name": dest.resolve().name,
        "number_of_epochs": options.epochs,
        "batch_size": options.batch_size,
        "width": options.width,
        "seed": options.seed,
        "resume_anyway": options.resume_anyway,
        # beside a GPU the loading of clips would take most of the time
        "num_workers": cores if on_gpu else 0,
        "keep_in_memory": not on_gpu,
        **objective_values(clap),
    }


def recipe() -> Path:
    """The YAML of the training."""
    return shipped_folder("hparams") / "adapt.yaml"


def objective_values(clap: FrozenClap) -> dict[str, Any]:
    """Values of the YAML's objective that are cosines, for a CLAP.

    Two prompts mean the same where they are more similar than halfway from 1 to what a
    reference prompt and its nearest other one have, in the median. The logit scale
    says what a cosine is worth: a weight of a nat is the same for every CLAP.
    """
    plain = plain_values(recipe())
    worth = clap.logit_scale / plain["logit_scale"]
    weights = plain["loss_weights"]["lmaczs"]
    return {
        "logit_scale": _short(clap.logit_scale),
        "margin": _short(plain["margin"] / worth),
        "same_prompt_cosine": same_prompt_cosine(reference_text(clap)),
        "loss_weights": {
            "lmaczs": {name: _short(weights[name] * worth) for name in COSINE_TERMS}
        },
    }


def same_prompt_cosine(text: torch.Tensor) -> float:
    """Cosine from which prompts mean the same, by those [R, D] of the references."""
    cosines = (text @ text.T).cpu()
    cosines.fill_diagonal_(-1)
    return _short(float((1 + cosines.max(1).values.median()) / 2), 4)


def _short(value: float, digits: int = 3) -> float:
    """So that the last bits of another device make no other run."""
    return float(f"{value:.{digits}g}")


def _load_clap(source: str, trust_remote_code: bool) -> FrozenClap:
    try:
        return FrozenClap.from_pretrained(source, trust_remote_code=trust_remote_code)
    except InputError as error:
        raise InputError(f"{source} cannot be explained: {error}") from error


def _require_places(
    clap: str | Path, dest: Path, run: Path, options: AdaptOptions
) -> None:
    """Refuse folders in which something else would be lost or trained on."""
    require_free(dest, options.force)
    inputs = {"CLAP": clap, "--data": options.data}
    for name, given in inputs.items():
        if given is None or not Path(given).is_dir():
            continue
        for place in (dest, run):
            if _inside(place, Path(given)):
                raise InputError(
                    f"{place} is in the folder of {name}, {given}, in which nothing is "
                    "written: name another DEST or --run"
                )
    if _inside(dest, run) or _inside(run, dest):
        raise InputError(f"--run {run} and {dest} contain one another: name others")
    if run.exists() and not (run.is_dir() and _is_run(run)):
        raise InputError(
            f"--run {run}: it holds something else than a run of `lmaczs adapt`: name "
            "another folder"
        )


def _is_run(folder: Path) -> bool:
    """Whether a folder is empty, or was begun by `adapt`."""
    begun = (folder / LOG_CONFIG).is_file() or any(folder.glob(f"{SOUNDS}-*"))
    return begun or not any(folder.iterdir())


def _inside(place: Path, folder: Path) -> bool:
    return place.resolve().is_relative_to(folder.resolve())


def _run_options(device: str) -> RunOptions:
    """SpeechBrain's options: progress is shown on a terminal only."""
    quiet = not sys.stderr.isatty()
    given = {"device", "noprogressbar"}
    return RunOptions(device=device, noprogressbar=quiet, overridden_args=given)


@contextmanager
def _own_options(run: Path) -> Iterator[None]:
    """Errors that name options of a YAML name those of `lmaczs adapt` instead."""
    names = {
        "output_folder " + str(run.resolve()): f"--run {run}",
        "--output_folder": "--run",
        "batch_size": "batch-size",
        "most_clips": "clips",
    }
    try:
        yield
    except (OtherRunError, InputError) as error:
        text = str(error)
        for old, new in names.items():
            text = text.replace(old, new)
        kind = OtherRunError if isinstance(error, OtherRunError) else InputError
        raise kind(text) from error


@contextmanager
def _logged_in(run: Path) -> Iterator[str]:
    """Configuration of a log that goes to the run's log.txt alone; undone after it."""
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"simple": {"format": LINE}},
        "handlers": {
            # SpeechBrain's name of it
            "file_handler": {
                "class": "logging.FileHandler",
                "level": "INFO",
                "formatter": "simple",
                "filename": str(run / "log.txt"),
                "encoding": "utf8",
            }
        },
        "root": {"level": "INFO", "handlers": ["file_handler"]},
    }
    with atomic_write(run / LOG_CONFIG) as part:
        part.write_text(yaml.safe_dump(config), encoding="utf-8")
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = root.handlers[:], root.level
    try:
        logging.config.dictConfig(config)
        yield str(run / LOG_CONFIG)
    finally:
        root.handlers[:], sys.excepthook = handlers, hook
        root.setLevel(level)


def _compare(done: Trained, batch_size: int) -> tuple[Rows, int]:
    """Compare on the split test; also the number of classes."""
    brain = done.brain
    brain.modules.eval()
    loader = DataLoader(done.data["test"], batch_size, collate_fn=collate)
    classes = brain.classes(sb.Stage.TEST).text
    shown = tqdm(loader, "compare", disable=None, leave=False)
    batches = (batch for batch in shown if batch is not None)
    rows = compare(brain.clap, brain.averaged_decoder, batches, classes)
    return rows, len(classes)
