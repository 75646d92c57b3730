"""growth.py: clips that come later are added, and what was planned stays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.corpus import plan
from lmaczs.corpus.growth import grow, other_corpus
from lmaczs.corpus.plan import plan_file, planned, read_block
from lmaczs.corpus.store import Store
from lmaczs.utils.errors import InputError

Row = dict[str, Any]


def table_of(rows: list[Row]) -> pa.Table:
    """Clips, of which some are stretches, with a label."""
    fields = [("path", pa.string()), ("start", pa.float64()), ("label", pa.string())]
    return pa.Table.from_pylist(rows, pa.schema(fields))


def begun(store: Store, clips: pa.Table, block_clips: int) -> int:
    """Plan clips; return how many blocks they are."""
    count = 0
    for file in planned([clips], block_clips):
        store.write(plan_file(file.number), file.to_bytes())
        count += file.blocks
    return count


def rows_in(store: Store, block: int) -> list[Row]:
    """Clips of a block, by the columns of `table_of`."""
    rows, _ = read_block(store, block)
    return [{name: row[name] for name in ("path", "start", "label")} for row in rows]


def counted(rows: list[Row]) -> Counter[Any]:
    """How often each clip is there."""
    return Counter(tuple(sorted(row.items())) for row in rows)


def numbers_in(store: Store, block: int) -> list[int]:
    """Of the clips of a block."""
    return [row["clip"] for row in read_block(store, block)[0]]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "label": st.sampled_from(["x", None]),
            "path": st.sampled_from("abc"),
            "start": st.sampled_from([None, 0.5]),
        }
    ),
    min_size=1,
    max_size=7,
)


@given(st.lists(ROWS, min_size=2, max_size=4), st.randoms(), st.data())
def test_each_clip_is_planned_once(
    days: list[list[Row]], random: Any, data: st.DataObject
) -> None:
    """However often more are given, in any order, with some that are there twice.

    Blocks stay; a clip's number tells its block; a file may begin within a growth.
    """
    size = data.draw(st.integers(1, 3))
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(plan, "BLOCKS_OF_FILE", data.draw(st.integers(1, 3)))
        store, known = Store(folder), list(days[0])
        count = begun(store, table_of(known), size)
        for day in days[1:]:
            before = [read_block(store, block)[0] for block in range(count)]
            known += day
            random.shuffle(known)
            old, count = count, grow(store, [table_of(known)], size, count)
            assert count == old + -(-len(day) // size)
            assert [read_block(store, block)[0] for block in range(old)] == before
        found = [row for block in range(count) for row in rows_in(store, block)]
        assert counted(found) == counted(known)
        for block in range(count):
            numbers = numbers_in(store, block)
            first = block * size
            assert numbers == list(range(first, first + len(numbers)))


def test_what_a_killed_process_planned_is_replaced(tmp_path: Path) -> None:
    """Only what the corpus was said to have counts."""
    store = Store(tmp_path)
    rows = [{"path": f"/{name}.wav"} for name in "abcd"]
    blocks = begun(store, table_of(rows[:1]), 2)
    assert grow(store, [table_of(rows[:3])], 2, blocks) == 2
    assert grow(store, [table_of([*rows[:1], *rows[3:]])], 2, blocks) == 2
    paths = [row["path"] for n in (0, 1) for row in rows_in(store, n)]
    assert paths == ["/a.wav", "/d.wav"]


@pytest.mark.parametrize(
    "table, reason",
    [
        (
            pa.table({"path": ["/a.wav", "/a.wav"], "day": [1, 2]}),
            r"of other clips \(1 of its 3 are not given, such as /b.wav\)",
        ),
        (
            pa.table({"path": ["/a.wav", "/b.wav", "/c.wav"], "day": [1, 1, 1]}),
            r"of other clips \(2 of its 3 are not given, such as /b.wav\)",
        ),
        (
            pa.table({"path": ["/a.wav"]}),
            r"of clips with other columns \(day: int64 and none\)",
        ),
        (
            pa.table({"path": ["/a.wav"], "day": ["1"]}),
            r"of clips with other columns \(day: int64 and string\)",
        ),
        (
            pa.table({"path": ["/a.wav"], "day": [1], "x": [1]}),
            r"of clips with other columns \(x: none and int64\)",
        ),
    ],
)
def test_clips_that_are_missing_or_changed_are_refused(
    tmp_path: Path, table: pa.Table, reason: str
) -> None:
    """In a sentence; the plan stays."""
    store = Store(tmp_path)
    clips = pa.table({"path": ["/a.wav", "/b.wav", "/a.wav"], "day": [1, 2, 2]})
    blocks = begun(store, clips, 2)
    before = store.states("")
    with pytest.raises(InputError, match=f"--out .* holds a corpus {reason}: name an"):
        grow(store, [table], 2, blocks)
    assert store.states("") == before


def test_another_corpus_is_named(tmp_path: Path) -> None:
    """By its place, with how to fix it."""
    text = str(other_corpus(Store(tmp_path), "of other prompts"))
    assert text.startswith(f"--out {tmp_path} holds a corpus of other prompts: name")
