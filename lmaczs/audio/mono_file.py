"""A sound file, mixed to mono, that is read a block of frames at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch

from lmaczs.audio.containers import inspect
from lmaczs.audio.contents import Contents
from lmaczs.audio.decoder import UNKNOWN, PartReader, SoundPart, open_part
from lmaczs.audio.file_bytes import FileBytes
from lmaczs.audio.levels import Levels
from lmaczs.audio.media import media_kind
from lmaczs.audio.resampling import StreamResampler
from lmaczs.utils.errors import AudioError


class MonoFile:
    """A sound file, mixed to mono, that is read a block of frames at a time.

    Joined recordings are read one after another, at the rate of the first. A file that
    does not hold what its headers state is read as far as it goes.

    Parameters
    ----------
    path : str | Path
        What libsndfile reads, or PyAV where it is installed.
    channel : int | None
        The only channel that is read, from 1 on; None: the mean over all.
    strict : bool
        Whether a file that is truncated or damaged is refused.

    Attributes
    ----------
    path : Path
        As given.
    rate : int
        Of the file, Hz.
    frames : int
        Its length; 0 if the file does not state it.
    seeks : bool
        Whether reading may begin anywhere without decoding what comes before.
    as_it_is : bool
        Whether libsndfile alone reads the same: one recording, with a right header.

    Raises
    ------
    AudioError
        If the file is missing, a directory, empty or not audio, has no such channel, or
        a rate below 1 kHz or above 1 MHz.
    """

    def __init__(
        self, path: str | Path, channel: int | None = None, strict: bool = False
    ) -> None:
        self.path, self._channel, self._strict = Path(path), channel, strict
        self._warnings: dict[str, None] = {}
        with _file_errors(self.path):
            contents = _inspected(self.path)
            self._parts = self._opened(contents)
        self._warnings |= dict.fromkeys(contents.notes)
        for lack in contents.lacks:
            self._lacks(lack)
        self.rate = self._parts[0].rate
        lengths = [-(-one.frames * self.rate // one.rate) for one in self._parts]
        self.frames = sum(lengths) if all(lengths) else 0
        self.seeks = len(self._parts) == 1 and self._parts[0].seeks
        self.as_it_is = self._parts[0].as_is and self._parts[0].media is None
        channels = min(one.channels for one in self._parts)
        if channel is not None and not 1 <= channel <= channels:
            raise AudioError(
                f"{self.path}: it has no channel {channel}, but {channels}: they count "
                "from 1"
            )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful about the file, by its headers and what was read so far.

        A sentence each, without the file's name.
        """
        return tuple(self._warnings)

    def blocks(
        self, begin: int = 0, end: int = UNKNOWN, levels: Levels | None = None
    ) -> Iterator[np.ndarray]:
        """Yield the mean over the channels, or one channel, of frames begin to end.

        Blocks are float32 [n]. `levels` takes what is decoded. `AudioError` if nothing
        can be decoded, or, with `strict`, not all that the file states.
        """
        reached = min(begin, self.frames) if self.seeks else 0
        with _file_errors(self.path):
            for part in self._parts:
                if reached >= end:
                    break
                start = reached if self.seeks else 0
                for block in self._mixed(part, start, start + end - reached, levels):
                    wanted = block[max(0, begin - reached) : max(0, end - reached)]
                    reached += len(block)
                    if len(wanted):
                        yield wanted
        if not reached and self._warnings:
            raise AudioError(f"{self.path}: {self.warnings[-1]}; nothing is left of it")

    def _opened(self, contents: Contents) -> list[SoundPart]:
        """Recordings that can be decoded; an error if none can."""
        if (kind := media_kind(self.path)) is not None:
            return [open_part(self.path, contents.parts[0], True, kind)]
        found, errors, count = list[SoundPart](), [], len(contents.parts)
        for number, part in enumerate(contents.parts, 1):
            try:
                found.append(open_part(self.path, part, contents.whole))
            except AudioError as error:
                errors.append((number, error))
        if not found and contents.lacks:
            text = f"{contents.lacks[0]}; nothing is left of it"
            raise AudioError(f"{self.path}: {text}") from errors[0][1]
        if not found:
            raise errors[0][1]
        for number, _ in errors:
            self._lacks(f"recording {number} of the {count} in it cannot be read")
        return found

    def _mixed(
        self, part: SoundPart, first: int, end: int, levels: Levels | None
    ) -> Iterator[np.ndarray]:
        """Mono blocks of a recording at the rate of the file."""
        same = part.rate == self.rate
        resampler = StreamResampler(part.rate, self.rate)
        reader = PartReader(part, first, end if same else UNKNOWN)
        for frames in reader:
            channels = np.ascontiguousarray(frames.T)
            with np.errstate(over="ignore", invalid="ignore"):  # is refused later on
                if self._channel is None:
                    mono = channels.mean(0)
                else:
                    mono = channels[self._channel - 1]
                if levels is not None:
                    levels.add(channels, mono)
            yield mono if same else resampler.push(torch.from_numpy(mono)).numpy()
        if not same:
            yield resampler.flush().numpy()
        self._judge(part, reader)

    def _judge(self, part: SoundPart, reader: PartReader) -> None:
        """Note, or refuse, a recording that could not be read to its end."""
        reason = f" ({reader.error})" if reader.error else ""
        if reader.reached < min(part.least, reader.end):
            read, stated = reader.reached / part.rate, part.least / part.rate
            text = f"only {read:.2f} of {stated:.2f} s can be read"
            self._lacks(f"it is truncated or damaged{reason}: {text}")
        elif reader.error and not 0 < part.frames <= reader.reached:
            self._lacks(f"it is damaged{reason}")

    def _lacks(self, text: str) -> None:
        if self._strict:
            raise AudioError(f"{self.path}: {text}")
        self._warnings[text] = None


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """Raise what reading a file raises as an `AudioError`."""
    try:
        yield
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror}") from error
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip(" :.")
        raise AudioError(f"{path}: it is truncated or damaged ({reason})") from error


def _inspected(path: Path) -> Contents:
    """Contents of a file by its headers; an error if it is not regular or is empty."""
    try:
        str(path).encode()  # libsndfile, and a page's links
    except UnicodeEncodeError as error:
        raise AudioError(f"{path}: its name is not UTF-8: rename it") from error
    if path.is_dir():
        raise AudioError(f"{path}: it is a directory, not a recording")
    pipes = "sound is not read from pipes: write it into a file first"
    if not path.exists():
        reason = pipes if str(path) == "-" else "there is no such file"
        raise AudioError(f"{path}: {reason}")
    if not path.is_file():
        raise AudioError(f"{path}: it is not a regular file; {pipes}")
    state = path.stat()
    if not state.st_size:
        raise AudioError(f"{path}: it is empty, it has no bytes")
    return _contents_of(path, state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=256)
def _contents_of(path: Path, *state: int) -> Contents:
    """Inspect a file; the same for as long as its state is."""
    with open(path, "rb") as file:
        return inspect(FileBytes(file))
