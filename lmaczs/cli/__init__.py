"""The command `lmaczs`: a thin shell over the library.

Exit status: 0; 1 if a file or a check failed; 2 if an option cannot be used. Results
are printed on stdout, each error is a line on stderr; --verbose adds its traceback.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lmaczs import __version__
from lmaczs.cli import adapt as adapt_command
from lmaczs.cli import prompts as prompts_command
from lmaczs.cli import push as push_command
from lmaczs.cli import recipes as recipe_commands
from lmaczs.cli import scan as scan_command
from lmaczs.cli import serve as serve_command
from lmaczs.utils.errors import LmaczsError, show_debug_messages
from lmaczs.utils.naming import (
    PAGE,
    Recordings,
    is_other_page,
    recording_folders,
    short_names,
    unique_slugs,
)

if TYPE_CHECKING:
    from pandas import DataFrame

    from lmaczs.explanation import Interpretation
    from lmaczs.interpreter import Refine, ZeroShotInterpreter
    from lmaczs.report.html import PageEntry

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# A longer recording is explained block by block, and is not on the page.
LONG_SECONDS = 300

# Errors after which the next file is tried: it may be readable, or shorter.
FILE_ERRORS = (LmaczsError, OSError, RuntimeError, MemoryError)


class CommandError(LmaczsError):
    """A command line that cannot be run: the option, the reason and the fix."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's) and return its exit status."""
    args = build_parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # a file's name may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    if args.verbose:
        show_debug_messages()
    try:
        return args.command(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # stdout is closed, e.g. by `head`; Python's last flush needs a sink
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except CommandError as error:
        _complain(_one_line(error), error)
        return 2
    except (LmaczsError, OSError) as error:  # e.g. a full disk
        _complain(_one_line(error), error)
        return 1
    except Exception as error:
        message = f"{type(error).__name__}: {_one_line(error)}"
        _complain(f"{message} (unexpected: --verbose shows where)", error)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line; its result has the function as ``command``."""
    parser = argparse.ArgumentParser(
        prog="lmaczs",
        description="Hear what a zero-shot audio classifier (CLAP) listened to.",
        allow_abbrev=False,
    )
    version = f"lmaczs {__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = partial(_add_command, commands)

    one = add(
        "interpret", interpret, "save the part of a recording that matches a prompt"
    )
    _add_files(one)
    prompts_command.add_prompts(one, _text)
    _add_model(one)
    _add_refine(one)
    _add_out(one)

    one = add(
        "classify", classify, "print similarity and probability of labels, as CSV"
    )
    _add_files(one)
    _add_texts(one, "--label", "one of the classes; repeat the option for each")
    _add_model(one)

    one = add(
        "prompts", rank_prompts, "rank wordings of one idea by recordings, as CSV"
    )
    prompts_command.add_options(one)
    _add_model(one)

    one = add("scan", scan, "find when prompts are present in recordings of any length")
    _add_files(one)
    _add_texts(one, "--prompt", "label or sentence; repeat the option for more")
    _add_model(one)
    _add_refine(one)
    _add_out(one)
    scan_command.add_options(one)

    one = add("demo", demo, "interpret synthetic scenes")
    _add_model(one)
    _add_refine(one)
    _add_out(one)

    one = add("serve", serve, "open a web app for recordings and prompts, on loopback")
    _add_model(one)
    _add_refine(one)
    serve_command.add_options(one)

    one = add(
        "doctor", diagnose, "check the installation and say how to fix what is wrong"
    )
    _add_model(one, clap=False)

    one = add("export", export, "turn a training run into a folder that can be loaded")
    one.add_argument("run_folder", type=Path, metavar="RUN_FOLDER")
    one.add_argument("dest", type=Path, metavar="DEST")
    text = "replace DEST where it is an export of another run"
    one.add_argument("--force", action="store_true", help=text)

    one = add("adapt", adapt, "train a decoder for any CLAP, without labels")
    adapt_command.add_options(one)

    one = add("push", push, "write an exported decoder into a repository of the Hub")
    push_command.add_options(one)

    one = add("train", train, "train a decoder by a YAML: recipes/train.py")
    recipe_commands.add_options(one)

    one = add("evaluate", evaluate, "compare decoders and methods: recipes/evaluate.py")
    recipe_commands.add_options(one)
    return parser


def _add_command(
    commands: Any, name: str, command: Callable, summary: str
) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, allow_abbrev=False
    )
    added.set_defaults(command=command)
    text = "show the traceback of an error, and debug messages"
    added.add_argument("--verbose", action="store_true", help=text)
    return added


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")


def _add_model(parser: argparse.ArgumentParser, clap: bool = True) -> None:
    model = parser.add_mutually_exclusive_group()
    text = "folder that `lmaczs export` wrote, or a Hub id (default: the embedded one)"
    model.add_argument("--source", help=text)
    if clap:
        text = "any CLAP, without a decoder: a folder or a Hub id; masks are fitted"
        model.add_argument("--clap", metavar="ID", help=text)
    text = "cpu, cuda, cuda:1 or mps (default: cuda where there is one, else cpu)"
    parser.add_argument("--device", help=text)


def _add_refine(parser: argparse.ArgumentParser) -> None:
    text = (
        "auto: improve masks that are not faithful by gradient steps; off: none; "
        "N: all masks, in N steps (default: %(default)s)"
    )
    parser.add_argument("--refine", type=_refine, default="auto", help=text)


def _refine(value: str) -> Refine:
    if value == "auto":
        return "auto"
    if value == "off":
        return 0
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r} is not auto, off or a number")
    return int(value)


def _add_out(parser: argparse.ArgumentParser) -> None:
    text = "folder for the results and their page (default: %(default)s)"
    parser.add_argument("--out", type=Path, default=Path("out"), help=text)
    text = "put pictures and sounds into the page itself, which can then be sent alone"
    parser.add_argument("--single-file", action="store_true", help=text)


def _add_texts(parser: argparse.ArgumentParser, option: str, text: str) -> None:
    """Add an option that is required and may be repeated."""
    name = option.removeprefix("--")
    parser.add_argument(
        option,
        dest=f"{name}s",
        metavar=name.upper(),
        action="append",
        required=True,
        type=_text,
        help=text,
    )


def _text(value: str) -> str:
    if not value.strip():
        raise argparse.ArgumentTypeError("it is empty: give one word or more")
    return value


# --- commands -----------------------------------------------------------------------


def interpret(args: argparse.Namespace) -> int:
    """Explain recordings: print a line for each and write a page of all."""
    from lmaczs.report.recording import page_entries, save_recording

    try:
        prompts = prompts_command.prompts_of(args)
    except LmaczsError as error:
        raise CommandError(_one_line(error)) from error
    _make_folder(args.out)
    interpreter = _load(args)
    _warn_of_prompts(interpreter, [*prompts.texts, *prompts.contrast])
    folders = _folders(
        args.out, dict.fromkeys(args.files, prompts.names), prompts.recordings
    )
    names = short_names(folders)
    entries: list[PageEntry] = []

    def work(path: Path) -> str:
        start = time.perf_counter()
        if _is_long(path) and not (prompts.recordings or prompts.contrast):
            texts = list(prompts.texts)
            records = _explain_long(interpreter, path, texts, folders[path], args)
        else:
            results = prompts_command.explain(interpreter, path, prompts, args.refine)
            save_recording(folders[path], results)
            _note_warnings(interpreter, path, results[0])
            entries.extend(page_entries(folders[path], results, names[path]))
            records = [one.to_dict() for one in results]
        found = "; ".join(map(_finding, records))
        return f"{found} ({time.perf_counter() - start:.1f} s)"

    try:
        return _each(folders, work, lambda path, line: _say(f"{path}: {line}"))
    finally:
        _write_page(args.out, entries, args.single_file)


def classify(args: argparse.Namespace) -> int:
    """Print similarity and probability of every label for every file."""
    interpreter = _load(args)
    labels = list(dict.fromkeys(args.labels))
    _warn_of_prompts(interpreter, labels)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "label", "similarity", "probability"])

    def show(path: Path, rows: Iterable[tuple[str, float, float]]) -> None:
        for label, similarity, probability in rows:
            writer.writerow([path, label, f"{similarity:.6f}", f"{probability:.6f}"])
        sys.stdout.flush()

    def work(path: Path) -> list[tuple[str, float, float]]:
        table = interpreter.classify_file(path, labels)
        columns = table[["label", "similarity", "probability"]]
        return list(columns.itertuples(index=False, name=None))

    return _each(dict.fromkeys(args.files), work, show)


def rank_prompts(args: argparse.Namespace) -> int:
    """Print how well the model understands each wording of an idea."""
    from lmaczs.prompts import read_prompts
    from lmaczs.vocabulary import vocabulary_line

    try:
        prompts = read_prompts(args.prompts)
        manifest = prompts_command.manifest_of(args.files, args.label)
    except LmaczsError as error:
        raise CommandError(_one_line(error)) from error
    interpreter = _load(args)
    _warn_of_prompts(interpreter, prompts)
    header = True

    def show(_: Path, table: DataFrame) -> None:
        nonlocal header
        text = table.to_csv(index=False, header=header, float_format="%.6f")
        print(text, end="", flush=True)
        header = False

    def work(path: Path) -> DataFrame:
        if path == manifest:
            rank = prompts_command.rank_on_manifest
            return rank(interpreter, path, args.label, prompts)
        return interpreter.rank_prompts([path], prompts)

    status = _each(dict.fromkeys(args.files), work, show)
    _note(f"text tower: {vocabulary_line(interpreter.clap)}")
    return status


def scan(args: argparse.Namespace) -> int:
    """Find events: print a line for each recording, write tables and a page."""
    _make_folder(args.out)
    interpreter = _load(args)
    prompts = list(dict.fromkeys(args.prompts))
    _warn_of_prompts(interpreter, prompts)
    try:
        rule = scan_command.rule_of(args)
    except LmaczsError as error:
        raise CommandError(_one_line(error)) from error
    files = list(dict.fromkeys(args.files))
    _check_page(args.out, files)
    folders = scan_command.event_folders(args.out, files)
    entries: list[PageEntry] = []

    def work(path: Path) -> str:
        begin = time.perf_counter()
        found = interpreter.explain_events(path, prompts, args.refine, rule, True)
        table, shown = scan_command.write_events(
            interpreter, path, found, folders[path], not args.tables_only
        )
        entries.extend(shown)
        counts = "; ".join(scan_command.counts_of(table, prompts))
        return f"{counts} ({time.perf_counter() - begin:.1f} s) -> {folders[path]}"

    try:
        return _each(folders, work, lambda path, line: _say(f"{path}: {line}"))
    finally:
        _write_page(args.out, entries, args.single_file)


def demo(args: argparse.Namespace) -> int:
    """Interpret every synthetic scene for two present prompts and an absent one."""
    _make_folder(args.out)
    interpreter = _load(args)
    from lmaczs.demo.scenes import write_scenes
    from lmaczs.report.recording import page_entries, save_recording

    written = write_scenes(args.out / "scenes", interpreter.sample_rate)
    scenes = {path: scene for scene, path in written}
    prompts = {
        path: [*scene.prompts, scene.absent_prompt] for path, scene in scenes.items()
    }
    folders = _folders(args.out, prompts)
    entries: list[PageEntry] = []
    row = "{:24} {:24} {:>9} {:>10} {:>10} {:>10} {:>9}  {}".format

    def work(path: Path) -> list[str]:
        scene = scenes[path]
        results = interpreter.interpret_file(path, prompts[path], refine=args.refine)
        save_recording(folders[path], results)
        _note_warnings(interpreter, path, results[0])
        entries.extend(page_entries(folders[path], results, path.name))
        shown = [*scene.prompts, f"{scene.absent_prompt} (absent)"]
        return [
            row(scene.name, name, *_cells(one))
            for name, one in zip(shown, results, strict=True)
        ]

    head = "scene", "prompt", "presence", "similarity", "masked"
    _say(row(*head, "mean mask", "mel area", "verdict"))
    status = _each(scenes, work, lambda path, rows: _say("\n".join(rows)))
    if page := _write_page(args.out, entries, args.single_file):
        _say(f"\nOpen this page to see and play them: {page}")
    return status


def diagnose(args: argparse.Namespace) -> int:
    """Print what was found, and how to fix what is wrong."""
    from lmaczs.cli.doctor import examine

    checks = examine(args.source, args.device)
    for check in checks:
        _say(f"{'WRONG' if check.fix else 'ok':7} {check.subject}: {check.finding}")
        if check.fix:
            _say(f"{'':7} -> {check.fix}")
    return int(any(check.fix for check in checks))


def export(args: argparse.Namespace) -> int:
    """Write a training run's best decoder as a folder that can be loaded."""
    from lmaczs.training.export import ExportError, export_run

    try:
        dest = export_run(args.run_folder, args.dest, args.force)
    except (ExportError, OSError) as error:
        raise CommandError(_one_line(error)) from error
    _say(f"{dest}: try lmaczs interpret FILE --prompt TEXT --source {dest}")
    return 0


def serve(args: argparse.Namespace) -> int:
    """Serve the app until it is stopped."""
    from lmaczs.app.server import require_app, serve_app

    try:
        require_app()
        limits = serve_command.limits_of(args)
    except LmaczsError as error:
        raise CommandError(_one_line(error)) from error
    interpreter = _load(args)

    def started(address: str) -> None:
        _say(f"{address} (Ctrl-C stops it)")

    serve_app(interpreter, limits, args.refine, args.host, args.port, started)
    return 0


def adapt(args: argparse.Namespace) -> int:
    """Train a decoder for a CLAP and print how it does on held-out clips."""
    _say(adapt_command.run(args))
    return 0


def push(args: argparse.Namespace) -> int:
    """Write an exported decoder into a repository of the Hub."""
    _say(push_command.run(args))
    return 0


def train(args: argparse.Namespace) -> int:
    """Train a decoder as recipes/train.py does."""
    return _run_recipe(args, "train")


def evaluate(args: argparse.Namespace) -> int:
    """Evaluate decoders as recipes/evaluate.py does."""
    return _run_recipe(args, "evaluate")


# --- parts of them ------------------------------------------------------------------


def _run_recipe(args: argparse.Namespace, name: str) -> int:
    try:
        recipe_commands.run(args, name)
    except LmaczsError as error:
        raise CommandError(_one_line(error)) from error
    return 0


def _load(args: argparse.Namespace) -> ZeroShotInterpreter:
    """Load --source or --clap on --device, or raise a CommandError."""
    source, clap, device = args.source, args.clap, args.device
    try:
        import torch
        from transformers.utils.logging import disable_progress_bar

        from lmaczs.interpreter import ZeroShotInterpreter
    except (ImportError, OSError, RuntimeError) as error:
        # OSError and RuntimeError come from a torchaudio built for another torch
        raise CommandError(
            f"a package cannot be imported: {_one_line(error)}; see `lmaczs doctor`"
        ) from error
    disable_progress_bar()
    run_opts = {}
    if device is not None:
        try:
            run_opts["device"] = torch.zeros(1, device=device).device
        except (RuntimeError, AssertionError) as error:
            raise CommandError(
                f"--device {device}: {_one_line(error)}; `lmaczs doctor` lists devices"
            ) from error
    try:
        if clap is not None:
            return ZeroShotInterpreter.from_clap(clap, run_opts=run_opts)
        return ZeroShotInterpreter.from_hparams(source, run_opts=run_opts)
    except Exception as error:  # hyperparams.yaml may name any code, which may fail
        reason = f"--source {source}: {_one_line(error)}"
        if clap is not None:
            reason = f"--clap {clap}: {_one_line(error)}"
        elif source is None:
            reason = f"the embedded default: {_one_line(error)}; see `lmaczs doctor`"
        raise CommandError(reason) from error


def _note_warnings(
    interpreter: ZeroShotInterpreter, path: Path, one: Interpretation
) -> None:
    """Print what is doubtful about a recording; of prompts it was printed before."""
    own = () if one.prompt_audio else interpreter.prompt_warnings(one.prompt)
    others = [
        text for name in one.contrast for text in interpreter.prompt_warnings(name)
    ]
    for text in one.warnings[len(own) + len(others) :]:
        _note(f"{path}: {text}")


def _is_long(path: Path) -> bool:
    """Whether a recording is explained block by block, as its header states it."""
    from lmaczs.data.lists import seconds_of

    return (seconds_of(path) or 0) > LONG_SECONDS


def _explain_long(
    interpreter: ZeroShotInterpreter,
    path: Path,
    prompts: list[str],
    folder: Path,
    args: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Explain a long recording block by block; return what explanation.json holds."""
    interpreter.interpret_to(folder, path, prompts, refine=args.refine, progress=True)
    _note(
        f"{path} is longer than {LONG_SECONDS} s: its explanations are in {folder}, "
        "not on the page; `lmaczs scan` finds its events"
    )
    places = [folder / slug / "explanation.json" for slug in unique_slugs(prompts)]
    return [json.loads(place.read_text("utf-8")) for place in places]


def _warn_of_prompts(interpreter: ZeroShotInterpreter, prompts: list[str]) -> None:
    """Print what is doubtful about prompts; refuse those that cannot be used."""
    for prompt in prompts:
        try:
            found = interpreter.prompt_warnings(prompt)
        except LmaczsError as error:
            raise CommandError(_one_line(error)) from error
        for text in found:
            _note(f"{prompt!r}: {text}")


def _finding(record: Mapping[str, Any]) -> str:
    """One prompt's part of a line of `interpret`, from what explanation.json holds."""
    from lmaczs.report.words import verdict_words

    masked = f" -> {_number(record['masked_similarity'])}"
    numbers = f"{record['similarity']:.3f}"
    numbers += ", empty mask" if record["empty"] else masked
    return f"{record['prompt']}: {verdict_words(record)} (similarity {numbers})"


def _cells(one: Interpretation) -> tuple[str, ...]:
    """Presence, similarities, mask sizes and verdict, as `demo` prints them."""
    from lmaczs.report.words import percent

    masked = "empty" if one.empty else _number(one.masked_similarity)
    sizes = _number(float(one.mask.mean())), _number(one.mel_area)
    similarities = _number(one.similarity), masked
    return percent(one.presence), *similarities, *sizes, one.verdict or ""


def _number(value: float | None) -> str:
    """Three decimals, or "none" for a sound that is silence to the model."""
    return "none" if value is None else f"{value:.3f}"


def _each(
    files: Iterable[Path],
    work: Callable[[Path], Result],
    show: Callable[[Path, Result], None],
) -> int:
    """Process every file; one that fails is a line on stderr and status 1."""
    status = 0
    for path in files:
        try:
            result = work(path)
        except FILE_ERRORS as error:
            _complain(_one_line(error, path), error)
            status = 1
        else:
            show(path, result)
    return status


def _folders(
    out: Path, prompts: Mapping[Path, list[str]], inputs: Iterable[Path] = ()
) -> dict[Path, Path]:
    """Result folder of each recording; none, nor `out`, may overwrite what is read."""
    _check_page(out, [*prompts, *inputs])
    slugs = {path: unique_slugs(names) for path, names in prompts.items()}
    return recording_folders(out, slugs, inputs)


def _check_page(out: Path, files: Iterable[Path]) -> None:
    """Raise a CommandError where the page would replace a file that is not ours."""
    if out / PAGE in Recordings(files):
        raise CommandError(
            f"--out {out}: its {PAGE} is one of the recordings, and the page would "
            "replace it; name another folder"
        )
    if is_other_page(out / PAGE):
        raise CommandError(
            f"--out {out}: its {PAGE} was not written by lmaczs, and the page would "
            "replace it; name another folder"
        )


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"--out {out}: {error.strerror}; name a folder that can be written"
        ) from error


def _write_page(out: Path, entries: list[PageEntry], single_file: bool) -> Path | None:
    """Write index.html, unless nothing was explained."""
    if not entries:
        return None
    from lmaczs.report.html import write_page

    return write_page(out, entries, single_file)


def _one_line(error: Exception, path: Path | None = None) -> str:
    """Error message on one line, preceded by the file unless it names it."""
    text = " ".join(str(error).split()) or type(error).__name__
    if path is None or text.startswith(f"{path}:"):
        return text
    return f"{path}: {type(error).__name__}: {text}"


def _say(text: str) -> None:
    print(text, flush=True)


def _note(message: str) -> None:
    """Print what is no error on stderr."""
    print(f"lmaczs: note: {message}", file=sys.stderr, flush=True)


def _complain(message: str, error: Exception) -> None:
    print(f"lmaczs: {message}", file=sys.stderr, flush=True)
    logger.debug("traceback", exc_info=error)
