"""Recordings of a command line: files, folders, patterns, and lists of them."""

from __future__ import annotations

import argparse
import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lmaczs.utils.errors import InputError
from lmaczs.utils.naming import PAGE_DATA
from lmaczs.utils.result_folder import STATE, place_of, read_record

STDIN = "-"

RESULTS = (STATE, "explanation.json", "corpus.json")
"""Files that say of a folder that it holds results."""

OURS = b"lmaczs"
"""How page data begin, which lie beside the copy of a recording."""


@dataclass(frozen=True)
class Inputs:
    """Recordings, each once, and a sentence for each word that names none."""

    paths: list[Path]
    problems: list[str]


FILES = "recording, folder (all recordings in it) or pattern, such as 'day*/*.wav'"


def add_files(parser: argparse.ArgumentParser, text: str = FILES) -> None:
    """Add the arguments that name recordings."""
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help=text)
    add_list(parser)


def add_list(parser: argparse.ArgumentParser) -> None:
    """Add --files-from, --channel and --strict."""
    text = "text file with a FILE a line, relative to where you are; -: from stdin"
    parser.add_argument("--files-from", metavar="LIST", help=text)
    text = "the only channel to read, from 1 on, or mix: the mean (default: mix)"
    parser.add_argument("--channel", type=_channel, metavar="N|mix", help=text)
    text = "refuse a truncated or damaged recording instead of reading what is there"
    parser.add_argument("--strict", action="store_true", help=text)


def _channel(value: str) -> int | None:
    if value == "mix":
        return None
    if not value.isdecimal() or not int(value):
        raise argparse.ArgumentTypeError(f"{value!r} is not mix, or 1 or more")
    return int(value)


def find_inputs(files: Iterable[Path], files_from: str | None) -> Inputs:
    """Find the recordings that a command line names.

    InputError if it names none, or its list cannot be read.
    """
    listed = () if files_from is None else map(Path, read_list(files_from))
    words = [*files, *listed]
    if not words:
        empty = "" if files_from is None else f": --files-from {files_from} is empty"
        raise InputError(f"give a FILE, a folder or --files-from LIST{empty}")
    found: dict[str, Path] = {}
    problems = []
    for word in words:
        paths = list(_expanded(word))
        if not paths:
            problems.append(_problem(word))
        for path in paths:
            found.setdefault(place_of(path), path)
    return Inputs(list(found.values()), problems)


def recordings_below(folder: Path) -> Iterator[Path]:
    """Yield the recordings in a folder and its folders, by name.

    Hidden files and results of this package are left out.
    """
    from lmaczs.data.lists import SUFFIXES

    for place, folders, names in os.walk(folder):
        here = Path(place)
        if here != folder and _is_result(here):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield here / name


def _is_result(folder: Path) -> bool:
    """Whether this package wrote a folder: results of a recording, or a corpus."""
    if any(read_record(folder / name) is not None for name in RESULTS):
        return True
    try:
        with (folder / PAGE_DATA).open("rb") as file:
            return file.read(len(OURS)) == OURS
    except OSError:
        return False


def _expanded(word: Path) -> Iterator[Path]:
    """Yield the files that a word of the command line stands for."""
    if word.is_dir():
        yield from recordings_below(word)
    elif glob.has_magic(str(word)) and not os.path.lexists(word):
        for match in sorted(glob.glob(str(word), recursive=True)):
            path = Path(match)
            yield from recordings_below(path) if path.is_dir() else (path,)
    else:
        yield word


def _problem(word: Path) -> str:
    if word.is_dir():
        return f"{word}: there is no recording in this folder"
    return f"{word}: no file matches this pattern"


def read_list(name: str) -> list[str]:
    """Words of a list, one a line, or between NULs as `find -print0` writes them.

    InputError if it cannot be read.
    """
    try:
        content = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    except OSError as error:
        raise InputError(
            f"--files-from {name} cannot be read: {error.strerror}"
        ) from error
    text = os.fsdecode(content.removeprefix(b"\xef\xbb\xbf"))
    # no other character that str.splitlines takes for an end: names may have them
    lines = text.split("\0") if "\0" in text else re.split(r"\r\n|\r|\n", text)
    return [line for line in lines if line.strip()]
