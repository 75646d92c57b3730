"""The plan of a corpus: which clips there are, in blocks of equal size.

It is written as Parquet files whose row groups are the blocks: what works on a block
reads that row group, and nobody holds the whole plan. Clips that are added later are
further blocks.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice, pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lmaczs.corpus.store import Store, is_url, opened, url_of
from lmaczs.corpus.tables import PLAN, STATE, own_names
from lmaczs.data.lists import SUFFIXES
from lmaczs.data.manifest import CLIP, read_clips
from lmaczs.utils.errors import InputError

BLOCKS_OF_FILE = 1000
ROWS_AT_ONCE = 1 << 16
MANIFESTS = (".csv", ".parquet")


def is_manifest(place: str) -> bool:
    """Whether a place is a list of clips, not a recording."""
    return place.lower().endswith(MANIFESTS)


def clips_in(places: Iterable[str | Path]) -> list[pa.Table]:
    """Clips: whole recordings, by path or URL.

    A URL that ends in ``/`` is a folder, of which all recordings are taken, but for
    those of a corpus in it. `InputError` if there is none, or no such folder.
    """
    paths = (path for place in places for path in _recordings(str(place)))
    batches = iter(lambda: list(islice(paths, ROWS_AT_ONCE)), [])
    return [pa.table({"path": batch}) for batch in batches]


def _recordings(place: str) -> Iterator[str]:
    if not is_url(place):
        # no such file, but a clip that fails: tables have no text that is not UTF-8
        yield os.path.abspath(place).encode(errors="backslashreplace").decode()
    elif not place.endswith("/"):
        yield place
    else:
        store = Store(place)
        found = [one for one in _given(store) if one.lower().endswith(SUFFIXES)]
        if not found:
            raise InputError(f"{place}: there is no recording in this folder")
        yield from map(store.url, found)


def _given(store: Store) -> list[str]:
    """Files of a store that no corpus in a folder of it has written."""
    names = store.names("")
    states = (one for one in map(PurePosixPath, names) if one.name == STATE)
    written = {one.parent for one in states if one.parent.name}
    if not written:
        return names
    return [one for one in names if written.isdisjoint(PurePosixPath(one).parents)]


def clips_of_manifest(place: str) -> Iterable[pa.Table]:
    """Clips of a manifest: CSV, or Parquet with the same columns.

    Parquet is read in parts, each time it is iterated over, and may lie in an object
    store. `InputError`, at once, if it cannot be read, or has a column that `clips` has
    itself.
    """
    if place.lower().endswith(".csv"):
        if is_url(place):
            raise InputError(f"{place}: a manifest in a store is Parquet; convert it")
        table = pa.Table.from_pandas(read_clips(place), preserve_index=False)
        _check_columns(table.column_names, place)
        return [table]
    files, path = opened(place) if is_url(place) else (None, place)
    try:
        file = pq.ParquetFile(path, filesystem=files)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{place} cannot be read as Parquet: {reason}") from error
    _check_columns(file.schema_arrow.names, place)
    return _Parts(file, place)


@dataclass(frozen=True)
class _Parts:
    """The clips of a manifest in Parquet."""

    file: pq.ParquetFile
    place: str

    def __iter__(self) -> Iterator[pa.Table]:
        for batch in self.file.iter_batches(ROWS_AT_ONCE):
            table = _with_places(pa.table(batch), self.place)
            yield _with_times(table, self.place)


def _check_columns(names: Sequence[str], place: str) -> None:
    if "path" not in names:
        raise InputError(f"{place} has no column path; it has {', '.join(names)}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{place} has several columns {twice[0]}: rename them")
    if taken := sorted((own_names() - set(CLIP)) & set(names)):
        raise InputError(
            f"{place} has a column {taken[0]}, which the table clips has itself: "
            "rename it"
        )


def _with_places(table: pa.Table, place: str) -> pa.Table:
    """A part of a Parquet manifest with paths that are absolute, and no empty ones."""
    base = place.rpartition("/")[0] if is_url(place) else os.path.dirname(place)
    paths = table["path"].to_pylist()
    if not all(isinstance(path, str) and path for path in paths):
        raise InputError(f"{place}: in a row path is empty, or no text")
    index = table.column_names.index("path")
    return table.set_column(index, "path", [[_absolute(base, one) for one in paths]])


def _with_times(table: pa.Table, place: str) -> pa.Table:
    """A part of a Parquet manifest with the times of stretches, as numbers."""
    times = {}
    for name in ("start", "stop"):
        if name not in table.column_names:
            times[name] = np.full(len(table), np.nan)
            continue
        try:
            column = table[name].cast(pa.float64())
        except pa.ArrowException as error:
            raise InputError(f"{place}: column {name}, in seconds: {error}") from error
        table = table.set_column(table.column_names.index(name), name, column)
        times[name] = column.to_numpy()
    begin, stop = np.where(np.isnan(times["start"]), 0, times["start"]), times["stop"]
    right = (begin >= 0) & (begin < np.inf)
    right &= np.isnan(stop) | ((stop > begin) & (stop < np.inf))
    if not right.all():
        row = int(np.argmin(right))
        raise InputError(
            f"{place}: {table['path'][row]} from {begin[row]:g} to {stop[row]:g} s: "
            "give times from 0 on, and a stop after the start"
        )
    return table


def _absolute(base: str, path: str) -> str:
    if is_url(path):
        return path
    return url_of(base, path) if is_url(base) else os.path.abspath(Path(base, path))


# --- the files ----------------------------------------------------------------------


@dataclass(frozen=True)
class PlanFile:
    """A file of a plan: its content as a table, whose row groups are the blocks."""

    table: pa.Table
    block_clips: int

    @property
    def number(self) -> int:
        """Of the file in the plan."""
        return int(self._blocks()[0]) // BLOCKS_OF_FILE

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        return len(np.unique(self._blocks()))

    def to_bytes(self) -> bytes:
        """As Parquet."""
        file = io.BytesIO()
        _, firsts = np.unique(self._blocks(), return_index=True)
        with pq.ParquetWriter(file, self.table.schema, compression="zstd") as writer:
            for first, stop in pairwise([*firsts.tolist(), len(self.table)]):
                block = self.table.slice(first, stop - first)
                writer.write_table(block, self.block_clips)
        return file.getvalue()

    def _blocks(self) -> npt.NDArray[np.int64]:
        """Block of each clip."""
        numbers: npt.NDArray[np.int64] = self.table["clip"].to_numpy()
        return numbers // self.block_clips

    def digest(self) -> bytes:
        """Of its clips, the same for every version of Parquet."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as stream:
            stream.write_table(self.table.combine_chunks())
        return hashlib.sha256(sink.getvalue()).digest()


def planned(
    clips: Iterable[pa.Table], block_clips: int, first_block: int = 0
) -> Iterator[PlanFile]:
    """Yield the files of a plan of clips, or of what is added to one.

    `clips` have path, and start and stop in seconds if there are any, then further
    columns; a block has `block_clips` of them.
    """
    waiting: list[pa.Table] = []
    block, count = first_block, 0
    for table in chain(map(with_all, clips), [None]):
        if table is not None:
            waiting.append(table)
            count += len(table)
        while count >= (most := _room(block) * block_clips) or (
            table is None and count
        ):
            rows = pa.concat_tables(waiting)
            part = rows.slice(0, most)
            waiting, count = [rows.slice(len(part))], count - len(part)
            first = block * block_clips
            numbers = pa.array(range(first, first + len(part)), pa.int64())
            block += _room(block)
            yield PlanFile(part.add_column(0, PLAN.field("clip"), numbers), block_clips)


def _room(block: int) -> int:
    """Blocks from one on that its file of the plan has room for."""
    return BLOCKS_OF_FILE - block % BLOCKS_OF_FILE


def with_all(table: pa.Table) -> pa.Table:
    """A table of clips with the plan's columns first, typed."""
    columns = {}
    for field in PLAN:
        if field.name in table.column_names:
            columns[field.name] = table[field.name].cast(field.type)
        elif field.name != "clip":
            columns[field.name] = pa.nulls(len(table), field.type)
    further = (name for name in table.column_names if name not in PLAN.names)
    return pa.table({**columns, **{name: table[name] for name in further}})


def plan_file(number: int) -> str:
    """Place of a plan's file below the corpus."""
    return f"plan/{number:05d}.parquet"


def read_block(store: Store, block: int) -> tuple[list[dict[str, Any]], pa.Schema]:
    """Clips of a block, and the schema of the plan."""
    with store.open(plan_file(block // BLOCKS_OF_FILE)) as source:
        file = pq.ParquetFile(source)
        table = file.read_row_group(block % BLOCKS_OF_FILE)
    return table.to_pylist(), table.schema


def read_plan(
    store: Store, block_clips: int, blocks: int, first: int = 0
) -> Iterator[pa.Table]:
    """Yield the first blocks of a plan, from a file of it on."""
    for number in range(first, -(-blocks // BLOCKS_OF_FILE)):
        with store.open(plan_file(number)) as source:
            table = pq.ParquetFile(source).read()
        yield table.filter(pc.less(table["clip"], blocks * block_clips))


def count_clips(store: Store, blocks: Iterable[int]) -> int:
    """Clips of blocks of a plan."""
    count = 0
    for number, own in groupby(sorted(blocks), lambda block: block // BLOCKS_OF_FILE):
        with store.open(plan_file(number)) as source:
            file = pq.ParquetFile(source).metadata
        count += sum(file.row_group(one % BLOCKS_OF_FILE).num_rows for one in own)
    return count
