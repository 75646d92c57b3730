"""plan.py: which clips there are, and their blocks."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.corpus import plan
from lmaczs.corpus.plan import (
    PlanFile,
    clips_in,
    clips_of_manifest,
    count_clips,
    is_manifest,
    plan_file,
    planned,
    read_block,
    read_plan,
    with_all,
)
from lmaczs.corpus.store import Store
from lmaczs.utils.errors import InputError

INFINITE = float("inf")


def table_of(count: int, **more: Any) -> pa.Table:
    """Clips that are named by numbers."""
    return pa.table({"path": [f"/{n}.wav" for n in range(count)], **more})


@given(st.lists(st.integers(0, 9), max_size=6), st.integers(1, 5), st.integers(1, 3))
def test_blocks_hold_each_clip_once_in_order(
    sizes: list[int], block_clips: int, blocks_of_file: int
) -> None:
    """However clips come, and whatever the sizes; only the last block is smaller."""
    rows = table_of(sum(sizes))
    parts, first = [], 0
    for size in sizes:
        parts.append(rows.slice(first, size))
        first += size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "BLOCKS_OF_FILE", blocks_of_file)
        files = list(planned(parts, block_clips))
    blocks = [
        group.to_pylist()
        for file in files
        for opened in [pq.ParquetFile(io.BytesIO(file.to_bytes()))]
        for group in map(opened.read_row_group, range(opened.num_row_groups))
    ]
    assert len(blocks) == sum(file.blocks for file in files)
    found = [row for block in blocks for row in block]
    assert [row["clip"] for row in found] == list(range(sum(sizes)))
    assert [row["path"] for row in found] == rows["path"].to_pylist()
    assert all(len(block) == block_clips for block in blocks[:-1])
    assert all(file.blocks == blocks_of_file for file in files[:-1])


def test_a_block_is_read_alone(tmp_path: Path) -> None:
    """With its columns, carried ones too; start and stop are null where not given."""
    store = Store(tmp_path)
    days = pa.array([1, 2, 3, 4, 5], pa.date32())
    given = table_of(5, day=days, start=[None, 1, None, 2, None])
    for number, file in enumerate(planned([given], 2)):
        store.write(plan_file(number), file.to_bytes())
    rows, schema = read_block(store, 1)
    assert schema.names == ["clip", "path", "start", "stop", "day"]
    assert schema.field("day").type == pa.date32()
    assert [row["clip"] for row in rows] == [2, 3]
    assert [row["start"] for row in rows] == [None, 2.0]
    assert len(read_block(store, 2)[0]) == 1


def test_blocks_are_added_behind_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file that has room; numbers are those of the block, of which some stay."""
    monkeypatch.setattr(plan, "BLOCKS_OF_FILE", 3)
    store = Store(tmp_path)
    files = list(planned([table_of(9)], 2, first_block=2))
    assert [(file.number, file.blocks) for file in files] == [(0, 1), (1, 3), (2, 1)]
    numbers = [file.table["clip"].to_pylist() for file in files]
    assert numbers == [[4, 5], [6, 7, 8, 9, 10, 11], [12]]
    (first,) = planned([table_of(3)], 2)
    both = PlanFile(pa.concat_tables([first.table, files[0].table]), 2)
    for file in (both, *files[1:]):
        store.write(plan_file(file.number), file.to_bytes())
    blocks = [[row["clip"] for row in read_block(store, n)[0]] for n in range(7)]
    assert blocks == [[0, 1], [2], [4, 5], [6, 7], [8, 9], [10, 11], [12]]
    assert count_clips(store, range(7)) == 12 and count_clips(store, []) == 0
    assert count_clips(store, [6, 1, 3]) == 4
    read = [one["clip"].to_pylist() for one in read_plan(store, 2, 5)]
    assert read == [[0, 1, 2, 4, 5], [6, 7, 8, 9]]
    (last,) = read_plan(store, 2, 7, 2)
    assert last["path"].to_pylist() == ["/8.wav"]


def test_a_table_has_the_plan_s_columns() -> None:
    """First, typed, missing ones empty; further ones behind them."""
    table = with_all(pa.table({"site": [1], "start": [2], "path": ["/a.wav"]}))
    assert table.to_pylist() == [
        {"path": "/a.wav", "start": 2.0, "stop": None, "site": 1}
    ]
    assert table.column_names == ["path", "start", "stop", "site"]


def test_digests_are_of_the_clips() -> None:
    """The same for the same clips, however they came; another for any other."""

    def digests(*tables: pa.Table, size: int = 4) -> list[bytes]:
        return [file.digest() for file in planned(tables, size)]

    whole = table_of(6, start=[0.5] * 6)
    assert digests(whole) == digests(whole.slice(0, 1), whole.slice(1))
    assert digests(whole) != digests(table_of(6, start=[0.25] * 6))
    assert digests(whole) != digests(whole.slice(0, 5))


def test_recordings_are_named_absolutely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    """Paths by the folder where the command is; a URL that ends in / is a folder."""
    monkeypatch.chdir(tmp_path)
    store = Store(bucket)
    for name in ("b/y.WAV", "b/a.flac", "b/notes.txt", "c.wav"):
        store.write(name, b"x")
    given = ["x.wav", f"{bucket}/b/", f"{bucket}/c.wav"]
    (table,) = clips_in(given)
    expected = [os.path.join(os.getcwd(), "x.wav"), f"{bucket}/b/a.flac"]
    expected += [f"{bucket}/b/y.WAV", f"{bucket}/c.wav"]
    assert table["path"].to_pylist() == expected
    with pytest.raises(InputError, match="there is no recording in this folder"):
        list(clips_in([f"{bucket}/none/"]))


def test_names_that_are_no_text_are_clips() -> None:
    """With what is no text escaped: they fail, the others do not."""
    (table,) = clips_in(["/a/b\udcff.wav", "/a/ü.wav"])
    assert table["path"].to_pylist() == ["/a/b\\udcff.wav", "/a/ü.wav"]


def test_a_corpus_in_a_folder_is_no_recording(bucket: str) -> None:
    """What is kept of one in a store is not given to it when it is resumed."""
    store = Store(bucket)
    for name in ("a.wav", "out/corpus.json", "out/kept/0-0/input.wav", "outs/b.wav"):
        store.write(name, b"x")
    (table,) = clips_in([f"{bucket}/"])
    assert table["path"].to_pylist() == [f"{bucket}/a.wav", f"{bucket}/outs/b.wav"]


def test_many_recordings_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is lost where a part ends."""
    monkeypatch.setattr(plan, "ROWS_AT_ONCE", 3)
    tables = list(clips_in(f"/{n}.wav" for n in range(7)))
    assert [len(one) for one in tables] == [3, 3, 1]
    paths = [path for one in tables for path in one["path"].to_pylist()]
    assert paths == [f"/{n}.wav" for n in range(7)]


def test_manifests_are_csv_or_parquet(tmp_path: Path, bucket: str) -> None:
    """With the same clips by either; paths are relative to the manifest, or URLs."""
    assert is_manifest("s3://a/X.Parquet") and is_manifest("a.csv")
    assert not is_manifest("a.wav")
    text = "path,start,stop,site\na.wav,1,2.5,north\ns3://b/c.wav,,,south\n"
    (tmp_path / "m.csv").write_text(text)
    columns = {"path": ["a.wav", "s3://b/c.wav"], "start": [1.0, None]}
    rows = pa.table({**columns, "stop": [2.5, None], "site": ["north", "south"]})
    pq.write_table(rows, tmp_path / "m.parquet")
    by_csv, by_parquet = (
        pa.concat_tables(clips_of_manifest(str(tmp_path / name))).to_pylist()
        for name in ("m.csv", "m.parquet")
    )
    assert by_csv == by_parquet
    assert by_csv[0]["path"] == str(tmp_path / "a.wav")
    assert by_csv[1]["path"] == "s3://b/c.wav" and by_csv[1]["start"] is None
    content = (tmp_path / "m.parquet").read_bytes()
    Store(bucket).write("lists/m.parquet", content)
    (remote,) = clips_of_manifest(f"{bucket}/lists/m.parquet")
    assert remote["path"].to_pylist() == [f"{bucket}/lists/a.wav", "s3://b/c.wav"]


@pytest.mark.parametrize(
    "columns, reason",
    [
        ({"file": ["a"]}, "has no column path; it has"),
        ({"path": ["a", None]}, "in a row path is empty, or no text"),
        (
            {"path": ["a"], "sha256": ["x"]},
            "has a column sha256, which the table clips",
        ),
        ({"path": ["a"], "part": [1]}, "has a column part, which the table clips"),
        ({"path": ["a"], "start": ["soon"]}, "column start, in seconds: Failed to"),
        ({"path": ["a", "b"], "start": [None, -1.0]}, "b from -1 to nan s: give times"),
        ({"path": ["a"], "start": [INFINITE]}, "a from inf to nan s: give times"),
        ({"path": ["a"], "stop": [INFINITE]}, "a from 0 to inf s: give times"),
        ({"path": ["a"], "start": [2], "stop": [2]}, "a from 2 to 2 s: give times"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(
    tmp_path: Path, columns: dict[str, Any], reason: str
) -> None:
    """By its name and what is wrong."""
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(InputError) as caught:
        list(clips_of_manifest(str(path)))
    assert str(caught.value).startswith(str(path)) and reason in str(caught.value)


def test_times_of_any_type_are_numbers(tmp_path: Path) -> None:
    """Whole numbers and texts, too; NaN is none."""
    for column in ([1, None], ["1", None], [1.0, float("nan")]):
        rows = pa.table({"path": ["/a", "/b"], "stop": column})
        pq.write_table(rows, tmp_path / "m.parquet")
        (file,) = planned(clips_of_manifest(str(tmp_path / "m.parquet")), 2)
        assert file.table["stop"].type == pa.float64()
        first, second = file.table["stop"].to_pylist()
        assert first == 1.0 and (second is None or second != second)


def test_a_column_counts_once(tmp_path: Path) -> None:
    """Two of a name cannot be carried."""
    columns = [pa.array(["/a"]), pa.array([1]), pa.array([2])]
    rows = pa.Table.from_arrays(columns, ["path", "site", "site"])
    pq.write_table(rows, tmp_path / "m.parquet")
    with pytest.raises(InputError, match="has several columns site: rename them"):
        clips_of_manifest(str(tmp_path / "m.parquet"))


def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """No Parquet, no file, and CSV in a store."""
    broken = tmp_path / "m.parquet"
    broken.write_text("path\n")
    for place in (str(broken), str(tmp_path / "none.parquet")):
        with pytest.raises(InputError, match="cannot be read as Parquet"):
            list(clips_of_manifest(place))
    with pytest.raises(InputError, match="a manifest in a store is Parquet"):
        list(clips_of_manifest("s3://a/m.csv"))
