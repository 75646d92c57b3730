"""Prompted clips read from shards, and a loader that knows its position."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lmaczs.data.prompted_dataset import PromptedDataset
from lmaczs.data.recordings import require_sound
from lmaczs.data.shards.reader import ShardError, StoredClip, read_clips, webdataset

Item = TypeVar("Item")


def shuffled(
    items: Iterable[Item], size: int, rng: np.random.Generator
) -> Iterator[tuple[Item, list[Item]]]:
    """Yield items in random order from a buffer of `size`, each with the buffer.

    The buffer is the same list every time. Near the end it stays full: items that were
    yielded are left in it.
    """
    buffer: list[Item] = []
    for item in items:
        if len(buffer) < size:
            buffer.append(item)
            continue
        drawn = int(rng.integers(size))
        buffer[drawn], item = item, buffer[drawn]
        yield item, buffer
    for last in reversed(range(len(buffer))):
        drawn = int(rng.integers(last + 1))
        buffer[drawn], buffer[last] = buffer[last], buffer[drawn]
        yield buffer[last], buffer


class ShardReader:
    """A `ClipReader` of shards: decodes the clips that it holds, and seeks others."""

    def __init__(self, table: pd.DataFrame, sample_rate: int) -> None:
        table = table.reset_index(drop=True)
        self.sample_rate = sample_rate
        self.row_of = {path: row for row, path in enumerate(table.path)}
        shards = table.path.str.rpartition("/")[0]
        self.shards = [clips for _, clips in table.groupby(shards, sort=False)]
        self.held: dict[int, StoredClip] = {}

    def hold(self, clips: Iterable[StoredClip]) -> None:
        """Replace the clips that can be read without delay."""
        self.held = {self.row_of[clip.path]: clip for clip in clips}

    def read(self, row: int) -> Tensor:
        """Waveform [samples] of the clip of a row, at the model's rate.

        `AudioError` if it cannot be decoded, or its samples are no sound.
        """
        clip = self.held[row] if row in self.held else self._seek(row)
        wav = clip.load(self.sample_rate)
        require_sound(wav.numpy(), clip.path)
        return wav

    def at_hand(self) -> list[int]:
        """Rows of the clips that are held."""
        return list(self.held)

    def _seek(self, row: int) -> StoredClip:
        shard = next(clips for clips in self.shards if row in clips.index)
        return next(itertools.islice(read_clips(shard), row - shard.index[0], None))


class ShardDataset(IterableDataset):
    """The items of a `PromptedDataset`, from shards that are read sequentially.

    In every epoch the shards are dealt anew to processes and workers, which draw the
    order of their clips, and the partner of each mixture, from a buffer of
    `buffer_clips` clips that are not decoded. However they are dealt, a training epoch
    has ``clips // batch_size`` batches: a worker with too few clips begins its shards
    again. In evaluation every clip comes once, in one of the processes.

    Draws depend on (seed, epoch, clip) as in `PromptedDataset`; the partner also on the
    buffer. So a resumed run draws the same with as many processes and workers.
    """

    def __init__(
        self, clips: PromptedDataset, reader: ShardReader, buffer_clips: int = 256
    ) -> None:
        self.clips, self.reader, self.buffer_clips = clips, reader, buffer_clips
        self.table, self.classes = clips.table, clips.classes
        # The loader sets both. Shared: workers outlive an epoch.
        self.batch_size = 1
        self._batches_done = torch.zeros((), dtype=torch.long).share_memory_()

    @property
    def training(self) -> bool:
        """Whether epochs are drawn at random, not read in order."""
        return self.clips.training

    @property
    def epoch(self) -> int:
        """The current epoch, in the workers, too."""
        return self.clips.epoch

    @epoch.setter
    def epoch(self, number: int) -> None:
        self.clips.epoch = number

    @property
    def unreadable(self) -> int:
        """How many clips could not be read so far, by all workers."""
        return self.clips.unreadable

    @property
    def batches_done(self) -> int:
        """Batches of the epoch that a resumed run skips."""
        return int(self._batches_done)

    @batches_done.setter
    def batches_done(self, number: int) -> None:
        self._batches_done.fill_(number)

    @property
    def batches(self) -> int:
        """Batches of a training epoch."""
        return len(self) // self.batch_size

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any] | None:
        return self.clips[index]

    def __iter__(self) -> Iterator[dict[str, Any] | None]:
        # not a generator: where to begin is settled when the loader calls it
        rank, processes, worker, workers = webdataset.utils.pytorch_worker_info()
        if not self.training:
            mine = self.shards_of(rank * workers + worker, processes * workers)
            return (self._item(clip, []) for rows in mine for clip in read_clips(rows))
        # Batches come from the workers in turn. A resumed run begins with the worker
        # whose turn it was.
        turn = (worker + self.batches_done) % workers
        done, whole = (
            len(range(turn, batches, workers)) * (self.batch_size // processes)
            for batches in (self.batches_done, self.batches)
        )
        stream = self.stream(rank * workers + turn, processes * workers)
        return (self._item(*drawn) for drawn in itertools.islice(stream, done, whole))

    def make_loader(self, **options: Any) -> ShardLoader:
        """Loader of this process's part; ``shuffle`` and ``drop_last`` are ignored."""
        settled = {"shuffle", "drop_last"}
        return ShardLoader(self, **{k: options[k] for k in options if k not in settled})

    def shards_of(self, number: int, parts: int) -> list[pd.DataFrame]:
        """Clips of each shard of one of several workers, counted over all processes."""
        shards = self.reader.shards
        order = np.arange(len(shards))
        if self.training:
            np.random.default_rng([self.clips.seed, self.epoch]).shuffle(order)
        return [shards[i] for i in order[number::parts]]

    def stream(
        self, part: int, parts: int
    ) -> Iterator[tuple[StoredClip, list[StoredClip]]]:
        """Endless clips of one of several workers, each with the buffer."""
        mine = self.shards_of(part, parts)
        rng = np.random.default_rng([self.clips.seed, self.epoch, part])
        while True:
            clips = (clip for rows in mine for clip in read_clips(rows))
            yield from shuffled(clips, self.buffer_clips, rng)

    def _item(
        self, clip: StoredClip, buffer: list[StoredClip]
    ) -> dict[str, Any] | None:
        self.reader.hold([*buffer, clip])
        return self.clips[self.reader.row_of[clip.path]]


@register_checkpoint_hooks
class ShardLoader(DataLoader):
    """Loader of a `ShardDataset` whose position is saved in checkpoints.

    SpeechBrain's own cannot save that of an iterable data set. Here the number of
    batches is saved; when a run resumes, their clips are read but not decoded. In
    training `batch_size` is that of all processes together. `ShardError` if there are
    too few shards or clips for all processes and workers.
    """

    dataset: ShardDataset

    def __init__(
        self,
        dataset: ShardDataset,
        batch_size: int = 1,
        num_workers: int = 0,
        **options: Any,
    ) -> None:
        self.rank, self.processes, *_ = webdataset.utils.pytorch_worker_info()
        self.parts = self.processes * max(1, num_workers)
        self.position: int | None = None  # batches of the epoch that has begun
        self.resume_at = 0
        dataset.batch_size = batch_size
        if dataset.training:
            self._require_enough(dataset)
            batch_size //= self.processes
        options |= {"batch_size": batch_size, "num_workers": num_workers}
        super().__init__(dataset, **options)

    def _require_enough(self, data: ShardDataset) -> None:
        if data.batch_size % self.processes:
            raise ShardError(
                f"batch_size is {data.batch_size}, which {self.processes} processes "
                "cannot share equally: it is that of all of them together"
            )
        if len(data.reader.shards) < self.parts:
            raise ShardError(
                f"{len(data.reader.shards)} shards cannot be dealt to {self.parts} "
                "workers: lower num_workers or write smaller shards (--clips_per_shard)"
            )
        if not data.batches:
            raise ShardError(
                f"{len(data)} clips do not make one batch of {data.batch_size}: lower "
                "batch_size"
            )

    def __len__(self) -> int:
        data = self.dataset
        if data.training:
            return data.batches
        workers = self.parts // self.processes
        mine = range(self.rank * workers, (self.rank + 1) * workers)
        clips = [sum(map(len, data.shards_of(number, self.parts))) for number in mine]
        return sum(-(-count // data.batch_size) for count in clips)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # not a generator: workers need the position before they start
        self.position, self.resume_at = self.resume_at, 0
        self.dataset.batches_done = self.position
        return self._counted(super().__iter__())

    def _counted(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            self.position = (self.position or 0) + 1
            yield batch

    @mark_as_saver
    def save(self, path: str | Path) -> None:
        """Write how many batches of the epoch are done."""
        Path(path).write_text(str(self.position or 0))

    @mark_as_loader
    def load(self, path: str | Path, end_of_epoch: bool) -> None:
        """Resume where a checkpoint was saved, if that was in mid-epoch."""
        # a loader that has begun: the best checkpoint is loaded for a test
        if not end_of_epoch and self.position is None:
            self.resume_at = int(Path(path).read_text())
