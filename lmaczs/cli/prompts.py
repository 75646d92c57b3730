"""Prompts on the command line, and the command `lmaczs prompts`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmaczs.cli.inputs import add_files
from lmaczs.utils.errors import InputError, nearest

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from lmaczs.explanation import Interpretation
    from lmaczs.interpreter import Refine, ZeroShotInterpreter


@dataclass(frozen=True)
class Prompts:
    """What `interpret` explains each recording for."""

    texts: list[str]
    recordings: list[Path]
    contrast: list[str]

    @property
    def names(self) -> list[str]:
        """Of all prompts, in the order of their results."""
        return [*self.texts, *(path.name for path in self.recordings)]


def add_prompts(
    parser: argparse.ArgumentParser, text_type: Callable[[str], str]
) -> None:
    """Add the prompts of `interpret` to its parser; at least one has to be given."""
    add_texts(parser, text_type)
    for option, kind, name, text in (
        ("--prompt-audio", Path, "FILE", "a recording as prompt: what sounds like it"),
        ("--contrast", text_type, "PROMPT", "what raises the prompts above this one"),
    ):
        text += "; repeat the option for more"
        parser.add_argument(
            option, action="append", default=[], type=kind, metavar=name, help=text
        )


def add_texts(parser: argparse.ArgumentParser, text_type: Callable[[str], str]) -> None:
    """Add prompts in words; `texts_of` reads them."""
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="text file, one prompt a line"
    )
    text = "label or sentence; repeat the option for more"
    options: dict[str, Any] = {"action": "append", "default": [], "type": text_type}
    parser.add_argument("--prompt", metavar="PROMPT", help=text, **options)


def texts_of(args: argparse.Namespace) -> list[str]:
    """Prompts in words of a command line, each once; `InputError` if there is none."""
    if not (texts := _texts(args)):
        raise InputError("give a prompt: --prompt TEXT or --prompts FILE")
    return texts


def _texts(args: argparse.Namespace) -> list[str]:
    from lmaczs.prompts import read_prompts

    several = [*args.prompt, *(read_prompts(args.prompts) if args.prompts else ())]
    return list(dict.fromkeys(several))


def prompts_of(args: argparse.Namespace) -> Prompts:
    """Prompts of a command line, each once."""
    texts = _texts(args)
    recordings = list(dict.fromkeys(args.prompt_audio))
    if not texts and not recordings:
        raise InputError(
            "give a prompt: --prompt TEXT, --prompts or --prompt-audio FILE"
        )
    if missing := [path for path in recordings if not path.is_file()]:
        raise InputError(f"--prompt-audio {missing[0]}: there is no such file")
    if args.contrast and recordings:
        raise InputError("--contrast is for prompts in words, not for --prompt-audio")
    contrast = list(dict.fromkeys(args.contrast))
    if len(contrast) == 1 and contrast[0] in texts:
        raise InputError(f"--contrast {contrast[0]!r} is a prompt, too: name another")
    return Prompts(texts, recordings, contrast)


def explain(
    interpreter: ZeroShotInterpreter,
    path: Path,
    prompts: Prompts,
    refine: Refine,
    reading: Mapping[str, Any],
) -> list[Interpretation]:
    """Explain a recording for all prompts; `reading` has channel and strict."""
    results: list[Interpretation] = []
    if prompts.texts:
        given, contrast = prompts.texts, prompts.contrast or None
        results = interpreter.interpret_file(
            path, given, refine=refine, contrast=contrast, **reading
        )
    for recording in prompts.recordings:
        results.append(
            interpreter.interpret_file(
                path, refine=refine, prompt_audio=recording, **reading
            )
        )
    return results


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    text = "recording, folder or pattern; with --label, one manifest (CSV)"
    add_files(parser, text)
    text = "the wordings: a text file, one a line"
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", required=True, help=text
    )
    text = "label of the manifest that the wordings are for"
    parser.add_argument("--label", metavar="LABEL", help=text)


def manifest_of(files: list[Path], args: argparse.Namespace) -> Path | None:
    """Manifest among the files, with its label; None where they are recordings.

    InputError where the two are mixed, or one of manifest and label is missing.
    """
    label: str | None = args.label
    manifests = [path for path in files if path.suffix.lower() == ".csv"]
    if manifests and len(files) > 1:
        raise InputError(f"{manifests[0]} is a manifest: give it alone, with --label")
    if manifests and label is None:
        raise InputError(
            f"{manifests[0]} is a manifest: give the label to try, --label"
        )
    if manifests and args.channel is not None:
        raise InputError(
            f"--channel {args.channel} is for recordings; those of {manifests[0]} are "
            "mixed"
        )
    if label is not None and not manifests:
        raise InputError(f"--label {label} is one of a manifest: give its CSV as FILE")
    return manifests[0] if manifests else None


def rank_on_manifest(
    interpreter: ZeroShotInterpreter, manifest: Path, label: str, prompts: list[str]
) -> pd.DataFrame:
    """Table of `rank_prompts` on the clips of a manifest."""
    from lmaczs.data.manifest import CLIP, read_manifest

    rows = read_manifest(manifest, open_recordings=True, for_test=True)
    clips = rows.groupby(CLIP, sort=False, dropna=False)
    there = clips.label.agg(lambda labels: label in set(labels)).tolist()
    if not any(there):
        known = sorted(set(rows.label) - {""})
        raise InputError(
            f"{manifest}: no clip has --label {label}{nearest(label, known)}"
        )
    if all(there):
        raise InputError(f"{manifest}: it needs clips without the label {label!r}, too")
    first = rows[~rows[CLIP].astype(str).duplicated()]
    return interpreter.rank_prompts(_sounds(interpreter, first), prompts, there)


def _sounds(
    interpreter: ZeroShotInterpreter, clips: pd.DataFrame
) -> Iterator[tuple[Tensor, int]]:
    """Each clip and its rate."""
    from lmaczs.data.segments import segments_of

    rate = interpreter.sample_rate
    return ((one.load(rate), rate) for one in segments_of(clips))
