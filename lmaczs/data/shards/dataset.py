"""Prompted clips that come by in shards, and a loader that knows where it was."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.utils.checkpoints import mark_as_saver, register_checkpoint_hooks
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lmaczs.data.prompted_dataset import PromptedClips
from lmaczs.data.segments import Cut
from lmaczs.data.shards.reader import ShardError, StoredClip, read_clips, webdataset
from lmaczs.frontend import FrontEnd

Item = TypeVar("Item")


def shuffled(
    items: Iterable[Item], size: int, rng: np.random.Generator
) -> Iterator[tuple[Item, list[Item]]]:
    """Pass items on in an order that is drawn from a buffer.

    Parameters
    ----------
    items : iterable
        Anything.
    size : int
        Of the buffer.
    rng : numpy.random.Generator
        Source of chance.

    Yields
    ------
    tuple
        An item, and the buffer, the same list every time. When no more come it stays
        as full as it was: what has been passed on is left in it.
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


class PromptedShards(PromptedClips, IterableDataset):
    """The items of `PromptedClips`, from shards that are read from end to end.

    In every epoch the shards are dealt anew to the processes of a run and to the
    workers of each, which draw the order of their clips, and the partner of each
    mixture, from a buffer. A training epoch has ``clips // batch_size`` batches,
    whatever was dealt to whom: a worker whose shards have too few clips begins them
    again. In evaluation every clip comes once, in one of the processes.

    What is drawn for a clip depends on (seed, epoch, clip) as in `PromptedClips`; its
    partner also on what is in the buffer. So a run that was killed repeats itself with
    as many processes and workers as it had.

    Parameters
    ----------
    table : DataFrame
        From `lmaczs.data.shards.reader.read_shards`.
    front_end : FrontEnd
        Gives rate and length policy.
    templates : sequence of str
        See `PromptedClips`.
    labels : sequence of str, optional
        See `PromptedClips`.
    buffer_clips : int
        Clips, not decoded, that each worker holds to draw from.
    **options : Any
        Further ones of `PromptedClips`.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        front_end: FrontEnd,
        templates: Sequence[str],
        labels: Sequence[str] | None = None,
        buffer_clips: int = 256,
        **options: Any,
    ) -> None:
        options["keep_in_memory"] = False
        super().__init__(table, front_end, templates, labels, **options)
        self.row_of = {path: row for row, path in enumerate(self.table.path)}
        shards = self.table.path.str.rpartition("/")[0]
        self.shards = [rows for _, rows in self.table.groupby(shards, sort=False)]
        self.buffer_clips = buffer_clips
        self.at_hand: dict[str, StoredClip] = {}
        # The loader sets both. Shared: workers outlive an epoch.
        self.batch_size = 1
        self._batches_done = torch.zeros((), dtype=torch.long).share_memory_()

    @property
    def batches_done(self) -> int:
        """Batches of the epoch that a run which goes on has behind it."""
        return int(self._batches_done)

    @batches_done.setter
    def batches_done(self, number: int) -> None:
        self._batches_done.fill_(number)

    @property
    def batches(self) -> int:
        """Batches of a training epoch."""
        return len(self) // self.batch_size

    def __getitem__(self, index: int) -> dict[str, Any]:
        shard = next(rows for rows in self.shards if index in rows.index)
        place = index - shard.index[0]
        clip = next(itertools.islice(read_clips(shard), place, None))
        return self._item(clip, [])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # not a generator: where to begin is settled when the loader asks for it
        rank, processes, worker, workers = webdataset.utils.pytorch_worker_info()
        if not self.train:
            mine = self.shards_of(rank * workers + worker, processes * workers)
            return (self._item(clip, []) for rows in mine for clip in read_clips(rows))
        # Batches come from the workers in turn. A run that goes on begins with the
        # worker whose turn it was.
        turn = (worker + self.batches_done) % workers
        done, whole = (
            len(range(turn, batches, workers)) * (self.batch_size // processes)
            for batches in (self.batches_done, self.batches)
        )
        stream = self._stream(rank * workers + turn, processes * workers)
        return (self._item(*drawn) for drawn in itertools.islice(stream, done, whole))

    def loader(self, **options: Any) -> ShardLoader:
        """Loader of this process's part.

        Parameters
        ----------
        **options : Any
            Of a DataLoader. Order and last batch are settled here: ``shuffle`` and
            ``drop_last`` have no effect.

        Returns
        -------
        ShardLoader
        """
        settled = {"shuffle", "drop_last"}
        return ShardLoader(self, **{k: options[k] for k in options if k not in settled})

    def shards_of(self, number: int, parts: int) -> list[pd.DataFrame]:
        """Shards of one worker: in training they are dealt anew in every epoch.

        Parameters
        ----------
        number : int
            Of the worker, counted over all processes.
        parts : int
            How many workers there are.

        Returns
        -------
        list of DataFrame
            The clips of each shard.
        """
        order = np.arange(len(self.shards))
        if self.train:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        return [self.shards[i] for i in order[number::parts]]

    def _stream(
        self, part: int, parts: int
    ) -> Iterator[tuple[StoredClip, list[StoredClip]]]:
        """Clips of one worker without end, each with the buffer."""
        mine = self.shards_of(part, parts)
        rng = np.random.default_rng([self.seed, self.epoch, part])
        while True:
            clips = (clip for rows in mine for clip in read_clips(rows))
            yield from shuffled(clips, self.buffer_clips, rng)

    def _item(self, clip: StoredClip, buffer: list[StoredClip]) -> dict[str, Any]:
        self.at_hand = {one.path: one for one in [*buffer, clip]}
        return super().__getitem__(self.row_of[clip.path])

    def _read(self, wanted: Cut) -> Tensor:
        return self.at_hand[wanted.path].load(self.front_end.sample_rate)

    def _draw_partner(self, index: int, rng: np.random.Generator) -> int | None:
        """Row of a clip in the buffer of which nothing is said that is said of this."""
        if rng.random() >= self.mixture_share:
            return None
        own = {phrase.key for phrase in self.phrases[index]}
        rows = [self.row_of[path] for path in self.at_hand]
        others = [r for r in rows if own.isdisjoint(p.key for p in self.phrases[r])]
        return int(rng.choice(others)) if others else None


@register_checkpoint_hooks
class ShardLoader(SaveableDataLoader):
    """SpeechBrain's loader for `PromptedShards`, whose position can be saved.

    SpeechBrain's own cannot save that of an iterable data set. Here the number of
    batches is saved; of a run that goes on, their clips are read but not decoded.

    Parameters
    ----------
    dataset : PromptedShards
        The clips.
    batch_size : int
        Clips of a batch: in training that of all processes together.
    num_workers : int
        Worker processes.
    **options : Any
        Further ones of a DataLoader.

    Raises
    ------
    ShardError
        If shards or clips to train on cannot be dealt to all processes and workers.
    """

    def __init__(
        self,
        dataset: PromptedShards,
        batch_size: int = 1,
        num_workers: int = 0,
        **options: Any,
    ) -> None:
        self.rank, self.processes, *_ = webdataset.utils.pytorch_worker_info()
        self.parts = self.processes * max(1, num_workers)
        dataset.batch_size = batch_size
        if dataset.train:
            self._require_enough(dataset)
            batch_size //= self.processes
        # not SaveableDataLoader's, which warns that it cannot save the position
        options |= {"batch_size": batch_size, "num_workers": num_workers}
        DataLoader.__init__(self, dataset, **options)
        self._speechbrain_recovery_skip_to: int | None = None
        self._speechbrain_iterator = None

    def _require_enough(self, data: PromptedShards) -> None:
        if data.batch_size % self.processes:
            raise ShardError(
                f"batch_size is {data.batch_size}, which {self.processes} processes "
                "cannot share equally: it is that of all of them together"
            )
        if len(data.shards) < self.parts:
            raise ShardError(
                f"{len(data.shards)} shards cannot be dealt to {self.parts} workers: "
                "lower num_workers or write smaller shards (--clips_per_shard)"
            )
        if not data.batches:
            raise ShardError(
                f"{len(data)} clips do not make one batch of {data.batch_size}: lower "
                "batch_size"
            )

    def __len__(self) -> int:
        data: PromptedShards = self.dataset
        if data.train:
            return data.batches
        workers = self.parts // self.processes
        mine = range(self.rank * workers, (self.rank + 1) * workers)
        clips = [sum(map(len, data.shards_of(number, self.parts))) for number in mine]
        return sum(-(-count // data.batch_size) for count in clips)

    def __iter__(self) -> Any:
        self.dataset.batches_done = self._speechbrain_recovery_skip_to or 0
        return super().__iter__()

    @mark_as_saver
    def _speechbrain_save(self, path: str | Path) -> None:
        running = self._speechbrain_iterator
        done = None if running is None else running._num_yielded
        Path(path).write_text(str(done))
