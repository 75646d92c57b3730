"""The command `lmaczs prompts`: its options, and what it reads of a manifest."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lmaczs.utils.errors import InputError, nearest

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from lmaczs.interpreter import ZeroShotInterpreter


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    text = "recordings; with --label, one manifest (CSV)"
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=text)
    text = "the wordings: a text file, one a line"
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", required=True, help=text
    )
    text = "label of the manifest that the wordings are for"
    parser.add_argument("--label", metavar="LABEL", help=text)


def manifest_of(files: list[Path], label: str | None) -> Path | None:
    """Manifest among the files, with its label; None where they are recordings.

    InputError where the two are mixed, or one of manifest and label is missing.
    """
    manifests = [path for path in files if path.suffix.lower() == ".csv"]
    if manifests and len(files) > 1:
        raise InputError(f"{manifests[0]} is a manifest: give it alone, with --label")
    if manifests and label is None:
        raise InputError(
            f"{manifests[0]} is a manifest: give the label to try, --label"
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


def _sounds(interpreter: ZeroShotInterpreter, clips: pd.DataFrame) -> Iterator[Tensor]:
    from lmaczs.data.segments import segments_of

    return (one.load(interpreter.sample_rate) for one in segments_of(clips))
