"""Shards of a manifest's clips, written whole or not at all.

`lmaczs.data.shards.reader` describes the format.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from tqdm import tqdm

from lmaczs.audio.decoder import UNKNOWN
from lmaczs.audio.mono_file import MonoFile
from lmaczs.data.manifest import OWN
from lmaczs.data.recordings import digests_of, problem_of
from lmaczs.data.segments import Segment, segments_of
from lmaczs.data.shards.reader import INDEX, clip_key, require_webdataset, webdataset
from lmaczs.data.splits import SPLITS, Splits
from lmaczs.utils.errors import AudioError, InputError
from lmaczs.utils.files import atomic_write

PLAN = ".plan.json"  # what the shards of a folder are made of
INDEXED = ["id", "phrases"]  # what the index says of a clip, beside its recording
BITS = {"PCM_S8": "PCM_S8", "PCM_U8": "PCM_S8", "PCM_16": "PCM_16", "PCM_24": "PCM_24"}


@dataclass(frozen=True)
class Clip:
    """What a shard stores of a clip; `about`: id, phrases and other columns."""

    segment: Segment
    about: dict[str, Any]


def write_shards(splits: Splits, folder: Path, clips_per_shard: int) -> Path:
    """Write the shards of three splits, and their index when all are whole.

    Existing shards are kept if they have the size that a finished index states: so an
    interrupted run resumes, and damaged shards are written again. A folder with shards
    of other splits or another `clips_per_shard` raises `FileExistsError`.
    """
    require_webdataset()
    planned = plan(splits, clips_per_shard)
    _claim(folder, planned)
    index = folder / INDEX
    sizes = _sizes_in(index)
    for name, clips in tqdm(planned.items(), unit="shard", disable=None):
        shard = folder / name
        size = shard.stat().st_size if shard.exists() else None
        if size is None or size != sizes.get(name, size):
            write_shard(shard, clips)
    with atomic_write(index) as part:
        part.write_text(_index_of(folder, planned), encoding="utf-8")
    return index


# --- what goes where ----------------------------------------------------------------


def plan(splits: Splits, clips_per_shard: int) -> dict[str, list[Clip]]:
    """Deal clips to shards: the clips of each shard by its file name.

    Training clips are shuffled once, with a fixed seed: manifests are often sorted by
    label, and a shard should be like the whole set.
    """
    planned = {}
    for split in SPLITS:
        clips = list(clips_of(getattr(splits, split)))
        if split == "train":
            order = np.random.default_rng(0).permutation(len(clips))
            clips = [clips[i] for i in order]
        for number, first in enumerate(range(0, len(clips), clips_per_shard)):
            name = f"{split}-{number:06d}.tar"
            planned[name] = clips[first : first + clips_per_shard]
    return planned


def clips_of(table: pd.DataFrame) -> Iterator[Clip]:
    """Clips of a table that has a row a clip, with texts."""
    more = [name for name in table.columns if name not in {*OWN, "texts"}]
    for segment, row in zip(segments_of(table), table.to_dict("records"), strict=True):
        phrases = [
            {"label" if text.is_label else "text": text.words} for text in row["texts"]
        ]
        about = {"id": row["id"], "phrases": phrases, **{k: row[k] for k in more}}
        yield Clip(segment, about)


def _claim(folder: Path, planned: dict[str, list[Clip]]) -> None:
    """Keep a folder for one plan: shards of two must never be mixed."""
    digest = hashlib.sha256(repr(planned).encode()).hexdigest()
    note = folder / PLAN
    if note.exists():
        if json.loads(note.read_text())["sha256"] == digest:
            return
    elif not list(folder.glob("*.tar")):
        with atomic_write(note) as part:
            part.write_text(json.dumps({"sha256": digest}) + "\n")
        return
    raise FileExistsError(
        f"{folder} holds shards of another manifest or of another --clips_per_shard: "
        "give another folder, or delete it first"
    )


def _sizes_in(index: Path) -> dict[str, int]:
    """Size of each shard in bytes, if there is a finished index."""
    if not index.exists():
        return {}
    shards = json.loads(index.read_text(encoding="utf-8"))["shards"]
    return {name: about["bytes"] for name, about in shards.items()}


def _index_of(folder: Path, planned: dict[str, list[Clip]]) -> str:
    """Index of shards that are all written: JSON, a line a shard."""
    every = [clip for clips in planned.values() for clip in clips]
    digests = digests_of(clip.segment.path for clip in every)
    lines = []
    for name, clips in planned.items():
        about = {
            "split": name.split("-")[0],
            "bytes": (folder / name).stat().st_size,
            "clips": [_indexed(clip, digests[clip.segment.path]) for clip in clips],
        }
        lines.append(f"{json.dumps(name)}: {json.dumps(about, ensure_ascii=False)}")
    return f'{{"clips": {len(every)}, "shards": {{\n' + ",\n".join(lines) + "\n}}\n"


def _indexed(clip: Clip, sha256: str) -> dict[str, Any]:
    """What the index has of a clip; by its recording it is known not to test on it."""
    places = {"start": clip.segment.start, "stop": clip.segment.stop}
    return {
        **{key: clip.about[key] for key in INDEXED},
        "sha256": sha256,
        **{name: seconds for name, seconds in places.items() if seconds is not None},
    }


# --- a shard ------------------------------------------------------------------------


def write_shard(path: Path, clips: Iterable[Clip]) -> None:
    """Write a shard, whole or not at all; the same clips give the same bytes."""
    with atomic_write(path) as part, open(part, "wb") as file:
        with webdataset.TarWriter(file, mtime=0) as writer:
            for number, clip in enumerate(clips):
                suffix, audio = stored(clip)
                about = json.dumps(clip.about, ensure_ascii=False).encode()
                key = {"__key__": clip_key(number)}
                writer.write({**key, suffix: audio, "json": about})


def stored(clip: Clip) -> tuple[str, bytes]:
    """Suffix, without its dot, and bytes of a clip's recording as it is stored.

    The file itself where the clip is the whole of it, else a FLAC of the stretch.
    """
    path, start, stop = Path(clip.segment.path), clip.segment.start, clip.segment.stop
    _require_sound(path)
    if not start and stop is None:
        return path.suffix.removeprefix(".").lower() or "audio", path.read_bytes()
    file = MonoFile(path, strict=True)
    frames, rate = file.frames or UNKNOWN, file.rate
    first = round((start or 0) * rate)
    last = frames if stop is None else min(frames, round(stop * rate))
    samples, subtype = _stretch(file, first, last)
    if not len(samples):
        raise InputError(
            f"{path}: clip {clip.about['id']} has no sample between its start and "
            "its stop; fix them in the manifest"
        )
    return _encoded(samples, rate, subtype)


def _stretch(file: MonoFile, first: int, last: int) -> tuple[np.ndarray, str]:
    """Frames first to last [n, channels], int32 where they are exact, and a subtype.

    The mean over the channels of joined recordings, and of others of which libsndfile
    alone does not read all.
    """
    if not (file.as_it_is and file.frames):
        blocks = file.blocks(first, last)
        return np.concatenate([np.zeros(0), *blocks])[:, None], "PCM_24"
    with soundfile.SoundFile(file.path) as recording:
        exact = recording.subtype in BITS
        dtype = "int32" if exact else "float64"
        recording.seek(min(first, recording.frames))
        samples = recording.read(max(0, last - first), dtype, always_2d=True)
        return samples, BITS.get(recording.subtype, "PCM_24")


@functools.cache
def _require_sound(path: Path) -> None:
    """Refuse a recording that is damaged now, not after a day of training."""
    if problem := problem_of(str(path)):
        raise AudioError(f"{path}: {problem}")


def _encoded(samples: np.ndarray, rate: int, subtype: str) -> tuple[str, bytes]:
    """FLAC of int32 samples, or of floats rounded to 24 bits: [samples, channels].

    Float WAV of what FLAC cannot hold: nine channels, and floats beyond full scale.
    """
    file = io.BytesIO()
    if samples.dtype != np.int32:
        levels = np.rint(samples * 2.0**23)
        if levels.min() >= -(2**23) and levels.max() < 2**23:
            samples = levels.astype(np.int32) << 8
    if samples.dtype == np.int32 and samples.shape[1] > 8:
        samples = samples / 2.0**31
    if samples.dtype != np.int32:
        soundfile.write(file, samples, rate, "FLOAT", format="WAV")
        return "wav", file.getvalue()
    soundfile.write(file, samples, rate, subtype, format="FLAC")
    return "flac", file.getvalue()
