"""Shards: a set's clips in the tars of a WebDataset, for sets that outgrow a disk.

`recipes/write_shards.py` makes them of a manifest. Each tar holds a few hundred clips:
the recording (``000017.wav``), and its id and phrases (``000017.json``). ``index.json``
beside the tars has the latter of all clips and the size of each tar: so labels,
captions and the length of an epoch are known before training, and a missing or
truncated shard is noticed.
"""

from __future__ import annotations

import json
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from lmaczs.utils.errors import AudioError, InputError
from lmaczs.utils.extras import install_extra

try:
    import webdataset
    from webdataset.gopen import gopen
    from webdataset.shardlists import expand_urls
    from webdataset.tariterators import group_by_keys
except ModuleNotFoundError:  # an extra
    webdataset = None

from lmaczs.audio.io import load_audio
from lmaczs.data.clip_texts import ClipText
from lmaczs.data.splits import SPLITS, Splits

INDEX = "index.json"
FILE_NAME = re.compile(r"\w[\w.-]*")
"""Names of shards, which somebody else may have written."""

SUFFIX = re.compile(r"[^/\0]{1,60}")
"""Suffixes of recordings that a temporary file can have, too."""

NO_INDEX = (LookupError, TypeError, AttributeError, RecursionError)
"""What an index of another kind raises."""

FIX = "run recipes/write_shards.py again: it writes what is not whole"
ANEW = "delete it, and run recipes/write_shards.py again: it writes what lacks"


class ShardError(InputError):
    """A shard or an index that cannot be used: which one, why, and how to fix it."""

    def __init__(self, text: str) -> None:
        # a DataLoader raises again what its worker met, with a traceback in the text
        super().__init__(text.rstrip().rsplit("ShardError: ", 1)[-1])


def require_webdataset() -> None:
    """Raise `ShardError` unless webdataset is installed."""
    if webdataset is None:
        raise ShardError(
            f"shards need the library webdataset: {install_extra('shards')}"
        )


# --- the index ----------------------------------------------------------------------


def is_shards(manifest: str | Path) -> bool:
    """Whether ``--manifest`` names shards, not a CSV."""
    return str(manifest).endswith(".tar")


def in_shards(table: pd.DataFrame) -> bool:
    """Whether the clips of a table lie in shards: their paths are SHARD.tar/KEY."""
    return table.path.str.rpartition("/")[0].str.endswith(".tar").any()


def read_shards(pattern: str) -> Splits:
    """Tables of the clips in shards: id, path (``shard.tar/000017``), label and texts.

    And what they were cut from, where the index has it: sha256 of the recording, start
    and stop in s.

    The pattern, ``shards/train-{000000..000127}.tar``, has braces as webdataset expands
    them. Splits valid and test are those of its shards, or else all that the index
    lists. A missing index, or a shard that is unlisted, missing or not whole raises
    `ShardError`.
    """
    require_webdataset()
    urls = list(dict.fromkeys(expand_urls(pattern)))
    parent, slash, _ = urls[0].rpartition("/")
    listed = _read_index(parent + slash)
    foreign = [url for url in urls if url not in listed]
    if foreign:
        raise ShardError(
            f"--manifest names {foreign[0]}, which is none of the {len(listed)} shards "
            f"that {parent}{slash}{INDEX} lists, {min(listed)} to {max(listed)}"
        )
    return Splits(*(_table_of(split, urls, listed) for split in SPLITS))


def _read_index(prefix: str) -> dict[str, dict[str, Any]]:
    """Split, size and clips of each shard, by the shard's name in a pattern."""
    try:
        with gopen(prefix + INDEX) as file:
            shards = json.loads(file.read())["shards"]
        for about in shards.values():
            _require_kind(about)
    except (OSError, ValueError, *NO_INDEX) as error:
        raise ShardError(
            f"{prefix}{INDEX} cannot be read ({error}): shards need the index that "
            "recipes/write_shards.py writes beside them when the last one is done"
        ) from error
    for name in shards:  # gopen runs what begins with "pipe:", and quotes nothing
        if not FILE_NAME.fullmatch(name):
            raise ShardError(
                f"{prefix}{INDEX} lists {name!r}, which is no shard beside it: do not "
                "use it unless you know who made it"
            )
    return {prefix + name: about for name, about in shards.items()}


def _require_kind(about: Mapping[str, Any]) -> None:
    """Raise an error of `NO_INDEX` unless this is what an index has of a shard."""
    if not isinstance(about["split"], str) or not isinstance(about["bytes"], int):
        raise TypeError("a split is no text, or a size no number")
    for place, clip in enumerate(about["clips"]):
        _row("", place, clip)


def _table_of(
    split: str, named: list[str], listed: dict[str, dict[str, Any]]
) -> pd.DataFrame:
    """Table of a split's clips: in the shards that are named, or else in all."""
    everything = [url for url, shard in listed.items() if shard["split"] == split]
    chosen = [url for url in named if url in set(everything)]
    if split != "train":
        chosen = chosen or everything
    if not chosen:
        raise ShardError(
            f"--manifest names no shard of split {split}; a manifest's column split "
            "says what write_shards.py puts into which"
        )
    rows = []
    for url in chosen:
        _require_whole(url, listed[url]["bytes"])
        rows += [_row(url, *clip) for clip in enumerate(listed[url]["clips"])]
    return pd.DataFrame(rows)


def _row(url: str, place: int, about: Mapping[str, Any]) -> dict[str, Any]:
    pairs = [pair for text in about["phrases"] for pair in text.items()]
    texts = tuple(ClipText(words, kind == "label") for kind, words in pairs)
    return {
        "id": about["id"],
        "path": f"{url}/{clip_key(place)}",
        "label": next((one.words for one in texts if one.is_label), ""),
        "texts": texts,
        "sha256": about.get("sha256", ""),
        **{name: about.get(name) for name in ("start", "stop")},
    }


def clip_key(place: int) -> str:
    """Name of a clip's members in its shard, without their suffixes."""
    return f"{place:06d}"


def _require_whole(url: str, size: int) -> None:
    if "://" in url or url.startswith("pipe:"):
        return  # what comes over a network is counted when it is read
    path = Path(url)
    if not path.is_file():
        raise ShardError(f"{path} is missing; {FIX}")
    if path.stat().st_size != size:
        raise ShardError(f"{path} has {path.stat().st_size} of {size} bytes; {FIX}")


# --- reading ------------------------------------------------------------------------


@dataclass(frozen=True)
class StoredClip:
    """A clip as it lies in a shard: its recording, not decoded, of type `suffix`."""

    path: str
    audio: bytes
    suffix: str

    def load(self, sample_rate: int) -> Tensor:
        """Decode the recording: [samples] at a rate in Hz; `AudioError` if damaged."""
        with tempfile.NamedTemporaryFile(suffix=f".{self.suffix}") as file:
            file.write(self.audio)
            file.flush()
            try:
                return load_audio(file.name, sample_rate, strict=True)
            except AudioError as error:
                reason = str(error).removeprefix(f"{file.name}: ")
                raise AudioError(f"{self.path}: {reason}") from error


def read_clips(table: pd.DataFrame) -> Iterator[StoredClip]:
    """Read clips out of their shards, each shard sequentially.

    The table has id and path, shard by shard; it need not have all clips of a shard.
    """
    shards = table.path.str.rpartition("/")[0]
    for url, clips in table.groupby(shards, sort=False):
        yield from _read_shard(url, dict(zip(clips.path, clips.id, strict=True)))


def _read_shard(url: str, wanted: dict[str, str]) -> Iterator[StoredClip]:
    """Clips of a shard: `wanted` maps their paths to their ids."""
    left = dict(wanted)
    try:
        for sample in group_by_keys(_members(url)):
            path = f"{url}/{sample['__key__']}"
            if path not in left:
                continue
            _require_id(path, json.loads(sample["json"])["id"], left.pop(path))
            (suffix,) = (k for k in sample if k != "json" and not k.startswith("_"))
            if not SUFFIX.fullmatch(suffix):
                raise ValueError("it is no recording's suffix")
            yield StoredClip(path, sample[suffix], suffix)
    except ShardError:
        raise
    except (OSError, EOFError, ValueError, tarfile.TarError, *NO_INDEX) as error:
        raise ShardError(
            f"{url} is missing or damaged ({type(error).__name__} when "
            f"{len(wanted) - len(left)} of {len(wanted)} clips were read); {ANEW}"
        ) from error
    if left:
        raise ShardError(
            f"{url} ends after {len(wanted) - len(left)} of {len(wanted)} clips; {ANEW}"
        )


def _members(url: str) -> Iterator[dict[str, Any]]:
    """Files in a shard, as webdataset groups them.

    It would read each at its stated size, which a compressed or sparse one need not
    have: they are refused.
    """
    with gopen(url) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined] # else all are kept
            if member.issparse():
                raise tarfile.ReadError(f"{member.name} is sparse")
            file = tar.extractfile(member) if member.isreg() else None
            if file is not None:
                yield {"fname": member.name, "data": file.read(), "__url__": url}


def _require_id(path: str, found: str, expected: str) -> None:
    if found != expected:
        raise ShardError(
            f"{path} is {found}, where {INDEX} has {expected}: they are not of one "
            "writing; delete the shard and run recipes/write_shards.py again"
        )
