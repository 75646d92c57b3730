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

from lmaczs.audio.io import AudioError, MonoFile, clear_time
from lmaczs.audio.resampling import StreamResampler, input_span
from lmaczs.utils.files import atomic_write

END = 1 << 62
"""A sample beyond the end of any recording."""

WAV_BYTES = 0xFFFFFFFF - 4096
"""Of sound in a WAV file: its sizes have 32 bits. RF64 is the same without a limit."""


class AudioBlocks:
    """A recording of any length as blocks of mono samples at one rate.

    Parameters
    ----------
    path : str | Path
        What `load_audio` reads.
    sample_rate : int
        Rate of the blocks in Hz.
    channel : int | None
        The only channel that is read, from 1 on; None: the mean over all.

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
    own_power : float | None
        Mean power at the file's rate, after the whole was read once.

    Raises
    ------
    AudioError
        If the file is missing, a directory, empty, truncated or not audio, or has no
        such channel.
    """

    def __init__(
        self, path: str | Path, sample_rate: int, channel: int | None = None
    ) -> None:
        self.path, self.sample_rate, self.channel = Path(path), sample_rate, channel
        self._file = MonoFile(path, channel)
        frames, rate = self._file.frames, self._file.rate
        self.samples = -(-frames * sample_rate // rate) if frames else None
        self.own_power: float | None = None

    def read(self, first: int = 0, last: int = END) -> Iterator[Tensor]:
        """Yield the samples from first to last, float32 [samples] on the CPU.

        Parameters
        ----------
        first : int
            First sample of the resampled recording.
        last : int
            The sample after the last one; it may lie beyond the end.

        Yields
        ------
        Tensor [samples]
            At least one sample each.

        Raises
        ------
        AudioError
            If the recording has no samples at all, holds less than it states, or
            samples that are not finite.
        """
        rates = self._file.rate, self.sample_rate
        begin, end, position = input_span(first, last, *rates)
        for block in self._resampled(begin, end):
            wanted = block[max(0, first - position) : max(0, last - position)]
            position += len(block)
            if len(wanted):
                yield wanted

    def _resampled(self, begin: int, end: int) -> Iterator[Tensor]:
        """Blocks of the result that starts at the file's frame `begin`."""
        resampler = StreamResampler(self._file.rate, self.sample_rate)
        total, count = 0.0, 0
        for frames in self._file.blocks(begin, end):
            block = torch.from_numpy(frames)
            if not torch.isfinite(block).all():
                raise AudioError(f"{self.path}: it holds NaN or infinite samples")
            total += float(block.double().square().sum())
            count += len(block)
            yield resampler.push(block)
        if not count and not begin:
            raise AudioError(f"{self.path}: it is empty, it has no samples")
        if not begin and end >= (self._file.frames or END):
            self.own_power = total / count
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
                yield torch.cat([torch.zeros(0), *self.read(first, last)])
            return
        kept, reached = torch.zeros(0), 0  # the last of what was read, up to `reached`
        blocks = self.read() if spans else iter(())
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
