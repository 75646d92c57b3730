"""Shared by unit tests: shards as specified, written without webdataset."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _write_shard(path: Path, clips: pd.DataFrame) -> dict:
    """Write a tar of these clips and return its entry in the index."""
    said = []
    with tarfile.open(path, "w") as tar:
        for place, row in enumerate(clips.itertuples()):
            phrases = [{"text": text} for text in getattr(row, "texts", ())]
            phrases += [{"label": row.label}] if row.label else []
            said.append({"id": row.id, "phrases": phrases})
            audio = Path(row.path)
            _add(tar, f"{place:06d}.json", json.dumps(said[-1]).encode())
            _add(tar, f"{place:06d}{audio.suffix}", audio.read_bytes())
    return {"bytes": path.stat().st_size, "clips": said}


@pytest.fixture(scope="session")
def write_shards() -> Callable[..., Path]:
    """Function that writes the clips of a table as shards, with their index.

    Arguments: ``folder``; ``table``, of id, path, label and, if there are, texts and
    split; and ``clips_per_shard``. All splits are the table where it has none.
    """

    def write(folder: Path, table: pd.DataFrame, clips_per_shard: int = 4) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        index = {}
        for split in ("train", "valid", "test"):
            clips = table[table.split == split] if "split" in table else table
            for number, first in enumerate(range(0, len(clips), clips_per_shard)):
                name = f"{split}-{number:06d}.tar"
                chosen = clips[first : first + clips_per_shard]
                index[name] = {"split": split, **_write_shard(folder / name, chosen)}
        (folder / "index.json").write_text(json.dumps({"shards": index}))
        return folder

    return write
