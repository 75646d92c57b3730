"""The command `lmaczs export`: its options, and what it prints."""

from __future__ import annotations

import argparse
from pathlib import Path

from lmaczs.cli.model import load
from lmaczs.cli.terminal import CommandError, one_line
from lmaczs.utils.errors import LmaczsError

DEFAULT = "default"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    text = f"of a training run; with --onnx any model, {DEFAULT}: the embedded one"
    parser.add_argument("run_folder", type=Path, metavar="RUN_FOLDER", help=text)
    parser.add_argument("dest", type=Path, metavar="DEST", help="folder to be written")
    text = "write ONNX graphs instead, for programs without torch"
    parser.add_argument("--onnx", action="store_true", help=text)
    text = "text whose embedding --onnx stores, too; can be repeated"
    parser.add_argument("--prompt", action="append", default=[], help=text)
    text = "replace DEST where it is an export of another run"
    parser.add_argument("--force", action="store_true", help=text)


def run(args: argparse.Namespace) -> str:
    """Export a run or model, and return what is to be printed."""
    if args.prompt and not args.onnx:
        raise CommandError("--prompt is for --onnx: other exports read any prompt")
    try:
        return _as_onnx(args) if args.onnx else _as_folder(args)
    except (LmaczsError, OSError) as error:
        raise CommandError(one_line(error)) from error


def _as_folder(args: argparse.Namespace) -> str:
    from lmaczs.training.export import export_run

    dest = export_run(args.run_folder, args.dest, args.force)
    return f"{dest}: try lmaczs interpret FILE --prompt TEXT --source {dest}"


def _as_onnx(args: argparse.Namespace) -> str:
    from tempfile import TemporaryDirectory

    from lmaczs.onnx_export import export_onnx
    from lmaczs.training.export import export_run

    with TemporaryDirectory() as folder:
        source = None if str(args.run_folder) == DEFAULT else str(args.run_folder)
        if (args.run_folder / "save").is_dir():
            source = str(export_run(args.run_folder, Path(folder, "export")))
        interpreter = load(source, None, "cpu")
        assert interpreter.decoder is not None  # only from_clap has none
        dest = export_onnx(
            interpreter.clap,
            interpreter.decoder,
            args.dest,
            interpreter.hparams.template,
            interpreter.hparams.model_name,
            args.prompt,
            args.force,
        )
    return f"{dest}: try python docs/onnx_explain.py {dest} FILE PROMPT OUT.wav"
