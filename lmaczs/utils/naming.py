"""Where a command writes: a folder for each recording, over its own results only."""

from __future__ import annotations

import os
import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from lmaczs.utils.result_folder import STATE, folded, is_of, place_of, read_record

PAGE, EVENTS_PAGE = "index.html", "events.html"
"""Of explanations, and of a scan's events: neither replaces the other."""
GENERATOR = '<meta name="generator" content="lmaczs">'
INPUT_COPY = "input.wav"
INPUT_FLAC = "input.flac"
PAGE_DATA = "page_data.js"
OF_RECORDING = (STATE, INPUT_COPY, INPUT_FLAC, PAGE_DATA)
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

    A recording keeps the folder that an earlier run gave it. Else a number is appended
    where the name is taken, by another recording's results or by a name that differs in
    case alone, or where writing would replace a recording, or a file that no earlier
    run wrote. `prompts` has the names of the folders of each recording's prompts;
    `inputs` are other files that are read.
    """
    recordings = Recordings([*prompts, *inputs])

    def is_free(folder: Path, path: Path) -> bool:
        return not any(
            place in recordings for place in _written(folder, prompts[path])
        ) and not _holds_other_files(folder, path, prompts[path])

    return assign_folders(out, prompts, is_free)


def assign_folders(
    out: Path,
    recordings: Iterable[Path],
    is_free: Callable[[Path, Path], bool],
    suffix: str = "",
) -> dict[Path, Path]:
    """Name a folder below `out` for each recording: its stem, a number, the suffix.

    The folder of an earlier run comes first, then the lowest number that is free.
    `is_free` says whether a recording's results may be written into a folder.
    """
    folders: dict[Path, Path] = {}
    taken = {_key(PAGE), _key(EVENTS_PAGE)}
    there = _numbered(out, suffix)
    for path in recordings:
        # "...wav" has the stem "..", which would be the folder above
        stem = path.stem if path.stem.strip(". ") else "recording"
        known = (one for one in there[stem] if _is_own(out / one, path))
        names = chain(known, _names(stem, suffix))
        name = next(
            one for one in names if _key(one) not in taken and is_free(out / one, path)
        )
        taken.add(_key(name))
        folders[path] = out / name
    return folders


def _key(name: str) -> str:
    """What names share that are one for some file system; Windows drops their end."""
    return folded(name).rstrip(". ")


def _names(stem: str, suffix: str) -> Iterator[str]:
    """Yield a name without a number, then with 2, 3 and so on."""
    yield f"{stem}{suffix}"
    yield from (f"{stem}-{number}{suffix}" for number in count(2))


def _numbered(out: Path, suffix: str) -> dict[str, list[str]]:
    """Names of what is in a folder, in order, by their stems without a number."""
    found = defaultdict(list)
    for path in sorted(out.iterdir()) if out.is_dir() else ():
        if path.name.endswith(suffix):
            stem = path.name[: len(path.name) - len(suffix)]
            for one in dict.fromkeys((stem, re.sub(r"-\d+$", "", stem))):
                found[one].append(path.name)
    return found


def _is_own(folder: Path, path: Path) -> bool:
    """Whether a folder states that it holds a recording's results."""
    return any(is_of(record, path) for record in _records(folder))


def _written(folder: Path, prompts: Sequence[str]) -> Iterator[Path]:
    """Yield every file and folder that one recording's results consist of."""
    yield folder
    yield from (folder / name for name in OF_RECORDING)
    for prompt in prompts:
        yield folder / prompt
        yield from (folder / prompt / name for name in (*SAVED, *LISTENED))


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    """What an earlier run noted of the recording whose results a folder holds."""
    record = read_record(folder / STATE)
    if record is not None:
        yield record
        return
    found = map(read_record, folder.glob("*/explanation.json"))
    yield from (record for record in found if record is not None)


def _holds_other_files(folder: Path, path: Path, prompts: Sequence[str]) -> bool:
    """Whether writing would replace what is no result for the same recording."""
    if os.path.lexists(folder) and not folder.is_dir():
        return True
    records = list(_records(folder))
    if not all(is_of(record, path) for record in records):
        return True
    if not records and any((folder / name).exists() for name in OF_RECORDING):
        return True
    known = {slug for record in records for slug in record.get("prompts", ())}
    return any(
        (folder / prompt / name).exists()
        for prompt in prompts
        if prompt not in known and read_record(folder / prompt / SAVED[3]) is None
        for name in (*SAVED, *LISTENED)
    )


def is_other_page(path: Path) -> bool:
    """Whether a page exists that this package did not write."""
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
    return {folded(place_of(path)), folded(os.path.realpath(path))}


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
