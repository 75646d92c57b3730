"""Clips that were not there when a corpus was planned: they are added as new blocks.

Blocks of the plan stay as they are. A clip is the same where all of its columns are.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import pyarrow as pa

from lmaczs.corpus.plan import plan_file, planned, read_plan, with_all
from lmaczs.corpus.store import Store
from lmaczs.utils.errors import InputError


def grow(store: Store, clips: Iterable[pa.Table], block_clips: int, blocks: int) -> int:
    """Plan the clips that a plan does not have.

    Parameters
    ----------
    store : Store
        The corpus.
    clips : iterable of Table
        All clips, as for `planned`.
    block_clips : int
        Clips of a block.
    blocks : int
        Of the plan; what its files have beyond them is replaced.

    Returns
    -------
    int
        Blocks of the plan, with those that were added.

    Raises
    ------
    InputError
        If a clip of the plan is missing, or clips have other columns.
    """
    new = _added(store, partial(read_plan, store, block_clips, blocks), clips)
    count = blocks
    for file in planned(new, block_clips, blocks):
        known = read_plan(store, block_clips, blocks, file.number)
        whole = replace(file, table=pa.concat_tables([*known, file.table]))
        store.write(plan_file(file.number), whole.to_bytes())
        count += file.blocks
    return count


def other_corpus(store: Store, how: str) -> InputError:
    """An error that says that, and how, a place holds another corpus."""
    return InputError(
        f"--out {store.place} holds a corpus {how}: name another folder, or give what "
        "it was begun with"
    )


def _added(
    store: Store, read: Callable[[], Iterable[pa.Table]], clips: Iterable[pa.Table]
) -> list[pa.Table]:
    """Clips that are not in a plan, each as often as it is there more often."""
    schema = next(iter(read())).drop_columns("clip").schema
    left = Counter(key for table in read() for key in _keys(table, schema))
    count = left.total()
    found = []
    for table in map(with_all, clips):
        if how := _other_columns(schema, table.schema):
            raise other_corpus(store, how)
        new = []
        for key in _keys(table, schema):
            new.append(not left[key])
            if left[key]:
                left[key] -= 1
        found.append(table.select(schema.names).filter(pa.array(new)))
    if missing := left.total():
        paths = (
            path
            for table in read()
            for path, key in zip(table["path"], _keys(table, schema), strict=True)
            if left[key]
        )
        how = f"{missing} of its {count} are not given, such as {next(paths)}"
        raise other_corpus(store, f"of other clips ({how})")
    return found


def _keys(table: pa.Table, schema: pa.Schema) -> Iterator[bytes]:
    """What tells each clip from others, short: a plan may have millions."""
    columns = (table[name].to_pylist() for name in schema.names)
    for row in zip(*columns, strict=True):
        yield hashlib.blake2b(repr(row).encode(), digest_size=16).digest()


def _other_columns(known: pa.Schema, given: pa.Schema) -> str:
    """How columns or their types differ; empty if they do not."""
    old, new = (dict(zip(one.names, one.types, strict=True)) for one in (known, given))
    for name in {**old, **new}:
        if old.get(name) != new.get(name):
            types = " and ".join(str(one.get(name, "none")) for one in (old, new))
            return f"of clips with other columns ({name}: {types})"
    return ""
