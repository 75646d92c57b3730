"""Files that a data set lists, and recordings below a folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmaczs.audio.mono_file import MonoFile
from lmaczs.utils.errors import AudioError, InputError, LmaczsError

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus", ".oga", ".au"),
    *(".caf", ".w64", ".rf64", ".bw64", ".m4a", ".aac", ".ac3", ".wma"),
)


class MissingDataError(LmaczsError, FileNotFoundError):
    """Files of a data set that are not there: which, and how to fix it."""


def read_list(path: Path, columns: Sequence[str], fix: str) -> pd.DataFrame:
    """Read the CSV in which a set lists its clips, every field as text.

    An unreadable or empty list, or one without the columns, raises `InputError`.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:  # not CSV, not UTF-8 or empty
        raise InputError(f"{path} cannot be read: {error}; {fix}") from error
    lacking = [name for name in columns if name not in table]
    if lacking:
        raise InputError(
            f"{path} has no column {', '.join(lacking)}: it is not the published "
            f"list; {fix}"
        )
    if table.empty:
        raise InputError(f"{path} has no row below its header; {fix}")
    return table


def require_files(table: pd.DataFrame, fix: str) -> pd.DataFrame:
    """Return a table if all its recordings exist, else raise `MissingDataError`."""
    paths = table.path.unique()
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise MissingDataError(
            f"{len(missing)} of the {len(paths)} recordings listed are not there, the "
            f"first is {missing[0]}: {fix}"
        )
    return table


def seconds_of(path: str | Path) -> float | None:
    """Length of a recording, None where it is no audio.

    It is what the headers state; where they do not, the recording is decoded.
    """
    try:
        file = MonoFile(path)
        frames = file.frames or sum(map(len, file.blocks()))
    except AudioError:
        return None
    return frames / file.rate


def require_audio(paths: Iterable[str]) -> None:
    """Raise `InputError` for recordings whose header is not that of audio."""
    paths = list(dict.fromkeys(paths))
    broken = [path for path in paths if seconds_of(path) is None]
    if broken:
        raise InputError(
            f"{len(broken)} of {len(paths)} recordings are no audio that can be read "
            f"here, the first is {broken[0]}: convert them to WAV or FLAC"
        )


def recordings_in(folder: str | Path, at_least: int = 1) -> list[Path]:
    """All recordings below a folder, sorted by name.

    Fewer than `at_least`, or no such folder, raise `MissingDataError`.
    """
    if not Path(folder).is_dir():
        raise MissingDataError(f"{folder} is no folder")
    found = Path(folder).rglob("*")
    paths = sorted(path for path in found if path.suffix.lower() in SUFFIXES)
    if len(paths) < at_least:
        raise MissingDataError(f"{folder} holds no recording ({', '.join(SUFFIXES)})")
    return paths
