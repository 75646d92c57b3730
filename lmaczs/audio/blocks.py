"""A recording block by block: read at the model's rate, and written as it comes.

Memory does not grow with the length. What is read is, joined, what `load_audio` reads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from lmaczs.audio.io import clear_time
from lmaczs.audio.levels import Levels
from lmaczs.audio.mono_file import MonoFile
from lmaczs.audio.resampling import StreamResampler, input_span
from lmaczs.utils.errors import AudioError
from lmaczs.utils.files import atomic_write

END = 1 << 62
"""A sample beyond the end of any recording."""

WAV_BYTES = 0xFFFFFFFF - 4096
"""Of sound in a WAV file: its sizes have 32 bits. RF64 is the same without a limit."""


class AudioBlocks:
    """A recording of any length, or a stretch of it, as mono samples at one rate.

    Parameters
    ----------
    path : str | Path
        What `load_audio` reads.
    sample_rate : int
        Rate of the blocks in Hz.
    channel : int | None
        The only channel that is read, from 1 on; None: the mean over all.
    strict : bool
        Whether a file that is truncated or damaged is refused.
    start : float | None
        Where the stretch begins, in seconds; None: at the first sample.
    stop : float | None
        Where it ends, in seconds; None, or beyond the end: at the last sample.

    Attributes
    ----------
    path : Path
        As given.
    sample_rate : int
        As given.
    channel : int | None
        As given.
    samples : int | None
        Length at that rate, as the file states it; None if it does not.

    Raises
    ------
    AudioError
        If the file is missing, a directory, empty or not audio, or has no such channel;
        see `strict`.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        channel: int | None = None,
        strict: bool = False,
        start: float | None = None,
        stop: float | None = None,
    ) -> None:
        self.path, self.sample_rate, self.channel = Path(path), sample_rate, channel
        self._file, self._levels = MonoFile(path, channel, strict), Levels()
        self._first = round((start or 0) * sample_rate)
        self._last = END if stop is None else round(stop * sample_rate)
        frames, rate = self._file.frames, self._file.rate
        self.samples = None
        if frames:
            last = min(-(-frames * sample_rate // rate), self._last)
            self.samples = max(0, last - self._first)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful about the file, and about what `read` had of all of it."""
        return *self._file.warnings, *self._levels.warnings(self.channel)

    @property
    def own_power(self) -> float | None:
        """Mean power at its own rate, of what `read` had of all of it; None before."""
        return self._levels.power if self._levels.count else None

    def read(self, first: int = 0, last: int = END) -> Iterator[Tensor]:
        """Read the samples from first to last, float32 on the CPU, block by block.

        Parameters
        ----------
        first : int
            First sample, of the resampled recording's or its stretch's.
        last : int
            The sample after the last one; it may lie beyond the end.

        Returns
        -------
        Iterator of Tensor [samples]
            At least one sample each.

        Raises
        ------
        AudioError
            If the recording has no samples at all, or samples that are not finite; if
            it is `strict` and holds less than it states.
        """
        if (first, last) == (0, END):
            self._levels = Levels()
            return self._between(first, last, self._levels)
        return self._between(first, last)

    def _between(
        self, first: int, last: int, levels: Levels | None = None
    ) -> Iterator[Tensor]:
        rates = self._file.rate, self.sample_rate
        first = self._first + first
        last = min(self._first + last, self._last)
        begin, end, position = input_span(first, last, *rates)
        for block in self._resampled(begin, end, levels):
            wanted = block[max(0, first - position) : max(0, last - position)]
            position += len(block)
            if len(wanted):
                yield wanted

    def _resampled(
        self, begin: int, end: int, levels: Levels | None
    ) -> Iterator[Tensor]:
        """Blocks of the result that starts at the file's frame `begin`."""
        resampler = StreamResampler(self._file.rate, self.sample_rate)
        empty = True
        for frames in self._file.blocks(begin, end, levels):
            block, empty = torch.from_numpy(frames), False
            if not torch.isfinite(block).all():
                raise AudioError(f"{self.path}: it holds NaN or infinite samples")
            yield resampler.push(block)
        if empty and not begin:
            raise AudioError(f"{self.path}: it is empty, it has no samples")
        yield resampler.flush()

    def cut(self, spans: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
        """Yield stretches of the recording, float32 [samples] each.

        Parameters
        ----------
        spans : sequence of (int, int)
            First sample of each stretch, and the one after its last, which may lie
            beyond the end; ordered by the first.

        Yields
        ------
        Tensor [samples]
            One for each span; shorter, even empty, where the recording ends in it.

        Raises
        ------
        AudioError
            See `read`.
        """
        if self._file.seeks:
            for first, last in spans:
                yield torch.cat([torch.zeros(0), *self._between(first, last)])
            return
        kept, reached = torch.zeros(0), 0  # the last of what was read, up to `reached`
        blocks = self._between(0, END) if spans else iter(())
        for first, last in spans:
            kept = kept[max(0, first - reached + len(kept)) :]
            parts = [kept]
            while reached < last and (block := next(blocks, None)) is not None:
                parts.append(block[max(0, first - reached) :])
                reached += len(block)
            kept = torch.cat(parts)
            yield kept[: last - first]


class AudioWriter:
    """A mono float WAV file that grows; it appears whole at the end, or not at all.

    A context manager. As `save_audio` writes it: neither clipped nor rounded.

    Parameters
    ----------
    path : str | Path
        Its name ends in ``.wav``.
    sample_rate : int
        Rate in Hz.
    samples : int | None
        The length that is expected. A file that may not fit into a WAV's 4 GB, or whose
        length is unknown, is written as RF64.

    Raises
    ------
    AudioError
        If the name does not end in ``.wav``.
    """

    def __init__(
        self, path: str | Path, sample_rate: int, samples: int | None = None
    ) -> None:
        self.path, self.sample_rate = Path(path), sample_rate
        if self.path.suffix.lower() != ".wav":
            raise AudioError(f"{path}: WAV is what is written: end the name in .wav")
        fits = samples is not None and 4 * samples < WAV_BYTES
        self.format = "WAV" if fits else "RF64"
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> AudioWriter:
        with contextlib.ExitStack() as stack:
            part = stack.enter_context(atomic_write(self.path))
            stack.callback(lambda: clear_time(part) if part.exists() else None)
            options = {"channels": 1, "subtype": "FLOAT", "format": self.format}
            file = soundfile.SoundFile(part, "w", self.sample_rate, **options)
            self._file = stack.enter_context(file)
            self._stack = stack.pop_all()
        return self

    def write(self, block: Tensor) -> None:
        """Append samples [n]; `AudioError` if they are not finite."""
        if not torch.isfinite(block).all():
            raise AudioError(f"{self.path}: not written: NaN or infinite samples")
        self._file.write(block.detach().cpu().float().numpy())

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)
