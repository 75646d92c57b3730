"""The identity of a training run in run.json: settings, models and data.

An output folder belongs to one run. If it holds checkpoints of another run, training is
refused, so that neither its decoder is trained further nor its metrics are replaced;
with --resume-anyway it resumes, and the identity is the new one.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.run_opts import RunOptions

from lmaczs.model_file import RUN_FILE, WEIGHTS
from lmaczs.training.distributed import gather
from lmaczs.utils.digests import code_digest, digest, fingerprint
from lmaczs.utils.errors import InputError, LmaczsError
from lmaczs.utils.files import atomic_write, sweep
from lmaczs.utils.locks import made_and_locked
from lmaczs.utils.options import plain_values

if TYPE_CHECKING:
    from lmaczs.clap import FrozenClap
    from lmaczs.training.finetuning import PretrainedDecoder

logger = logging.getLogger(__name__)

NOT_TRAINING = ("app", "cli", "corpus", "evaluation", "report")
"""Parts of this package whose code changes no training."""

# Every other key of a YAML and every other option is compared.
PLACES = {"output_folder", "save_folder", "clap_folder", "tower_folder"}
DIGESTED = {
    *("data_folder", "manifest", "unlabelled_folder", "class_names", "wordnet_folder"),
    *("recordings", "vocabulary"),
    *("archive_url", "archive_sha256", "archive_clips"),
    *("clap_source", "source", "decoder_source", "text_tower", "teacher"),
    *("tagger_model", "tagger_class_map"),
}
WITHOUT_EFFECT = {
    *("number_of_epochs", "num_workers", "num_threads", "keep_in_memory"),
    *("model_name", "attribution", "train_logger", "tensorboard", "log_config"),
    *("examples_every", "example_clips", "valid_every"),
    *("ckpt_interval_minutes", "ckpt_interval_steps"),
    *("device", "distributed_backend", "distributed_launch"),
    *("data_parallel_backend", "data_parallel_count", "find_unused_parameters"),
    *("resume_anyway", "max_unreadable", "trust_remote_code"),
    *("debug", "debug_batches", "debug_epochs", "debug_persistently", "test_only"),
    *("noprogressbar", "tqdm_colored_bar", "tqdm_barcolor", "param_file"),
    *("profile_training", "profile_warmup", "profile_steps"),
}
NOT_COMPARED = PLACES | DIGESTED | WITHOUT_EFFECT

Identity = Mapping[str, Any]


class OtherRunError(LmaczsError, ValueError):
    """An output folder of another run: the differences, and the fix."""


# --- what a run is ------------------------------------------------------------------


def settings_of(
    hparams_file: str | Path, overrides: str, run_opts: RunOptions
) -> dict[str, Any]:
    """Settings of a training that change its result: dotted names to JSON values.

    `overrides` and given `run_opts` count as settings; keys in `NOT_COMPARED` are left
    out. References stay unresolved, so that a value that others refer to counts once.
    """
    tree = plain_values(hparams_file, overrides)
    given = {name: run_opts[name] for name in run_opts.overridden_args}
    kept = {k: v for k, v in {**tree, **given}.items() if k not in NOT_COMPARED}
    found = (pair for name, node in kept.items() for pair in _flat(name, node))
    settings = json.loads(json.dumps(dict(found), default=str))
    return {**settings, "code": code_digest(*NOT_TRAINING)}


def _flat(name: str, node: Any) -> Iterator[tuple[str, Any]]:
    """Values of a tree by dotted names; a tag (``!new:...``) is a value, too."""
    if not isinstance(node, Mapping):
        yield name, _plain(node)
        return
    if _tag(node):
        yield name, _tag(node)
    for key, value in node.items():
        yield from _flat(f"{name}.{key}", value)


def _plain(node: Any) -> Any:
    tag = [_tag(node)] if _tag(node) else []
    if isinstance(node, Mapping):
        return [*tag, {str(key): _plain(value) for key, value in node.items()}]
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [*tag, *(_plain(item) for item in node)]
    return " ".join([*tag, node.value]).strip() if tag else node


def _tag(node: Any) -> str:
    tag = getattr(getattr(node, "tag", None), "value", None)
    return tag if tag and tag.startswith("!") else ""


def clap_digest(clap: FrozenClap) -> str:
    """Digest of a CLAP's weights and the numbers of its front end."""
    front_end = clap.front_end
    numbers = front_end.sample_rate, front_end.n_fft, front_end.hop_length
    settings = (*numbers, front_end.max_samples, front_end.padding)
    return digest([fingerprint(clap.model), settings])


def start_digest(start: PretrainedDecoder) -> str:
    """Digest of the decoder that a fine-tuning starts from."""
    kind = start.domain, start.width, start.template
    return digest([fingerprint(start.decoder), kind])


# --- whose an output folder is ------------------------------------------------------


@contextmanager
def held(output_folder: str | Path, debug: bool = False) -> Iterator[None]:
    """Hold an output folder against other processes than those of this run.

    It is made, unless nothing is written into it, and cleared of what killed processes
    left half-written. A debug run holds nothing. `InputError` if another run is at work
    in it.
    """
    folder, refusal = Path(output_folder), None
    with ExitStack() as stack:
        if if_main_process() and not debug:
            try:
                stack.enter_context(made_and_locked(folder))
                sweep(folder)
            except InputError as error:
                refusal = str(error)
        refusal = gather(refusal)[0]
        if refusal:
            raise InputError(f"output_folder {refusal}")
        yield


def begin_run(
    output_folder: str | Path,
    save_folder: str | Path,
    identity: Callable[[], Identity],
    debug: bool = False,
    stale: Sequence[str] = (),
    resume_anyway: bool = False,
    changed: Sequence[str] = (),
) -> None:
    """Write the run's identity into its output folder, or refuse another run's folder.

    A folder in which nothing was trained yet is free. The first process of a group
    decides, and all processes raise.

    Parameters
    ----------
    output_folder : str or Path
        Gets run.json, written atomically.
    save_folder : str or Path
        Of the checkpoints.
    identity : callable
        Computes the identity, by the names that an error shows.
    debug : bool
        Compare only: a debug run leaves no files.
    stale : sequence of str
        Files of the folder to remove when another run begins, or resumes, in it.
    resume_anyway : bool
        Whether another run resumes from the folder's checkpoints; a warning has the
        differences.
    changed : sequence of str
        Names of recordings whose content is another one, for the error.

    Raises
    ------
    OtherRunError
        If another run was trained in the folder, or it holds an exported decoder.
    """
    refusal = None
    if if_main_process():
        folder = Path(output_folder)
        trained = is_trained(folder, save_folder)
        if trained or not debug:
            now = identity()
            refusal = _refusal(folder, trained, now, changed)
            if trained and refusal and resume_anyway:
                logger.warning("Resumed anyway: %s", refusal.partition(": give ")[0])
                refusal = None
            if not refusal and not debug:
                _note(folder / RUN_FILE, now, [folder / name for name in stale])
    refusal = gather(refusal)[0]
    if refusal:
        raise OtherRunError(refusal)


def is_trained(output_folder: str | Path, save_folder: str | Path) -> bool:
    """Whether a folder has a checkpoint or the result of a training."""
    checkpoints = Path(save_folder).glob("CKPT+*/CKPT.yaml")
    return any(checkpoints) or Path(output_folder, "test.json").exists()


def _note(noted: Path, identity: Identity, stale: Sequence[Path]) -> None:
    """Write the identity, if it is another one, and remove what is of the former."""
    if read_identity(noted) == identity:
        return
    text = json.dumps(identity, indent=1) + "\n"
    for path in stale:
        path.unlink(missing_ok=True)
    with atomic_write(noted) as part:
        part.write_text(text, encoding="utf-8")


def _refusal(
    folder: Path, trained: bool, identity: Identity, changed: Sequence[str]
) -> str | None:
    """Why a run cannot use a folder, if so."""
    noted, place = folder / RUN_FILE, f"output_folder {folder}"
    fix = "give --resume-anyway or another --output_folder"
    if not trained:
        exported = any((folder / name).exists() for name in WEIGHTS)
        fix = "an exported decoder, which would be damaged: choose another"
        return f"{place} holds {fix} --output_folder" if exported else None
    if not noted.is_file():
        return (
            f"{place} holds a training of an older version, which did not note its "
            f"settings ({RUN_FILE} is missing): {fix}"
        )
    found = read_identity(noted)
    if found is None:
        return f"{noted} is damaged, so what it was begun with is not known: {fix}"
    others = differences(found, identity)
    if not others:
        return None
    files = f" (changed: {', '.join(changed)})" if changed else ""
    return f"{place} was begun with {'; '.join(others)}{files}: {fix}"


def read_identity(noted: Path) -> Identity | None:
    """What a run.json holds; None where it is missing or damaged."""
    try:
        return dict(json.loads(noted.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def differences(begun: Identity, now: Identity) -> list[str]:
    """Differences of two runs by name: ``"objective lmaczs, now lmac"``."""
    return [
        f"{name} {_shown(begun, name)}, now {_shown(now, name)}"
        for name in {**begun, **now}
        if name not in begun or name not in now or begun[name] != now[name]
    ]


def _shown(identity: Identity, name: str) -> str:
    if name not in identity:
        return "unset"
    value = identity[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def run_digest(run_folder: str | Path) -> str:
    """Digest of run.json, or of the folder's path where an older version wrote none."""
    noted = Path(run_folder) / RUN_FILE
    if noted.is_file():
        return hashlib.sha256(noted.read_bytes()).hexdigest()
    return hashlib.sha256(str(Path(run_folder).resolve()).encode()).hexdigest()
