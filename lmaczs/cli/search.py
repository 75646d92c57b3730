"""`lmaczs search`: clips of a corpus that are nearest to texts or recordings."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmaczs.cli.interpret import number
from lmaczs.cli.output import check_page, out_folder, write_page
from lmaczs.cli.rows import RowWriter
from lmaczs.cli.terminal import complain, note, one_line, say
from lmaczs.cli.work import FILE_ERRORS, positive
from lmaczs.utils.errors import InputError
from lmaczs.utils.naming import unique_slugs

if TYPE_CHECKING:
    from lmaczs.corpus.search import Hit
    from lmaczs.corpus.store import Copies
    from lmaczs.interpreter import ZeroShotInterpreter
    from lmaczs.long_recording import Query
    from lmaczs.report.html import PageEntry

COLUMNS = (
    *("prompt", "rank", "similarity", "presence", "file"),
    *("start", "stop", "clip", "window"),
)
"""Of a row of --format."""


def add_options(
    parser: argparse.ArgumentParser, text_type: Callable[[str], str]
) -> None:
    """Add the arguments of the command, beside model and refinement."""
    text = "folder or URL that `lmaczs corpus` wrote"
    parser.add_argument("corpus", metavar="DIR", help=text)
    text = "what is searched for: a label or a sentence; several are searched for each"
    parser.add_argument("texts", nargs="*", metavar="TEXT", type=text_type, help=text)
    text = "a recording: what sounds like it; repeat the option for more"
    parser.add_argument(
        "--audio", action="append", default=[], type=Path, metavar="FILE", help=text
    )
    text = "clips that are printed for each (default: %(default)s)"
    parser.add_argument("--top", type=positive, default=10, metavar="N", help=text)
    text = "explain the first N of them, on a page in --out (default: none)"
    parser.add_argument("--explain", type=positive, default=0, metavar="N", help=text)
    text = "look at a part of the corpus only, by FAISS: for many millions of clips"
    parser.add_argument("--approximate", action="store_true", help=text)


@dataclass(frozen=True)
class Found:
    """A clip that was found for a prompt, and the prompt's presence in it."""

    prompt: int
    rank: int
    hit: Hit
    presence: float


def query_of(args: argparse.Namespace, interpreter: ZeroShotInterpreter) -> Query:
    """What is searched for; `InputError` if that is nothing, or cannot be."""
    if not args.texts and not args.audio:
        raise InputError('give what to search for: a text, such as "rain", or --audio')
    return interpreter.query(args.texts or None, prompt_audio=args.audio)


def find(
    args: argparse.Namespace, interpreter: ZeroShotInterpreter, query: Query
) -> list[Found]:
    """What is nearest to each prompt; `InputError` if it is another model's corpus."""
    import torch

    from lmaczs.corpus.run import read_corpus
    from lmaczs.corpus.search import Embeddings
    from lmaczs.corpus.store import Store
    from lmaczs.presence import presence_in
    from lmaczs.utils.digests import fingerprint

    store = Store(args.corpus)
    corpus = read_corpus(store)
    if corpus is None:
        raise InputError(f"{args.corpus} holds no corpus; `lmaczs corpus` writes one")
    if fingerprint(interpreter.mods) != corpus.model["weights"]:
        raise InputError(
            f"{args.corpus} was made with {corpus.model['model']}, whose weights are "
            "others: give --source or --clap as it was given then"
        )
    embeddings = Embeddings(store, corpus, progress=not args.quiet)
    found = []
    for row, text in enumerate(query.text.cpu()):
        hits = embeddings.nearest(text.numpy(), args.top, not args.approximate)
        vectors = torch.stack([torch.from_numpy(hit.embedding) for hit in hits])
        ranks = presence_in(
            text.expand(len(hits), 1, -1),
            vectors,
            query.references.cpu(),
            query.recorded[row : row + 1].cpu(),
        )
        for place, (hit, rank) in enumerate(
            zip(hits, ranks[:, 0].tolist(), strict=True)
        ):
            found.append(Found(row, place + 1, hit, rank))
    return found


def show(args: argparse.Namespace, query: Query, found: Sequence[Found]) -> None:
    """Print a line, or a row, for each clip."""
    from lmaczs.report.words import clock, percent

    if args.format is not None:
        with RowWriter(args.format, COLUMNS) as writer:
            writer.write(_row(query, one) for one in found)
        return
    for one in found:
        if one.rank == 1 and len(query.prompts) > 1:
            say(f"{query.prompts[one.prompt]}:")
        hit = one.hit
        say(
            f"{number(hit.similarity)}  {percent(one.presence):>6}  "
            f"{clock(hit.start)}-{clock(hit.stop)}  {hit.path}"
        )


def _row(query: Query, one: Found) -> dict[str, Any]:
    hit = one.hit
    return {
        "prompt": query.prompts[one.prompt],
        "rank": one.rank,
        "similarity": hit.similarity,
        "presence": one.presence,
        "file": hit.path,
        "start": hit.start,
        "stop": hit.stop,
        "clip": hit.clip,
        "window": hit.window,
    }


def explain(
    args: argparse.Namespace,
    interpreter: ZeroShotInterpreter,
    query: Query,
    found: Sequence[Found],
) -> int:
    """Explain the first clips of each prompt, on a page; return the exit status."""
    from lmaczs.corpus.store import Copies

    check_page(args.out, [])
    entries: list[PageEntry] = []
    names = [f"{slug}.search" for slug in unique_slugs(query.prompts)]
    status = 0
    with out_folder(args.out), Copies() as copies:
        for one in found:
            if one.rank > args.explain:
                continue
            try:
                folder = args.out / names[one.prompt]
                entries += _explained(args, interpreter, query, one, copies, folder)
            except FILE_ERRORS as error:
                text = one_line(error, Path(one.hit.path))
                complain(text, traceback.format_exc())
                status = 1
        page = write_page(args.out, entries, args.single_file)
    if page is not None and not args.quiet:
        note(f"{len(entries)} explanations: {page}")
    return status


def _explained(
    args: argparse.Namespace,
    interpreter: ZeroShotInterpreter,
    query: Query,
    one: Found,
    copies: Copies,
    folder: Path,
) -> Iterator[PageEntry]:
    """Explain a clip, save it in a folder, and yield its entry on the page."""
    from lmaczs.audio.io import load_audio
    from lmaczs.report.recording import page_entries, save_recording
    from lmaczs.report.words import clock
    from lmaczs.utils.result_folder import file_sha256

    hit, prompt = one.hit, query.prompts[one.prompt]
    path = copies.path(hit.path)
    if file_sha256(path) != hit.sha256:
        note(f"{hit.path} is another recording than the corpus was made of")
    rate = interpreter.sample_rate
    wav = load_audio(path, rate, start=hit.start, stop=hit.stop, channel=hit.channel)
    pair, like = (wav, rate), query.recordings[one.prompt]
    if like is None:
        result = interpreter.interpret_waveform(
            pair, prompts=prompt, refine=args.refine
        )
    else:
        result = interpreter.interpret_waveform(
            pair, refine=args.refine, prompt_audio=like
        )
    result = replace(
        result,
        recording=hit.path,
        recording_sha256=hit.sha256,
        channel=hit.channel,
    )
    folder = folder / f"{hit.clip:08d}-{hit.window}"
    save_recording(folder, [result])
    times = f"{clock(hit.start)} to {clock(hit.stop)}"
    name = f"{one.rank}. {Path(hit.path).name}, {times}"
    yield from page_entries(folder, [result], name)
