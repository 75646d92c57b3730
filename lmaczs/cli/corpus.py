"""`lmaczs corpus`: clips of a manifest, or recordings, explained into Parquet."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lmaczs.cli.inputs import add_list, find_inputs, read_list
from lmaczs.cli.interpret import entries_of
from lmaczs.cli.model import identity_of
from lmaczs.cli.output import check_page, out_folder, write_page
from lmaczs.cli.terminal import CommandError, complain, note, one_line, say
from lmaczs.cli.work import positive
from lmaczs.utils.errors import InputError, LmaczsError
from lmaczs.utils.naming import PAGE, SAVED

if TYPE_CHECKING:
    import pyarrow as pa

    from lmaczs.corpus.engines import Counts, Lost, MakeWork, Work
    from lmaczs.corpus.run import Corpus, Loader
    from lmaczs.corpus.store import Store
    from lmaczs.interpreter import ZeroShotInterpreter
    from lmaczs.report.html import PageEntry

ENGINES = ("local", "ray")
BLOCK_CLIPS = 64


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command, beside model, prompts and refinement."""
    text = (
        "a manifest (CSV or Parquet), or recordings, folders and patterns; "
        "or URLs of them, such as s3://bucket/folder/"
    )
    parser.add_argument("files", nargs="*", metavar="MANIFEST", help=text)
    add_list(parser)
    text = "folder or URL of the tables; an interrupted corpus in it is resumed"
    parser.add_argument("--out", required=True, metavar="DIR", help=text)
    text = "processes of this machine, or actors of Ray (default: %(default)s)"
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0], help=text)
    text = "of a Ray cluster (default: one on this machine, for this command)"
    parser.add_argument("--address", help=text)
    text = "clips that are written, lost and done again together (default: %(default)s)"
    parser.add_argument(
        "--block-clips", type=positive, default=BLOCK_CLIPS, metavar="N", help=text
    )
    text = "keep sound and picture of explanations of which this is true: "
    parser.add_argument(
        "--keep", metavar="CONDITION", help=text + "'presence > 0.9 and mass < 0.2'"
    )
    text = "do not search for events, which takes a second look at long clips"
    parser.add_argument("--no-events", action="store_true", help=text)


def check(args: argparse.Namespace) -> None:
    """Check what the command needs before a model is loaded."""
    from lmaczs.corpus.keep import Keep
    from lmaczs.corpus.store import require_corpus

    require_corpus()
    if args.engine == "ray":
        from lmaczs.corpus.cluster import require_ray

        require_ray(args.address)
    elif args.address is not None:
        raise InputError("--address is a cluster's: give --engine ray, too")
    if args.keep is not None:
        Keep(args.keep)


def clips_of(args: argparse.Namespace) -> Iterable[pa.Table]:
    """Clips that the command line names; `InputError` if it names none."""
    from lmaczs.corpus.plan import clips_in, clips_of_manifest, is_manifest
    from lmaczs.corpus.store import is_url

    lists = [word for word in args.files if is_manifest(word)]
    if lists:
        if len(args.files) > 1 or args.files_from is not None:
            raise InputError(f"{lists[0]} is a manifest: give it alone")
        return clips_of_manifest(lists[0])
    listed = [] if args.files_from is None else read_list(args.files_from)
    words = [*args.files, *listed]
    urls = [word for word in words if is_url(word)]
    paths = [Path(word) for word in words if not is_url(word)]
    if urls and not paths:
        return clips_in(urls)
    inputs = find_inputs(paths, None if words else args.files_from)
    if inputs.problems:
        raise InputError(inputs.problems[0])
    return clips_in([*inputs.paths, *urls])


def anywhere(place: str | None) -> str | None:
    """A path that is there, absolute: actors of Ray work in folders of their own."""
    there = place is not None and os.path.exists(place)
    return os.path.abspath(place) if place is not None and there else place


def held(out: str) -> AbstractContextManager[None]:
    """Make --out and hold it; of a store nothing can be held."""
    from lmaczs.corpus.store import Store

    try:
        folder = Store(out).folder
    except LmaczsError as error:
        raise CommandError(f"--out {one_line(error)}") from error
    return contextlib.nullcontext() if folder is None else out_folder(folder)


def run(
    args: argparse.Namespace,
    interpreter: ZeroShotInterpreter,
    loader: Loader,
    prompts: Sequence[str],
    clips: Iterable[pa.Table],
) -> int:
    """Work on what is left of a corpus, and say what came of it."""
    from lmaczs.corpus.plan import count_clips
    from lmaczs.corpus.run import MakeWorker, failures_in, left, worker_of
    from lmaczs.corpus.store import Store

    store = Store(args.out)
    store.sweep()
    if store.folder is not None and args.keep is not None:
        check_page(store.folder, [])
    corpus = _begun(args, store, interpreter, prompts, clips)
    blocks = left(store, corpus)
    done = sorted({*range(corpus.blocks)} - {*blocks})
    before = Before(len(done), count_clips(store, done), *failures_in(store, done))
    make = MakeWorker(str(anywhere(args.out)), loader)
    results = _results(args, worker_of(store, corpus, interpreter), make, blocks)
    status = _shown(args, corpus, results, before)
    store.sweep()  # of processes and machines that were lost on the way
    if store.folder is not None and args.keep is not None:
        count = _write_page(store, corpus, store.folder)
        if count and not args.quiet:
            note(f"{count} explanations: {args.out.rstrip('/')}/{PAGE}")
    return status


def _begun(
    args: argparse.Namespace,
    store: Store,
    interpreter: ZeroShotInterpreter,
    prompts: Sequence[str],
    clips: Iterable[pa.Table],
) -> Corpus:
    """Plan the corpus, or find what is there; a CommandError if it is another one."""
    from lmaczs.corpus.rows import Wanted
    from lmaczs.corpus.run import begin, read_corpus

    wanted = Wanted(
        tuple(prompts),
        args.refine,
        not args.no_events,
        args.keep,
        args.channel,
        args.strict,
    )
    model = identity_of(interpreter)
    try:
        known = read_corpus(store)
        corpus = begin(store, clips, model, wanted, args.block_clips)
    except LmaczsError as error:
        raise CommandError(one_line(error)) from error
    if known is not None and known.clips < corpus.clips and not args.quiet:
        new = corpus.clips - known.clips
        added = "1 clip is" if new == 1 else f"{new} clips are"
        note(f"--out {args.out}: {added} added to its {known.clips}")
    return corpus


class Before(NamedTuple):
    """Blocks that were done before, their clips, and those that could not be read."""

    blocks: int
    clips: int
    failures: int
    first_failure: str


def _results(
    args: argparse.Namespace, work: Work, make: MakeWork, blocks: Sequence[int]
) -> Iterator[Counts | Lost]:
    """What comes of blocks, by the engine that is wanted."""
    from lmaczs.corpus.engines import attempted, required
    from lmaczs.corpus.local import run_local

    if args.engine == "ray" and blocks:
        from lmaczs.corpus.cluster import run_ray

        gpus = float((args.device or "").startswith("cuda"))
        yield from run_ray(blocks, make, args.jobs, args.address, gpus)
    elif args.jobs > 1:
        yield from run_local(blocks, make, args.jobs)
    else:
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as the processes of `run_local`
        try:
            yield from (required(attempted(work, block)) for block in blocks)
        finally:
            torch.set_num_threads(threads)


def _shown(
    args: argparse.Namespace,
    corpus: Corpus,
    results: Iterable[Counts | Lost],
    before: Before,
) -> int:
    """Show progress on a terminal, then a line of counts; return the exit status."""
    from tqdm import tqdm

    from lmaczs.corpus.engines import Lost

    begin = time.perf_counter()
    clips = events = kept = lost = 0
    failures, first = before.failures, before.first_failure
    hidden = True if args.quiet else None  # None: not in a pipe
    total, done = corpus.clips, before.clips
    with tqdm(total=total, initial=done, unit="clip", disable=hidden) as bar:
        for one in results:
            if isinstance(one, Lost):
                lost += 1
                with bar.external_write_mode(sys.stderr):  # not into the bar
                    complain(f"block {one.block} is not done: {one.reason}", one.trace)
                _require_room(args.out, one)
                continue
            clips += one.clips
            failures += one.failures
            events += one.events
            kept += one.kept
            first = first or one.first_failure
            bar.update(one.clips)
    seconds = time.perf_counter() - begin
    if not args.quiet:
        say(
            f"{args.out}: {clips} of {corpus.clips} clips in {seconds:.1f} s "
            f"({clips / max(seconds, 1e-9):.1f} a second), {events} events, {kept} kept"
            + f"; {before.blocks} of {corpus.blocks} blocks were done before"
            * (before.blocks > 0)
        )
    if failures:
        complain(
            f"clips that cannot be read: {failures}, see {args.out}/failures; {first}"
        )
    if lost:
        note("the same line again does the blocks that are not done")
    return int(failures + lost > 0)


def _require_room(out: str, lost: Lost) -> None:
    """Raise an error that ends the command if a full disk is why a block was lost.

    All others would be worked on three times each, for nothing.
    """
    if any(os.strerror(one) in lost.reason for one in (errno.ENOSPC, errno.EDQUOT)):
        raise LmaczsError(
            f"--out {out}: its disk is full; make room and give the same line again, "
            "which does the blocks that are not done"
        )


def _write_page(store: Store, corpus: Corpus, out: Path) -> int:
    """Write index.html of what is kept; return how many explanations that are."""
    from lmaczs.corpus.block import kept_in
    from lmaczs.corpus.run import left, windows_in
    from lmaczs.report.words import clock

    entries: list[PageEntry] = []
    undone = {*left(store, corpus)}
    for block, own in groupby(
        kept_in(out), lambda one: one[0][0] // corpus.block_clips
    ):
        windows = {} if block in undone else windows_in(store, block)
        for key, folder in own:
            if (row := windows.get(key)) is None:  # it was kept before
                continue
            times = f"{clock(row['start'])} to {clock(row['stop'])}"
            name = f"{Path(row['path']).name}, {times}, clip {key[0]}"
            folders = [one.parent for one in sorted(folder.glob(f"*/{SAVED[3]}"))]
            entries += entries_of(name, folders)
    write_page(out, entries, single_file=False)
    return len(entries)
