"""The model of a command: --source or --clap, on --device."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lmaczs.cli.terminal import CommandError, one_line
from lmaczs.hub import clap_folder, decoder_folder
from lmaczs.utils.devices import device_reason
from lmaczs.utils.imports import deferred

if TYPE_CHECKING:
    from lmaczs.interpreter import ZeroShotInterpreter


def add_model(parser: argparse.ArgumentParser, clap: bool = True) -> None:
    """Add the options that choose the model."""
    model = parser.add_mutually_exclusive_group()
    text = "folder that `lmaczs export` wrote, or a Hub id (default: the embedded one)"
    model.add_argument("--source", help=text)
    if clap:
        text = "any CLAP, without a decoder: a folder or a Hub id; masks are fitted"
        model.add_argument("--clap", metavar="ID", help=text)
        text = "commit, tag or branch, where --source or --clap is a Hub id"
        parser.add_argument("--revision", metavar="REV", help=text)
        text = "of the audio encoder: bf16 is coarser, and faster on a GPU"
        names = ("fp32", "bf16")
        parser.add_argument("--precision", choices=names, default="fp32", help=text)
    text = "you trust who made the model: its pickles are read, and its code is run"
    parser.add_argument("--trust-remote-code", action="store_true", help=text)
    text = "cpu, cuda, cuda:1 or mps (default: cuda where there is one, else cpu)"
    parser.add_argument("--device", help=text)


def load(
    source: str | None,
    clap: str | None,
    device: str | None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    precision: str = "fp32",
) -> ZeroShotInterpreter:
    """Load a model, or raise a CommandError that names the option."""
    if revision is not None and source is None and clap is None:
        raise CommandError(
            f"--revision {revision} is one of the Hub's repository that --source or "
            "--clap names: give one of them"
        )
    option = "the embedded default" if source is None else f"--source {source}"
    option = option if clap is None else f"--clap {clap}"
    try:  # before the imports, which take seconds: a name may be mistyped
        _look_up(source, clap, revision, trust_remote_code)
    except Exception as error:
        raise CommandError(f"{option}: {one_line(error)}") from error
    _import_packages()
    from lmaczs.interpreter import ZeroShotInterpreter

    options: dict[str, Any] = {
        "run_opts": {"precision": precision, **_on_device(device)},
        "revision": revision,
        "trust_remote_code": trust_remote_code,
    }
    try:
        if clap is not None:
            return ZeroShotInterpreter.from_clap(clap, **options)
        return ZeroShotInterpreter.from_hparams(source, **options)
    except Exception as error:  # of a folder that is trusted, any code may fail
        see = "" if source or clap else "; see `lmaczs doctor`"
        raise CommandError(f"{option}: {one_line(error)}{see}") from error


def _look_up(
    source: str | None, clap: str | None, revision: str | None, trusted: bool
) -> None:
    """Download what is needed of a repository; raise what is wrong with a name."""
    if clap is not None:
        clap_folder(clap, revision, trusted)
    elif source is not None:
        decoder_folder(source, None, revision, trusted)


def _import_packages() -> None:
    """Import what takes seconds, or raise a CommandError."""
    try:
        from transformers.utils.logging import disable_progress_bar

        # it takes as long as a third of torch, for one distribution in a sampler
        with deferred("scipy.stats", "lognorm"):
            import speechbrain  # noqa: F401
        import lmaczs.interpreter  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        # OSError and RuntimeError come from a torchaudio built for another torch
        raise CommandError(
            f"a package cannot be imported: {one_line(error)}; see `lmaczs doctor`"
        ) from error
    disable_progress_bar()


def _on_device(name: str | None) -> dict[str, Any]:
    """Option of SpeechBrain for a device; a CommandError if there is none."""
    import torch

    if name is None:
        return {}
    try:
        return {"device": torch.zeros(1, device=name).device}
    except (RuntimeError, AssertionError) as error:
        raise CommandError(
            f"--device {name}: {device_reason(error)}; `lmaczs doctor` lists devices"
        ) from error


def identity_of(interpreter: ZeroShotInterpreter) -> dict[str, Any]:
    """What results depend on of a model: name, template, weights and precision."""
    from lmaczs.utils.digests import fingerprint

    precision = interpreter.precision
    return {
        "model": interpreter.hparams.model_name,
        "template": interpreter.hparams.template,
        "weights": fingerprint(interpreter.mods),
        **({} if precision == "fp32" else {"precision": precision}),
    }
