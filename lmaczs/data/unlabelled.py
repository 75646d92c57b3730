"""Recordings without labels, cut into clips that are as long as a model's input."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lmaczs.data.lists import MissingDataError, recordings_in, require_audio, seconds_of
from lmaczs.data.manifest import CLIP, read_manifest
from lmaczs.data.segments import Segment, segments_of
from lmaczs.data.splits import Splits
from lmaczs.utils.errors import InputError

SHORTEST = 1.0  # s, of what is left at a recording's end
FEWEST = 12  # clips
FEW = 20  # recordings, below which clips of one are in several splits
HELD_OUT = 40  # clips at most, for validation and for the test


def read_unlabelled(
    data: str | Path, clip_seconds: float, most_clips: int, seed: int = 0
) -> Splits:
    """Clips of a folder of recordings, or of a manifest, in three tables.

    An eighth of the recordings is for the test, and an eighth for validation, with at
    most `HELD_OUT` clips each. Of fewer than `FEW` recordings the clips are divided.

    Parameters
    ----------
    data : str or Path
        A folder, of which all recordings below it are taken; or a manifest, whose
        labels, texts and splits are ignored. Nothing is written there.
    clip_seconds : float
        Recordings that are longer are cut into clips of this length.
    most_clips : int
        Of more, so many are drawn.
    seed : int
        Seed of the draw.

    Returns
    -------
    Splits
        id, path, start and stop (seconds), label (empty).

    Raises
    ------
    MissingDataError
        If there is no such folder, or it holds no recording.
    InputError
        If a recording is no audio, or there are too few clips.
    """
    clips = pd.DataFrame(
        [
            (f"{name}@{one.start:g}" if one.start else name, *one)
            for name, segment in _recordings(Path(data))
            for one in cut(segment, clip_seconds)
        ],
        columns=["id", *CLIP],
    )
    # by name, so that the splits do not depend on where the folder lies
    base = Path(data) if Path(data).is_dir() else Path(data).parent
    names = pd.Series([os.path.relpath(path, base) for path in clips.path])
    recordings = names if names.nunique() >= FEW else clips.id
    if len(clips) < FEWEST:
        raise InputError(
            f"--data {data} has {len(clips)} clips of up to {clip_seconds:g} s: give "
            f"recordings for {FEWEST} or more, or leave out --data to train on sounds "
            "that are made"
        )
    order = pd.Series([zlib.crc32(f"{seed} {name}".encode()) for name in clips.id])
    clips = clips[order.rank(method="first") <= most_clips]
    clips = clips.assign(split=_splits(recordings[clips.index], seed), label="")
    return Splits.of(clips.reset_index(drop=True))


def cut(segment: Segment, seconds: float) -> Iterator[Segment]:
    """Cut a segment into ones of a length; a short rest is left out, but not alone."""
    length = seconds_of(segment.path) or 0.0
    start = segment.start or 0.0
    stop = length if segment.stop is None else min(segment.stop, length)
    if stop - start <= seconds:
        yield segment
        return
    while stop - start >= min(SHORTEST, seconds):
        yield Segment(segment.path, start, min(start + seconds, stop))
        start += seconds


def _recordings(data: Path) -> list[tuple[str, Segment]]:
    """Name and place of each recording, or of each clip of a manifest."""
    if data.is_dir():
        paths = recordings_in(data)
        require_audio(map(str, paths))
        return [(str(path.relative_to(data)), Segment(str(path))) for path in paths]
    if not data.is_file():
        raise MissingDataError(
            f"--data {data} is neither a folder nor a manifest: give one that exists"
        )
    table = read_manifest(data, open_recordings=True).drop_duplicates(CLIP)
    return list(zip(table.id, segments_of(table), strict=True))


def _splits(recordings: pd.Series, seed: int) -> list[str]:
    """Split of each clip, by its recording."""
    names = recordings.unique()
    order = sorted(names, key=lambda name: zlib.crc32(f"{name} {seed}".encode()))
    each = max(1, len(names) // 8)
    split = dict.fromkeys(order, "train")
    split |= dict.fromkeys(order[:each], "test")
    split |= dict.fromkeys(order[each : 2 * each], "valid")
    count = {"test": 0, "valid": 0}
    found = []
    for name in recordings:
        one = split[name]
        if one != "train":
            count[one] += 1
            one = one if count[one] <= HELD_OUT else "left out"
        found.append(one)
    return found
