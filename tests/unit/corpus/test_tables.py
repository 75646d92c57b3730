"""tables.py: columns, places and metadata."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmaczs.corpus.keep import FIELDS
from lmaczs.corpus.tables import (
    PLAN,
    SCHEMA_VERSION,
    TABLES,
    blocks_of,
    clips_schema,
    file_of,
    own_names,
    to_parquet,
)


def test_files_state_schema_and_model() -> None:
    """A row is read back; what it lacks is null; an empty table has its columns."""
    row = {"clip": 3, "window": 0, "prompt": "dog", "mass_by_second": [0.5, 0.25]}
    content = to_parquet([row], TABLES["scores"], "scores", {"model": "m"})
    table = pq.read_table(io.BytesIO(content))
    (found,) = table.to_pylist()
    assert found == {**dict.fromkeys(TABLES["scores"].names), **row}
    said = json.loads(table.schema.metadata[b"lmaczs"])
    assert said == {"schema": SCHEMA_VERSION, "table": "scores", "model": "m"}
    empty = pq.read_table(io.BytesIO(to_parquet([], TABLES["events"], "events", {})))
    assert empty.schema.equals(TABLES["events"]) and not len(empty)


def test_equal_rows_are_equal_files() -> None:
    """Nothing of a file depends on when or where it was written."""
    rows = [{"clip": n, "path": "a"} for n in range(3)]
    one, other = (to_parquet(rows, TABLES["failures"], "failures", {}) for _ in "ab")
    assert one == other


def test_clips_carry_what_the_plan_has() -> None:
    """After their own columns, with their types; embeddings have one size."""
    plan = pa.schema([*PLAN, ("day", pa.date32())])
    schema = clips_schema(4, plan)
    assert schema.names[-2:] == ["embedding", "day"]
    assert schema.field("day").type == pa.date32()
    vectors = [{"clip": 0, "embedding": [1.0, 2.0]}]
    with pytest.raises(pa.ArrowInvalid):
        to_parquet(vectors, schema, "clips", {})
    assert own_names() == {*schema.names, "part"} - {"day"}


@pytest.mark.parametrize("block", [0, 999, 1000, 123456])
def test_blocks_are_known_by_their_files(block: int) -> None:
    """A file of the table names its block; any other names none."""
    names = [file_of("clips", block), "clips/notes.txt", "clips/part=00000/x.parquet"]
    assert blocks_of(names) == {block}


def test_what_is_kept_is_chosen_by_columns() -> None:
    """Each field of a condition is a column of scores or clips."""
    assert {*FIELDS} <= {*TABLES["scores"].names, *TABLES["clips"].names}
