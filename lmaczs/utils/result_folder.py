"""What a folder of results states of itself: whose they are, made how, and if whole.

`recording.json` is written when all is there. Until then explanation.json, the first
file of each prompt, says so; what is done again is noted as not whole before.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lmaczs import __version__
from lmaczs.utils.files import atomic_write

STATE = "recording.json"


@dataclass(frozen=True)
class ResultState:
    """What recording.json holds.

    Attributes
    ----------
    recording : str
        Absolute path of the recording; its links are not followed.
    recording_sha256 : str
        Of the file's bytes.
    options : dict
        All that the results depend on beside recording, prompts and version.
    prompts : dict of str to str
        Prompts by their folders; of a scan, whose folders are events, each by itself.
    whole : bool
        Whether the results are complete.
    entries : list of dict
        Of a scan that has a page: the recording on it, then the events.
    sizes : dict of str to int
        Bytes of the files by their names in the folder, once they are complete.
    lmaczs_version : str
        That made them.
    """

    recording: str
    recording_sha256: str
    options: dict[str, Any]
    prompts: dict[str, str]
    whole: bool = False
    entries: list[dict[str, Any]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    lmaczs_version: str = __version__

    def covers(self, wanted: ResultState) -> bool:
        """Whether this is whole, made of the same, and has all that is wanted."""
        same = ("recording_sha256", "options", "lmaczs_version")
        return (
            self.whole
            and all(getattr(self, name) == getattr(wanted, name) for name in same)
            and wanted.prompts.items() <= self.prompts.items()
        )


def write_state(folder: Path, state: ResultState) -> None:
    """Write recording.json, by which the folder is known as this recording's."""
    write_record(folder / STATE, asdict(state))


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a JSON file that `read_record` reads."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def read_state(folder: Path) -> ResultState | None:
    """What a folder states of itself; None if nothing, or nothing that is ours."""
    record = read_record(folder / STATE)
    try:
        return None if record is None else ResultState(**record)
    except TypeError:  # of another version
        return None


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON file that this package wrote, or None."""
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(record, dict) and "lmaczs_version" in record
    return record if ours else None


def place_of(path: str | Path) -> str:
    """Absolute path of a file, of which folders' links are followed, not its own."""
    path = Path(path)
    return os.path.join(os.path.realpath(path.parent), path.name)


def folded(name: str) -> str:
    """A path or name as file systems may compare it: without case, marks composed."""
    return unicodedata.normalize("NFC", name).casefold()


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    import pooch

    digits: str = pooch.file_hash(str(path), "sha256")
    return digits


def origin_of(path: str | Path) -> dict[str, Any]:
    """Place and digest of a recording, by the names that they have in results."""
    return {"recording": place_of(path), "recording_sha256": file_sha256(path)}


def is_of(record: dict[str, Any], path: Path) -> bool:
    """Whether results are a recording's: by its place, or, if it was moved, by content.

    `record` is what recording.json or explanation.json holds.
    """
    stated = record.get("recording")
    if not isinstance(stated, str):
        return False
    if folded(stated) == folded(place_of(path)):
        return True
    moved = not os.path.lexists(stated) and path.is_file()
    return moved and file_sha256(path) == record.get("recording_sha256")


def sizes_of(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Bytes of files by their names in a folder; -1 for one that is not there."""
    paths = {name: folder / name for name in names}
    return {
        name: path.stat().st_size if path.is_file() else -1
        for name, path in paths.items()
    }
