"""The command `lmaczs push`: its options, and what it prints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    text = "folder that `lmaczs export` or `lmaczs adapt` wrote"
    parser.add_argument("dest", type=Path, metavar="DEST", help=text)
    parser.add_argument("repo", metavar="REPO", help="owner/name on the Hub")
    text = "make a repository that only its owner sees"
    parser.add_argument("--private", action="store_true", help=text)
    text = "write into a repository that holds something else than a decoder, too"
    parser.add_argument("--force", action="store_true", help=text)


def run(args: argparse.Namespace) -> str:
    """Push the folder, and return what is to be printed."""
    from huggingface_hub.utils import disable_progress_bars

    from lmaczs.training.push import push_export

    if not sys.stderr.isatty():
        disable_progress_bars()
    done = push_export(args.dest, args.repo, args.private, args.force)
    shown = (
        f"{done.metrics} metrics on its card"
        if done.metrics
        else ("no metrics on its card: train with test clips, and export again")
    )
    return (
        f"{done.url}: {shown}\n"
        f'from_hparams("{done.repo}", revision="{done.revision}") loads this decoder, '
        f"whatever is pushed later;\nlmaczs interpret FILE --prompt TEXT "
        f"--source {done.repo} takes the latest"
    )
