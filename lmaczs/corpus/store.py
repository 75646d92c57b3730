"""Folders on this machine and in object stores, by pyarrow's file systems.

A place is a path, or a URL such as ``s3://bucket/folder``; of S3 and the like,
credentials and end point come from the environment, as their own tools have them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lmaczs.utils.errors import InputError
from lmaczs.utils.extras import require_packages
from lmaczs.utils.files import atomic_folder, atomic_write, sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyarrow.dataset import Dataset
    from pyarrow.fs import FileSystem
    from pyarrow.lib import NativeFile, Schema


REFUSED = ("ACCESS_DENIED", "HTTP status 403")
"""What pyarrow says where S3 has an object, or may have it, and does not give it."""


def require_corpus() -> None:
    """Import what a corpus needs, or raise `MissingExtraError`."""
    require_packages(["pyarrow.parquet", "pyarrow.fs"], "corpus")


def is_url(place: str | Path) -> bool:
    """Whether a place is in an object store, not a path of this machine."""
    return "://" in str(place)


def url_of(folder: str, name: str) -> str:
    """URL of a file in a folder of a store, by its name: it may have any character.

    Only those that mean something else in a URL are escaped, so that it can be read.
    """
    for character in "%?#":  # % first
        name = name.replace(character, f"%{ord(character):02X}")
    return f"{folder.rstrip('/')}/{name}"


def opened(url: str) -> tuple[FileSystem, str]:
    """File system of a URL, and the path in it; `InputError` if there is none.

    Spaces and the like may be escaped or not.
    """
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    kind, _, place = url.partition("://")
    host, slash, path = place.partition("/")
    try:
        escaped = quote(path, safe="%/?#:@!$&'()*+,;=")
        return FileSystem.from_uri(f"{kind}://{host}{slash}{escaped}")
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{url} is no place that can be opened: {reason}") from error


class Store:
    """A folder, whose files appear whole or not at all.

    Parameters
    ----------
    place : str | Path
        A path or a URL.

    Raises
    ------
    InputError
        If there is no such kind of store.
    """

    def __init__(self, place: str | Path) -> None:
        from pyarrow.fs import LocalFileSystem

        self.place = str(place)
        if is_url(place):
            self._files, self._root = opened(self.place)
        else:
            self._files, self._root = LocalFileSystem(), os.path.abspath(place)
        local = isinstance(self._files, LocalFileSystem)  # a URL may be file://
        self.folder = Path(self._root) if local else None

    def path(self, name: str) -> str:
        """Of a file in it, for the store's file system."""
        return f"{self._root}/{name}"

    def url(self, name: str) -> str:
        """Of a file in it, where the store's place is a URL."""
        return url_of(self.place, name)

    def write(self, name: str, data: bytes) -> None:
        """Write a file; one that is there is replaced."""
        if self.folder is None:
            with self._files.open_output_stream(self.path(name)) as file:
                file.write(data)
            return
        # DuckDB's *.parquet has hidden files, too
        with atomic_write(self.folder / name, suffix="") as part:
            part.write_bytes(data)

    def put(self, folder: Path, name: str) -> None:
        """Copy a folder of this machine into the store, in place of one of the name."""
        if self.folder is not None:
            with atomic_folder(self.folder / name) as part:
                shutil.copytree(folder, part, dirs_exist_ok=True)
            return
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            relative = path.relative_to(folder).as_posix()
            self.write(f"{name}/{relative}", path.read_bytes())

    def open(self, name: str) -> NativeFile:
        """Open a file to read anywhere in it; FileNotFoundError if there is none."""
        return self._files.open_input_file(self.path(name))

    def read(self, name: str) -> bytes | None:
        """Content of a file; None if there is none."""
        try:
            with self.open(name) as file:
                content: bytes = file.read()
                return content
        except FileNotFoundError:
            return None

    def table(self, names: Sequence[str], schema: Schema) -> Dataset:
        """Rows of Parquet files, which are read as they are wanted."""
        from pyarrow.dataset import dataset

        paths = [self.path(name) for name in names]
        return dataset(paths, schema, format="parquet", filesystem=self._files)

    def names(self, folder: str) -> list[str]:
        """Files in a folder and its folders, in order; hidden ones are left out."""
        return [name for name, *_ in self.states(folder)]

    def states(self, folder: str) -> list[tuple[str, int, int | None]]:
        """The same with their sizes in bytes, and when they were written."""
        from pyarrow.fs import FileSelector, FileType

        root = self.path(folder)
        selector = FileSelector(root, allow_not_found=True, recursive=True)
        found = self._files.get_file_info(selector)
        cut = len(self._root) + 1
        return sorted(
            (one.path[cut:], one.size, one.mtime_ns)
            for one in found
            if one.type == FileType.File and not one.base_name.startswith(".")
        )

    def sweep(self) -> None:
        """Remove what killed processes left unfinished on this machine."""
        for place, *_ in os.walk(self.folder) if self.folder else ():
            sweep(Path(place))


class Copies:
    """Recordings as files of this machine: itself, or a copy of one in a store.

    A context manager, which removes the copies; each recording is copied once.
    """

    def __enter__(self) -> Copies:
        self._folder = tempfile.TemporaryDirectory()
        self._known: dict[str, Path] = {}
        return self

    def path(self, place: str) -> Path:
        """Path of a recording by its path or URL.

        FileNotFoundError if the store has none, PermissionError if it does not give it,
        OSError if the store fails, `InputError` if there is no such kind of store.
        """
        from pyarrow.fs import LocalFileSystem

        if not is_url(place):
            return Path(place)
        if place not in self._known:
            files, path = opened(place)
            if isinstance(files, LocalFileSystem):
                return Path(path)
            copy = Path(tempfile.mkdtemp(dir=self._folder.name), Path(path).name)
            try:
                with files.open_input_stream(path) as source, copy.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
            except OSError as error:
                if not any(words in str(error) for words in REFUSED):
                    raise
                text = f"{place}: the store does not let it be read"
                raise PermissionError(text) from error
            self._known[place] = copy
        return self._known[place]

    @property
    def count(self) -> int:
        """How many recordings of stores could be read."""
        return len(self._known)

    def __exit__(self, *raised: Any) -> None:
        self._folder.cleanup()
