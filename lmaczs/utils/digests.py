"""Digests of weights, clips and files, to compare what two runs were made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pooch
from torch import nn

from lmaczs import __version__

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 8
WEIGHTS = ("*.safetensors", "*.bin", "*.ckpt")
MODEL_FILES = ("*.json", "*.txt", "*.model", *WEIGHTS)


def fingerprint(module: nn.Module) -> str:
    """Digest of a model's weights: eight hexadecimal digits."""
    content = hashlib.sha256()
    for name, value in module.state_dict().items():
        content.update(name.encode())
        content.update(value.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:DIGITS]


def clips_digest(table: pd.DataFrame) -> str:
    """Number and digest of a table's clips: ids, texts, segments, sizes of files.

    The table has id and path; split, label, text, texts, start, stop and sha256, the
    digests of the files, count if present.
    """
    rows = [_row(row) for row in table.to_dict("records")]
    return f"{len(rows)} (digest {digest(rows)})"


def _row(row: Mapping[str, Any]) -> list[Any]:
    import pandas as pd

    path = Path(row["path"])
    size = path.stat().st_size if path.is_file() else None  # None: it is in a shard
    said = [[one.words, one.is_label] for one in row.get("texts", ())]
    words = [row.get(name) or "" for name in ("split", "label", "text")]
    cut = [None if pd.isna(x := row.get(name)) else x for name in ("start", "stop")]
    content = [row["sha256"]] if "sha256" in row else []
    return [row["id"], *words, said, *cut, size, *content]


def code_digest(*left_out: str) -> str:
    """Version of this package, and digest of its source without some subpackages."""
    folder = Path(__file__).parents[1]
    paths = {path.relative_to(folder): path for path in folder.rglob("*.py")}
    files = [
        [name.as_posix(), pooch.file_hash(str(path))]
        for name, path in sorted(paths.items())
        if name.parts[0] not in left_out
    ]
    return f"{__version__} (digest {digest(files)})"


def files_digest(places: Iterable[str | Path | None]) -> str:
    """Digest of the contents of files, and of the models in folders.

    Of a Hub id, and of a path that does not exist, only the name counts.
    """
    return digest([_content(place) for place in places])


def _content(place: str | Path | None) -> Any:
    if place is None:
        return None
    path = Path(place)
    if path.is_dir():
        files = {one for pattern in MODEL_FILES for one in path.glob(pattern)}
        return [[one.name, _content(one)] for one in sorted(files) if one.is_file()]
    if not path.is_file():
        return str(place)
    return pooch.file_hash(str(path))


def digest(value: Any) -> str:
    """Eight hexadecimal digits of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:DIGITS]
