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
SLUG_LENGTH = 60
SAVED = ("explanation.wav", "residual.wav", "explanation.png", "explanation.json")


class Recordings:
    """Files that are read and so must not be written to.

    A path is among them if it leads to one of these files, by whatever links, or would
    on a file system that ignores case.

    Parameters
    ----------
    paths : iterable of Path
        Need not exist.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        paths = list(paths)
        self._places = {place for path in paths for place in _places(path)}
        self._files = {_file(path) for path in paths} - {None}

    def __contains__(self, path: Path) -> bool:
        """Whether writing to a path would replace one of the files or a link to it."""
        return not self._places.isdisjoint(_places(path)) or _file(path) in self._files


def recording_folders(
    out: Path, prompts: Mapping[Path, Sequence[str]]
) -> dict[Path, Path]:
    """Give each recording a separate folder, named after its stem.

    A number is appended where the name is taken, or where a file that is written there
    would replace a recording, or any file that no earlier run wrote. Names differ also
    where a file system ignores case.

    Parameters
    ----------
    out : Path
        Folder of the folders.
    prompts : mapping of Path to sequence of str
        Recordings, each with the names of its prompts' folders.

    Returns
    -------
    dict of Path to Path
        Recording to folder, in their order.
    """
    recordings = Recordings(prompts)
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
    yield folder / INPUT_COPY
    for prompt in prompts:
        yield folder / prompt
        yield from (folder / prompt / name for name in SAVED)


def _holds_other_files(folder: Path, prompts: Sequence[str]) -> bool:
    """Whether a file would be replaced that is no result of an earlier run."""
    results = {path.parent for path in folder.glob("*/explanation.json") if _ours(path)}
    if (folder / INPUT_COPY).exists() and not results:
        return True
    return any(
        (folder / prompt / name).exists()
        for prompt in prompts
        if folder / prompt not in results
        for name in SAVED
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
    """Names of recordings without their folders, but for those that they differ by.

    Parameters
    ----------
    paths : iterable of Path
        Recordings.

    Returns
    -------
    dict of Path to str
        As many of the last parts of each path as tell it from the others.
    """
    paths = list(paths)
    names = {path: path.name for path in paths}
    for parts in range(2, max((len(path.parts) for path in paths), default=0) + 1):
        counts = Counter(names.values())
        for path, name in names.items():
            if counts[name] > 1:
                names[path] = str(Path(*path.parts[-parts:]))
    return names


def _places(path: Path) -> set[str]:
    """Return where a path lies and where it leads, both without regard to case."""
    lies = os.path.join(os.path.realpath(path.parent), path.name)
    return {lies.casefold(), os.path.realpath(path).casefold()}


def _file(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from every other, which hard links share."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def slugify(text: str) -> str:
    """Turn a prompt into the name of a folder.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
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
