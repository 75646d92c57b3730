"""The command `lmaczs adapt`: its options, and what it prints."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("clap", metavar="CLAP", help="a folder or a Hub id")
    text = "commit, tag or branch, where CLAP is a Hub id; DEST has a copy of it"
    parser.add_argument("--revision", metavar="REV", help=text)
    parser.add_argument("dest", type=Path, metavar="DEST", help="the decoder's folder")
    text = "recordings without labels: a folder, or a manifest (default: sounds that "
    text += "are made)"
    parser.add_argument("--data", type=Path, metavar="FOLDER|MANIFEST", help=text)
    text = "vocabulary, a prompt a line (default: the names of AudioSet's classes)"
    parser.add_argument("--prompts", type=Path, metavar="FILE", help=text)
    for name, default, text in (
        ("--epochs", 20, "passes over the clips"),
        ("--clips", 480, "most clips; so many sounds are made"),
        ("--batch-size", 8, "clips a step; fewer need less memory"),
        ("--seed", 1234, "of everything that is drawn"),
    ):
        text += " (default: %(default)s)"
        parser.add_argument(name, type=int, default=default, metavar="N", help=text)
    text = "folder for what is half-done, from which the same command resumes "
    parser.add_argument("--run", type=Path, help=text + "(default: DEST-run)")
    text = "cpu, cuda, cuda:1 or mps (default: cuda where there is one, else cpu)"
    parser.add_argument("--device", help=text)
    text = "you trust who made the CLAP: its pickles are read"
    parser.add_argument("--trust-remote-code", action="store_true", help=text)
    text = "replace a decoder at DEST"
    parser.add_argument("--force", action="store_true", help=text)
    text = "resume in a run folder that was begun with something else"
    parser.add_argument("--resume-anyway", action="store_true", help=text)


def run(args: argparse.Namespace) -> str:
    """Make the decoder, and return what is to be printed."""
    from transformers.utils.logging import disable_progress_bar

    from lmaczs.training.adapt import AdaptOptions, adapt
    from lmaczs.training.held_out import held_out_text

    disable_progress_bar()
    options = AdaptOptions(
        data=args.data,
        prompts=args.prompts,
        run_folder=args.run,
        epochs=args.epochs,
        clips=args.clips,
        batch_size=args.batch_size,
        device=args.device,
        seed=args.seed,
        force=args.force,
        resume_anyway=args.resume_anyway,
        trust_remote_code=args.trust_remote_code,
        revision=args.revision,
    )
    made = adapt(args.clap, args.dest, options)
    table = held_out_text(made.rows, made.clips, made.classes)
    hint = f"try lmaczs interpret FILE --prompt TEXT --source {made.dest}"
    return f"{table}\n\n{made.dest}: {hint}; {made.run_folder} may be removed"
