"""The tables of a corpus: their columns, and where they lie.

Each is a folder of Parquet files, one a block of clips, ``TABLE/part=00000/BLOCK.
parquet``. A block's file of `clips` is written last: the block is whole where it is.
The metadata of every file, ``lmaczs``, is JSON with the version of this schema, the
table's name, the model, and `band_hz`: the limits in Hz of the model's mel bands.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA_VERSION = 1

STATE = "corpus.json"
"""Beside the tables: what they are made of."""

PART = 1000
"""Blocks in a folder."""

NAME = re.compile(r"\w+/part=\d+/(\d+)\.parquet")

PLACE = [("clip", pa.int64()), ("path", pa.string())]
"""Number of a clip, in the order of the plan, and its recording."""

STRETCH = [("start", pa.float64()), ("stop", pa.float64())]
"""Seconds from the recording's begin."""

PLAN = pa.schema([*PLACE, *STRETCH])
"""Of the clips that are to be done: start and stop are null where they are the
recording's. Further columns are carried into `clips`."""

FLOATS = (
    *("masked_similarity", "masked_presence"),
    *("residual_similarity", "residual_presence"),
    *("mask_mean", "mass"),
)

TABLES: dict[str, pa.Schema] = {
    "scores": pa.schema(
        [
            ("clip", pa.int64()),
            ("window", pa.int32()),
            ("prompt", pa.string()),
            ("similarity", pa.float32()),
            ("presence", pa.float32()),
            ("verdict", pa.string()),
            *((name, pa.float32()) for name in FLOATS),
            ("mass_by_band", pa.list_(pa.float32())),
            ("mass_by_second", pa.list_(pa.float32())),
            ("refine_steps", pa.int32()),
            ("folder", pa.string()),
        ]
    ),
    "events": pa.schema(
        [
            ("clip", pa.int64()),
            *STRETCH,
            ("low_hz", pa.float64()),
            ("high_hz", pa.float64()),
            ("prompt", pa.string()),
            ("similarity", pa.float32()),
            ("presence", pa.float32()),
            ("mass", pa.float32()),
        ]
    ),
    "failures": pa.schema([*PLACE, *STRETCH, ("reason", pa.string())]),
    "clips": pa.schema(
        [
            *PLACE[:1],
            ("window", pa.int32()),
            *PLACE[1:],
            ("sha256", pa.string()),
            *STRETCH,
            ("warnings", pa.list_(pa.string())),
        ]
    ),
}
"""Columns of each table, in the order in which a block's files are written. `clips`
has `embedding`, too, a list of as many float32 as the model's have, and what the
manifest has beside its own columns."""

EMBEDDING = "embedding"

WHOLE = "clips"


def clips_schema(size: int, plan: pa.Schema) -> pa.Schema:
    """Schema of `clips`, for embeddings of a size and a plan with further columns."""
    carried = [field for field in plan if field.name not in PLAN.names]
    embedding = pa.field(EMBEDDING, pa.list_(pa.float32(), size))
    return pa.schema([*TABLES["clips"], embedding, *carried])


def own_names() -> set[str]:
    """Columns that a manifest cannot carry: `clips`, or its folders, have them."""
    return {*TABLES["clips"].names, EMBEDDING, "part"}


def file_of(table: str, block: int) -> str:
    """Place of a block's file below the corpus."""
    return f"{table}/part={block // PART:05d}/{block:08d}.parquet"


def blocks_of(names: Iterable[str]) -> set[int]:
    """Blocks by the names of a table's files."""
    found = (NAME.fullmatch(name) for name in names)
    return {int(one[1]) for one in found if one}


def failure_text(row: Mapping[str, Any]) -> str:
    """A row of `failures` as a sentence."""
    return f"{row['path']}: {row['reason']}"


def to_parquet(
    rows: list[dict[str, Any]],
    schema: pa.Schema,
    table: str,
    about: Mapping[str, Any],
) -> bytes:
    """Content of a Parquet file; `about` is what its metadata says of the model."""
    said = {"schema": SCHEMA_VERSION, "table": table, **about}
    schema = schema.with_metadata({"lmaczs": json.dumps(said)})
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), file, compression="zstd")
    return file.getvalue()
