"""The command `lmaczs`: a thin shell over the library.

Exit status: 0; 1 if a file or a check failed; 2 if an option cannot be used. Results
are printed on stdout, each error is a line on stderr; --verbose adds its traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lmaczs import __version__
from lmaczs.cli import adapt as adapt_command
from lmaczs.cli import corpus as corpus_command
from lmaczs.cli import export as export_command
from lmaczs.cli import interpret as interpret_command
from lmaczs.cli import prompts as prompts_command
from lmaczs.cli import push as push_command
from lmaczs.cli import recipes as recipe_commands
from lmaczs.cli import scan as scan_command
from lmaczs.cli import search as search_command
from lmaczs.cli import serve as serve_command
from lmaczs.cli.inputs import STDIN, Inputs, add_files, find_inputs
from lmaczs.cli.interpret import Explaining, options_of
from lmaczs.cli.model import add_model, identity_of, load
from lmaczs.cli.output import (
    add_force,
    add_out,
    check_page,
    out_folder,
    require_room,
    sweep_results,
    write_page,
)
from lmaczs.cli.rows import RowWriter, add_format, add_quiet
from lmaczs.cli.terminal import (
    CommandError,
    audio_warnings_to,
    complain,
    note,
    one_line,
    say,
)
from lmaczs.cli.work import FILE_ERRORS, Failure, Outcome, Task, add_jobs, each
from lmaczs.utils.ending import ended_by_sigterm, sentence_of, status_of
from lmaczs.utils.errors import LmaczsError, show_debug_messages
from lmaczs.utils.imports import collector_paused
from lmaczs.utils.naming import (
    EVENTS_PAGE,
    PAGE,
    recording_folders,
    short_names,
    unique_slugs,
)
from lmaczs.utils.spreadsheets import csv_text

if TYPE_CHECKING:
    from pandas import DataFrame

    from lmaczs.explanation import Interpretation
    from lmaczs.interpreter import Refine, ZeroShotInterpreter
    from lmaczs.report.html import PageEntry, PageOverview

Result = TypeVar("Result")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's) and return its exit status."""
    args = build_parser().parse_args(argv)
    args.own_process = argv is None
    os.environ["MPLBACKEND"] = "agg"  # a notebook's own need not be installed here
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # a file's name may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    if args.verbose:
        show_debug_messages()
    try:
        with ended_by_sigterm(), audio_warnings_to(note):
            return args.command(args)
    except KeyboardInterrupt as stop:
        complain(sentence_of(stop))
        return status_of(stop)
    except BrokenPipeError:
        # stdout is closed, e.g. by `head`; Python's last flush needs a sink
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except CommandError as error:
        complain(one_line(error), traceback.format_exc())
        return 2
    except (LmaczsError, OSError) as error:  # e.g. a full disk
        complain(one_line(error), traceback.format_exc())
        return 1
    except Exception as error:
        message = f"{type(error).__name__}: {one_line(error)}"
        trace = traceback.format_exc()
        complain(f"{message} (unexpected: --verbose shows where)", trace)
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
    _add_listening(add)
    _add_corpora(add)
    _add_surroundings(add)
    _add_training(add)
    return parser


def _add_listening(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Commands for recordings."""
    one = add(
        "interpret", interpret, "save the part of a recording that matches a prompt"
    )
    add_files(one)
    prompts_command.add_prompts(one, _text)
    add_model(one)
    _add_refine(one)
    add_out(one)
    add_force(one)
    add_format(one)
    add_jobs(one)

    one = add(
        "classify", classify, "print similarity and probability of labels, as CSV"
    )
    add_files(one)
    _add_texts(one, "--label", "one of the classes; repeat the option for each")
    add_model(one)
    add_format(one, "csv")
    add_jobs(one)

    one = add(
        "prompts", rank_prompts, "rank wordings of one idea by recordings, as CSV"
    )
    prompts_command.add_options(one)
    add_model(one)

    one = add("scan", scan, "find when prompts are present in recordings of any length")
    add_files(one)
    prompts_command.add_prompts(one, _text)
    add_model(one)
    _add_refine(one)
    add_out(one)
    scan_command.add_options(one)
    add_force(one)
    add_format(one)
    add_jobs(one)


def _add_corpora(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Commands for any number of recordings."""
    one = add("corpus", corpus, "explain any number of clips into Parquet tables")
    corpus_command.add_options(one)
    prompts_command.add_texts(one, _text)
    add_model(one)
    _add_refine(one)
    add_jobs(one)
    add_quiet(one)

    one = add("search", search, "find clips of a corpus by a text or a recording")
    search_command.add_options(one, _text)
    add_model(one)
    _add_refine(one)
    add_out(one)
    add_format(one)


def _add_surroundings(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Commands that try the model, and what it runs on."""
    one = add("demo", demo, "interpret synthetic scenes")
    add_model(one)
    _add_refine(one)
    add_out(one)

    one = add("serve", serve, "open a web app for recordings and prompts, on loopback")
    add_model(one)
    _add_refine(one)
    serve_command.add_options(one)

    one = add(
        "doctor", diagnose, "check the installation and say how to fix what is wrong"
    )
    add_model(one, clap=False)


def _add_training(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Commands that make, compare and share decoders."""
    one = add("export", export, "turn a training run into a folder that can be loaded")
    export_command.add_options(one)

    one = add("adapt", adapt, "train a decoder for any CLAP, without labels")
    adapt_command.add_options(one)

    one = add("push", push, "write an exported decoder into a repository of the Hub")
    push_command.add_options(one)

    one = add("train", train, "train a decoder by a YAML: recipes/train.py")
    recipe_commands.add_options(one)

    one = add("evaluate", evaluate, "compare decoders and methods: recipes/evaluate.py")
    recipe_commands.add_options(one)


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
    prompts = _checked(lambda: prompts_command.prompts_of(args))
    inputs = _inputs(args)
    with out_folder(args.out):
        interpreter = _load(args)
        _warn_of_prompts(interpreter, [*prompts.texts, *prompts.contrast], args.quiet)
        read = [*prompts.recordings, *_lists(args)]
        slugs = unique_slugs(prompts.names)
        check_page(args.out, [*inputs.paths, *read])
        folders = recording_folders(args.out, dict.fromkeys(inputs.paths, slugs), read)
        sweep_results(folders.values())
        model = identity_of(interpreter)
        task = Explaining(
            prompts,
            args.refine,
            options_of(prompts, args.refine, model),
            folders,
            short_names(folders),
            args.channel,
            args.strict,
            args.force,
            progress=not args.quiet and args.jobs == 1,
        )
        columns = interpret_command.COLUMNS if args.format == "csv" else None
        return _each(args, inputs, task, interpreter, columns)


def classify(args: argparse.Namespace) -> int:
    """Print similarity and probability of every label for every file."""
    inputs = _inputs(args)
    interpreter = _load(args)
    labels = list(dict.fromkeys(args.labels))
    _warn_of_prompts(interpreter, labels, args.quiet)
    columns = "file", "label", "similarity", "probability"
    task = partial(_classified, labels, args.channel, args.strict)
    return _each(args, inputs, task, interpreter, columns)


def _classified(
    labels: list[str],
    channel: int | None,
    strict: bool,
    interpreter: ZeroShotInterpreter,
    path: Path,
) -> Outcome:
    """Similarity and probability of every label for a file."""
    table = interpreter.classify_file(path, labels, channel=channel, strict=strict)
    return Outcome(rows=table.assign(file=str(path)).to_dict("records"))


def rank_prompts(args: argparse.Namespace) -> int:
    """Print how well the model understands each wording of an idea."""
    from lmaczs.prompts import read_prompts
    from lmaczs.vocabulary import vocabulary_line

    prompts = _checked(lambda: read_prompts(args.prompts))
    inputs = _inputs(args)
    manifest = _checked(lambda: prompts_command.manifest_of(inputs.paths, args))
    interpreter = _load(args)
    _warn_of_prompts(interpreter, prompts)
    header = True

    def show(_: Path, table: DataFrame) -> None:
        nonlocal header
        text = csv_text(table, header=header, float_format="%.6f")
        print(text, end="", flush=True)
        header = False

    def work(path: Path) -> DataFrame:
        if path == manifest:
            rank = prompts_command.rank_on_manifest
            return rank(interpreter, path, args.label, prompts)
        reading = {"channel": args.channel, "strict": args.strict}
        return interpreter.rank_prompts([path], prompts, **reading)

    for problem in inputs.problems:
        complain(problem)
    status = int(bool(inputs.problems))
    for path in inputs.paths:
        try:
            show(path, work(path))
        except FILE_ERRORS as error:
            complain(one_line(error, path), traceback.format_exc())
            status = 1
    note(f"text tower: {vocabulary_line(interpreter.clap)}")
    return status


def scan(args: argparse.Namespace) -> int:
    """Find events: print a line for each recording, write tables and a page."""
    prompts = _checked(lambda: prompts_command.prompts_of(args))
    inputs = _inputs(args)
    with out_folder(args.out):
        interpreter = _load(args)
        _warn_of_prompts(interpreter, [*prompts.texts, *prompts.contrast], args.quiet)
        rule = _checked(lambda: scan_command.rule_of(args))
        read = [*prompts.recordings, *_lists(args)]
        check_page(args.out, [*inputs.paths, *read], EVENTS_PAGE)
        folders = scan_command.event_folders(args.out, inputs.paths, read)
        if args.tables_only:  # an earlier page's sounds are removed with its folders
            (args.out / EVENTS_PAGE).unlink(missing_ok=True)
        task = scan_command.Scanning(
            prompts,
            args.refine,
            rule,
            options_of(prompts, args.refine, identity_of(interpreter)),
            folders,
            short_names(folders),
            sounds=not args.tables_only,
            channel=args.channel,
            strict=args.strict,
            force=args.force,
            progress=not args.quiet and args.jobs == 1,
        )
        return _each(args, inputs, task, interpreter, scan_command.COLUMNS)


def corpus(args: argparse.Namespace) -> int:
    """Explain clips into tables, block by block; what is done is left out."""
    _checked(lambda: corpus_command.check(args))
    prompts = _checked(lambda: prompts_command.texts_of(args))
    clips = _checked(lambda: corpus_command.clips_of(args))
    args.source, args.clap = map(corpus_command.anywhere, (args.source, args.clap))
    with corpus_command.held(args.out):
        interpreter = _load(args)
        _warn_of_prompts(interpreter, prompts, args.quiet)
        return corpus_command.run(args, interpreter, _loader(args), prompts, clips)


def search(args: argparse.Namespace) -> int:
    """Print the clips of a corpus that are nearest to what is searched for."""
    from lmaczs.corpus.store import require_corpus

    _checked(require_corpus)
    interpreter = _load(args)
    _warn_of_prompts(interpreter, args.texts, args.quiet)
    query = _checked(lambda: search_command.query_of(args, interpreter))
    found = _checked(lambda: search_command.find(args, interpreter, query))
    search_command.show(args, query, found)
    if not args.explain:
        return 0
    return search_command.explain(args, interpreter, query, found)


def demo(args: argparse.Namespace) -> int:
    """Interpret every synthetic scene for two present prompts and an absent one."""
    with out_folder(args.out):
        return _demo(args)


def _demo(args: argparse.Namespace) -> int:
    interpreter = _load(args)
    from lmaczs.demo.scenes import write_scenes
    from lmaczs.report.recording import page_entries, save_recording

    written = write_scenes(args.out / "scenes", interpreter.sample_rate)
    scenes = {path: scene for scene, path in written}
    prompts = {
        path: [*scene.prompts, scene.absent_prompt] for path, scene in scenes.items()
    }
    slugs = {path: unique_slugs(names) for path, names in prompts.items()}
    check_page(args.out, slugs)
    folders = recording_folders(args.out, slugs)
    entries: list[PageEntry] = []
    row = "{:24} {:24} {:>9} {:>10} {:>10} {:>10} {:>9}  {}".format
    head = "scene", "prompt", "presence", "similarity", "masked"
    say(row(*head, "mean mask", "mel area", "verdict"))
    for path, scene in scenes.items():
        results = interpreter.interpret_file(path, prompts[path], refine=args.refine)
        interpret_command.note_unfinished(folders[path])
        save_recording(folders[path], results)
        record = results[0].to_dict()
        for text in interpret_command.warnings_of(interpreter, path, record):
            note(text)
        entries.extend(page_entries(folders[path], results, path.name))
        shown = [*scene.prompts, f"{scene.absent_prompt} (absent)"]
        for name, one in zip(shown, results, strict=True):
            say(row(scene.name, name, *_cells(one)))
    if page := write_page(args.out, entries, args.single_file):
        say(f"\nOpen this page to see and play them: {page}")
    return 0


def diagnose(args: argparse.Namespace) -> int:
    """Print what was found, and how to fix what is wrong."""
    from lmaczs.cli.doctor import examine

    checks = examine(args.source, args.device, args.trust_remote_code)
    for check in checks:
        say(f"{'WRONG' if check.fix else 'ok':7} {check.subject}: {check.finding}")
        if check.fix:
            say(f"{'':7} -> {check.fix}")
    return int(any(check.fix for check in checks))


def export(args: argparse.Namespace) -> int:
    """Write a training run's best decoder as a folder that can be loaded."""
    say(export_command.run(args))
    return 0


def serve(args: argparse.Namespace) -> int:
    """Serve the app until it is stopped."""
    from lmaczs.app.server import require_app, serve_app

    _checked(require_app)
    limits = _checked(lambda: serve_command.limits_of(args))
    interpreter = _load(args)

    def started(address: str) -> None:
        say(f"{address} (Ctrl-C stops it)")

    serve_app(interpreter, limits, args.refine, args.host, args.port, started)
    return 0


def adapt(args: argparse.Namespace) -> int:
    """Train a decoder for a CLAP and print how it does on held-out clips."""
    say(adapt_command.run(args))
    return 0


def push(args: argparse.Namespace) -> int:
    """Write an exported decoder into a repository of the Hub."""
    say(push_command.run(args))
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
        raise CommandError(one_line(error)) from error
    return 0


def _loader(args: argparse.Namespace) -> Callable[[], ZeroShotInterpreter]:
    """What loads that model, here or in another process."""
    options = args.device, args.revision, args.trust_remote_code, args.precision
    return partial(load, args.source, args.clap, *options)


def _load(args: argparse.Namespace) -> ZeroShotInterpreter:
    """Load --source or --clap on --device, or raise a CommandError."""
    with collector_paused(keep=args.own_process):
        return _loader(args)()


def _checked(read: Callable[[], Result]) -> Result:
    """Result of reading options; a mistake in them is a CommandError."""
    try:
        return read()
    except LmaczsError as error:
        raise CommandError(one_line(error)) from error


def _inputs(args: argparse.Namespace) -> Inputs:
    """Recordings that the command line names, or a CommandError if there is none."""
    return _checked(lambda: find_inputs(args.files, args.files_from))


def _lists(args: argparse.Namespace) -> list[Path]:
    """Files other than recordings that are read."""
    with_prompts = args.command in (interpret, scan)
    lists = [args.files_from, args.prompts if with_prompts else None]
    return [Path(name) for name in lists if name not in (None, STDIN)]


def _warn_of_prompts(
    interpreter: ZeroShotInterpreter, prompts: list[str], quiet: bool = False
) -> None:
    """Print what is doubtful about prompts; refuse those that cannot be used."""
    for prompt in prompts:
        found = _checked(partial(interpreter.prompt_warnings, prompt))
        for text in () if quiet else found:
            note(f"{prompt!r}: {text}")


def _each(
    args: argparse.Namespace,
    inputs: Inputs,
    task: Task,
    interpreter: ZeroShotInterpreter,
    columns: Sequence[str] | None,
) -> int:
    """Do a task for every recording, and print, and show, what comes of it.

    One that fails is a line on stderr and status 1. The page has what was done.
    """
    for problem in inputs.problems:
        complain(problem)
    status = int(bool(inputs.problems))
    loader = _loader(args)
    entries: list[PageEntry | PageOverview] = []
    with contextlib.ExitStack() as stack:
        writer = None
        if args.format is not None:
            writer = stack.enter_context(RowWriter(args.format, columns))
        if "out" in args:
            page = EVENTS_PAGE if args.command is scan else PAGE
            given = args.out, entries, args.single_file, page
            stack.callback(lambda: write_page(*given))
        for path, found in each(inputs.paths, task, interpreter, loader, args.jobs):
            if isinstance(found, Failure):
                complain(found.sentence, found.trace)
                status = 1
                if "out" in args:
                    require_room(args.out, found)
                continue
            entries.extend(found.entries)
            if writer is not None:
                writer.write(found.rows)
            elif not args.quiet:
                say(f"{path}: {found.line}")
            for text in () if args.quiet else found.notes:
                note(text)
    return status


def _cells(one: Interpretation) -> tuple[str, ...]:
    """Presence, similarities, mask sizes and verdict, as `demo` prints them."""
    from lmaczs.report.words import percent

    masked = "empty" if one.empty else interpret_command.number(one.masked_similarity)
    sizes = (
        interpret_command.number(float(one.mask.mean())),
        interpret_command.number(one.mel_area),
    )
    similarities = interpret_command.number(one.similarity), masked
    return percent(one.presence), *similarities, *sizes, one.verdict or ""
