"""Where a command writes: a folder for each recording, over its own results only."""

from __future__ import annotations

import json
import os
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

PAGE = "index.html"
GENERATOR = '<meta name="generator" content="lmaczs">'
INPUT_COPY = "input.wav"
INPUT_FLAC = "input.flac"
PAGE_DATA = "page_data.js"
OF_RECORDING = (INPUT_COPY, INPUT_FLAC, PAGE_DATA)
"""Files that a recording's prompts share."""
SLUG_LENGTH = 60
SAVED = ("explanation.wav", "residual.wav", "explanation.png", "explanation.json")
LISTENED = ("explanation.flac", "residual.flac")
"""Written for the page, beside what is saved of an explanation."""


class Recordings:
    """Files that are read and so must not be overwritten; they need not exist.

    A path is among them if it leads to one of these files, by whatever links, or would
    on a file system that ignores case.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        paths = list(paths)
        self._places = {place for path in paths for place in _places(path)}
        self._files = {_file(path) for path in paths} - {None}

    def __contains__(self, path: Path) -> bool:
        """Whether writing to a path would replace one of the files or a link to it."""
        return not self._places.isdisjoint(_places(path)) or _file(path) in self._files


def recording_folders(
    out: Path, prompts: Mapping[Path, Sequence[str]], inputs: Iterable[Path] = ()
) -> dict[Path, Path]:
    """Give each recording a separate folder below `out`, named after its stem.

    A number is appended where the name is taken, also by a name that differs in case
    alone, or where writing would replace a recording, or a file that no earlier run
    wrote. `prompts` has the names of the folders of each recording's prompts; `inputs`
    are other files that are read.
    """
    recordings = Recordings([*prompts, *inputs])
    folders: dict[Path, Path] = {}
    taken = {PAGE.casefold()}
    for path, names in prompts.items():
        # "...wav" has the stem "..", which would be the folder above
        stem = name = path.stem if path.stem.strip(".") else "recording"
        number = 1
        while (
            name.casefold() in taken
            or any(place in recordings for place in _written(out / name, names))
            or _holds_other_files(out / name, names)
        ):
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        folders[path] = out / name
    return folders


def _written(folder: Path, prompts: Sequence[str]) -> Iterator[Path]:
    """Yield every file and folder that one recording's results consist of."""
    yield folder
    yield from (folder / name for name in OF_RECORDING)
    for prompt in prompts:
        yield folder / prompt
        yield from (folder / prompt / name for name in (*SAVED, *LISTENED))


def _holds_other_files(folder: Path, prompts: Sequence[str]) -> bool:
    """Whether writing would replace a file that is no result of an earlier run."""
    results = {path.parent for path in folder.glob("*/explanation.json") if _ours(path)}
    if not results and any((folder / name).exists() for name in OF_RECORDING):
        return True
    return any(
        (folder / prompt / name).exists()
        for prompt in prompts
        if folder / prompt not in results
        for name in (*SAVED, *LISTENED)
    )


def _ours(explanation: Path) -> bool:
    """Whether an explanation.json was written by this package."""
    try:
        record = json.loads(explanation.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and "lmaczs_version" in record


def is_other_page(path: Path) -> bool:
    """Whether an index.html exists that this package did not write."""
    try:
        return GENERATOR not in path.read_text("utf-8", errors="replace")
    except OSError:
        return os.path.lexists(path)


def short_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Names of recordings: as few of the last parts of each path as make it unique."""
    paths = list(paths)
    names = {path: path.name for path in paths}
    for parts in range(2, max((len(path.parts) for path in paths), default=0) + 1):
        counts = Counter(names.values())
        for path, name in names.items():
            if counts[name] > 1:
                names[path] = str(Path(*path.parts[-parts:]))
    return names


def _places(path: Path) -> set[str]:
    """The path itself and where its links lead, both without regard to case."""
    lies = os.path.join(os.path.realpath(path.parent), path.name)
    return {lies.casefold(), os.path.realpath(path).casefold()}


def _file(path: Path) -> tuple[int, int] | None:
    """Device and inode, which hard links share; None if there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def slugify(text: str) -> str:
    """Turn a prompt into the name of a folder.

    Lower-case ASCII letters, digits and single hyphens, 1 to 60 characters. Text
    without a Latin letter or digit gets a name from its checksum.
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")
    if not slug:
        return f"prompt-{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"
    return slug[:SLUG_LENGTH].rstrip("-")


def unique_slugs(prompts: Sequence[str]) -> list[str]:
    """Return `slugify` of each prompt, with -2, -3, ... appended where it is taken."""
    slugs: list[str] = []
    for prompt in prompts:
        slug = candidate = slugify(prompt)
        number = 1
        while candidate in slugs:
            number += 1
            end = f"-{number}"
            candidate = slug[: SLUG_LENGTH - len(end)].rstrip("-") + end
        slugs.append(candidate)
    return slugs
