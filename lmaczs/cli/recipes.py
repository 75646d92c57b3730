"""`lmaczs train` and `lmaczs evaluate`: the recipes of these names, as commands."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from lmaczs.utils.errors import InputError
from lmaczs.utils.shipped import shipped_folder


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    text = "a file, or the name of one that is shipped, such as esc50"
    parser.add_argument("yaml", metavar="YAML", help=text)
    text = "--KEY=VALUE: any key of the YAML, and SpeechBrain's own, such as --device"
    options = parser.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="OPTION", help=text
    )
    options.required = False  # argparse names it among what is missing


def yaml_path(name: str) -> Path:
    """Path of a YAML: a file, or else the shipped one of that name.

    InputError if there is neither.
    """
    given = Path(name)
    if given.is_file():
        return given
    folder = shipped_folder("hparams")
    shipped = folder / f"{given.name.removesuffix('.yaml')}.yaml"
    if given.parent.name in ("", "hparams") and shipped.is_file():
        return shipped
    known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise InputError(f"there is no YAML {name}; shipped are {known}")


def run(args: argparse.Namespace, name: str) -> None:
    """Run a recipe as ``python recipes/NAME.py YAML OPTION...`` does.

    It prints what it does there, and ends the process where a user's error ends it.
    """
    words = [str(yaml_path(args.yaml)), *args.options]
    words += ["--verbose"] if args.verbose else []
    before, sys.argv = sys.argv, [name, *words]
    try:
        runpy.run_path(str(shipped_folder("recipes") / f"{name}.py"), None, "__main__")
    finally:
        sys.argv = before
