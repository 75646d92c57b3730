"""A recording, from a file or an array, as one mono waveform at the model's rate.

Channels are mixed before resampling. Whatever cannot become a finite, non-empty
waveform raises :class:`AudioError`.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor

from lmaczs.audio.containers import Contents, inspect
from lmaczs.audio.resampling import input_span, resample
from lmaczs.utils.errors import LmaczsError
from lmaczs.utils.files import atomic_write

BLOCK_FRAMES = 1 << 16
"""Frames read at a time, so that only the mixture of a long file is kept."""

UNKNOWN = 1 << 62
"""Frames from here on are what libsndfile has for a length that is not stated."""

MP3_PADDING = 2304
"""Samples of an MP3 file that a decoder may drop: delay and padding of the encoder."""

EXACT_SEEKS = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW", "VORBIS")
"""Codecs (FLAC's are PCM) that decode the same from any frame on. MP3 does not: a frame
may refer to those before it."""

WAV_HEAD = 1024
"""Bytes that the chunks before the samples of a WAV of libsndfile have at most."""

FULL_SCALE = {"i1": 1 << 7, "u1": 1 << 7, "i2": 1 << 15, "i4": 1 << 31}
"""Integer sample formats (kind and bytes) and the value that stands for 1."""

READABLE = "WAV, FLAC, OGG, MP3 and AIFF are: convert it to WAV or FLAC"


class AudioError(LmaczsError, ValueError):
    """A recording that cannot be used: which one, why, and how to fix it."""


def load_audio(
    path: str | Path,
    sample_rate: int,
    *,
    start: float | None = None,
    stop: float | None = None,
    channel: int | None = None,
) -> Tensor:
    """Read a recording, or a stretch of it, as a mono waveform.

    Parameters
    ----------
    path : str | Path
        WAV, FLAC, OGG, MP3, AIFF and whatever else libsndfile reads.
    sample_rate : int
        Rate of the result in Hz.
    start : float | None
        Where the stretch begins, in seconds; None: at the first sample.
    stop : float | None
        Where it ends, in seconds; None, or beyond the end: at the last sample. Only the
        stretch is decoded; of MP3 and the like, all up to its end.
    channel : int | None
        The only channel that is read, from 1 on; None: the mean over all.

    Returns
    -------
    Tensor
        float32 ``[samples]`` on the CPU: the mean over the channels, resampled to
        ``ceil(samples * sample_rate / own_rate)`` samples, of which a stretch has those
        from ``round(start * sample_rate)`` on.

    Raises
    ------
    AudioError
        If the file is missing, a directory, empty, truncated, not audio or not finite,
        or if the stretch is empty, or there is no such channel.
    """
    path, rate = Path(path), checked_rate(sample_rate)
    first = round((start or 0) * rate)
    last = UNKNOWN if stop is None else round(stop * rate)
    read = _read_file(path, rate, first, last, channel)
    _require_samples(str(path), read.frames, read.wav)
    wav = resample(read.wav, read.rate, rate)
    if start is None and stop is None:
        return wav
    wav = wav[first - read.offset : max(0, last - read.offset)].clone()
    if not wav.numel():
        until = "on" if stop is None else f"to {stop:g} s"
        raise AudioError(
            f"{path}: no sample from {start or 0:g} s {until}, it has "
            f"{read.frames / read.rate:g} s"
        )
    return wav


def convert_audio(samples: np.ndarray | Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Mix and resample a waveform as `load_audio` does a file.

    Parameters
    ----------
    samples : np.ndarray | Tensor
        ``[samples]`` or ``[channels, samples]``; with more rows than columns,
        ``[samples, channels]``, as soundfile reads. Integers are scaled to [-1, 1) by
        their dtype; uint8 is centred on 128, as in WAV.
    from_rate : int
        Their rate in Hz.
    to_rate : int
        Rate of the result in Hz.

    Returns
    -------
    Tensor
        float32 ``[samples]`` on the CPU, its own memory, detached.

    Raises
    ------
    AudioError
        If shape, dtype or rate cannot be right, or if they are empty or not finite.
    """
    wav, rate = _mix_channels(samples), checked_rate(from_rate)
    _require_samples("array", len(wav), wav)
    return resample(wav, rate, checked_rate(to_rate))


def save_audio(path: str | Path, wav: np.ndarray | Tensor, sample_rate: int) -> Path:
    """Write a mono waveform as 32-bit float WAV, which neither clips nor rounds.

    The file appears whole or not at all; missing parent folders are made.

    Parameters
    ----------
    path : str | Path
        Its name ends in ``.wav``.
    wav : np.ndarray | Tensor
        ``[samples]``, finite.
    sample_rate : int
        Rate in Hz.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    AudioError
        If ``wav`` is not one finite waveform or the name does not end in ``.wav``.
    """
    path = Path(path)
    samples = torch.as_tensor(wav).detach().cpu().float().numpy()
    if path.suffix.lower() != ".wav":
        raise AudioError(f"{path}: WAV is what is written: end the name in .wav")
    if samples.ndim != 1 or not samples.size:
        raise AudioError(f"{path}: a waveform is [samples], not {samples.shape}")
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: not written: NaN or infinite samples")
    with atomic_write(path) as part:
        rate = checked_rate(sample_rate)
        soundfile.write(part, samples, rate, subtype="FLOAT", format="WAV")
        clear_time(part)
    return path


def checked_rate(rate: int) -> int:
    """Return a rate as int, or raise."""
    if not (isinstance(rate, Real) and rate > 0 and float(rate).is_integer()):
        raise AudioError(f"a rate is a positive integer in Hz, not {rate!r}")
    return int(rate)


def _require_samples(name: str, count: int, wav: Tensor) -> None:
    if not count:
        raise AudioError(f"{name}: it is empty, it has no samples")
    if not torch.isfinite(wav).all():
        raise AudioError(
            f"{name}: it holds NaN or infinite samples: replace them, or leave them out"
        )


def clear_time(path: Path) -> None:
    """Set the time of writing in a float WAV to 0: equal sounds are equal files.

    libsndfile notes it in the chunk PEAK, before the samples.
    """
    with path.open("r+b") as file:
        head = file.read(WAV_HEAD).partition(b"data")[0]
        if (place := head.find(b"PEAK")) >= 0:
            file.seek(place + 12)  # behind name, size and version
            file.write(bytes(4))


# --- arrays -------------------------------------------------------------------------


def _mix_channels(source: np.ndarray | Tensor) -> Tensor:
    """Scale an array or tensor to float32 and mix its channels."""
    if not isinstance(source, np.ndarray | Tensor):
        kind = type(source).__name__
        raise AudioError(f"{kind}: an array or a tensor is needed")
    if isinstance(source, Tensor):
        source = source.detach().cpu()
        source = (source.float() if source.is_floating_point() else source).numpy()
    if source.ndim not in (1, 2):
        raise AudioError(
            f"array: its shape is {source.shape}: pass [samples] or [channels, samples]"
        )
    if not source.size:
        return torch.zeros(0)
    if source.ndim == 2 and source.shape[0] > source.shape[1]:
        source = source.T
    # what overflows or cancels infinities is refused later, with its own message
    with np.errstate(over="ignore", invalid="ignore"):
        samples = _as_float(np.atleast_2d(source))
        return torch.from_numpy(samples.mean(0, dtype=np.float32))


def _as_float(samples: np.ndarray) -> np.ndarray:
    """Return samples as float32, integers scaled to [-1, 1) by their dtype."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    scale = FULL_SCALE.get(samples.dtype.str[1:])
    if scale is None:
        raise AudioError(
            f"array: {samples.dtype} is no sample format: "
            "convert it to float32 in [-1, 1) or to int16"
        )
    offset = scale if samples.dtype.kind == "u" else 0
    return ((samples.astype(np.float64) - offset) / scale).astype(np.float32)


# --- files --------------------------------------------------------------------------


class MonoFile:
    """A sound file, mixed to mono, that is read a block of frames at a time.

    Parameters
    ----------
    path : str | Path
        What libsndfile reads.
    channel : int | None
        The only channel that is read, from 1 on; None: the mean over all.

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

    Raises
    ------
    AudioError
        If the file is missing, a directory, empty, truncated or not audio, or has no
        such channel.
    """

    def __init__(self, path: str | Path, channel: int | None = None) -> None:
        self.path, self._channel = Path(path), channel
        with _file_errors(self.path):
            contents = _inspected(self.path)
            with _open(self.path) as stream:
                self.rate: int = stream.samplerate
                self.frames: int = stream.frames if stream.frames < UNKNOWN else 0
                exact = stream.subtype.startswith(EXACT_SEEKS)
                self.seeks = exact and self.frames > 0
                self._least_frames = _least_frames(stream, contents)
                channels = stream.channels
        if channel is not None and not 1 <= channel <= channels:
            raise AudioError(
                f"{self.path}: it has no channel {channel}, but {channels}: they count "
                "from 1"
            )

    def blocks(self, begin: int = 0, end: int = UNKNOWN) -> Iterator[np.ndarray]:
        """Yield the mean over the channels, or one channel, of frames begin to end.

        Blocks are float32, of at most `BLOCK_FRAMES`. `AudioError` if the file holds
        less than it states.
        """
        reached = 0
        with _file_errors(self.path), _open(self.path) as stream:
            if begin and self.seeks:
                reached = stream.seek(min(begin, self.frames))
            while reached < end:
                size = min(BLOCK_FRAMES, end - reached)
                block = stream.read(size, dtype="float32", always_2d=True)
                if not len(block):
                    break
                wanted = block[max(0, begin - reached) :]
                reached += len(block)
                if len(wanted) and self._channel is not None:
                    yield wanted[:, self._channel - 1].copy()
                elif len(wanted):
                    yield wanted.mean(1)
        expected = self._least_frames
        if reached < min(expected, end):
            raise AudioError(
                f"{self.path}: it is truncated or damaged: only "
                f"{reached / self.rate:.2f} of {expected / self.rate:.2f} s can be "
                "read; convert it to WAV or FLAC"
            )


class _Stream(soundfile.SoundFile):
    """A sound file read front to back: FLAC of no stated length cannot be sought."""

    def seekable(self) -> bool:
        """Return False, which also avoids a seek after every block."""
        return False


class _Read(NamedTuple):
    """Mixed samples as they were read, before they are resampled and cut."""

    wav: Tensor
    rate: int
    frames: int
    """Of the whole recording."""
    offset: int
    """Sample of the resampled recording that lies at the first one of `wav`."""


def _read_file(
    path: Path, rate: int, first: int, last: int, channel: int | None
) -> _Read:
    """Return the part of a file that the result's samples first to last depend on."""
    file = MonoFile(path, channel)
    begin, end, offset = input_span(first, last, file.rate, rate)
    if not file.frames:  # nothing to seek in, and a begin beyond the end shows late
        begin = offset = 0
    wav = np.concatenate([np.zeros(0, np.float32), *file.blocks(begin, end)])
    return _Read(torch.from_numpy(wav), file.rate, file.frames or len(wav), offset)


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


def _open(path: Path) -> soundfile.SoundFile:
    """Open a file with libsndfile, or raise an `AudioError`."""
    try:
        return _Stream(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise AudioError(
            f"{path}: no audio in a format that is read here; {READABLE}"
        ) from error


def _inspected(path: Path) -> Contents:
    """Refuse a file that is not regular, empty, or shorter than its header states."""
    if path.is_dir():
        raise AudioError(f"{path}: it is a directory, not a recording")
    if not path.exists():
        raise AudioError(f"{path}: there is no such file")
    if not path.is_file():
        raise AudioError(f"{path}: it is not a regular file")
    if not path.stat().st_size:
        raise AudioError(f"{path}: it is empty, it has no bytes")
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        contents = inspect(data)
    if contents.missing_bytes:
        raise AudioError(
            f"{path}: it is truncated, at least {contents.missing_bytes} bytes are "
            "missing"
        )
    return contents


def _least_frames(stream: soundfile.SoundFile, contents: Contents) -> int:
    """Number of frames that a file must have at least; 0 if nothing states it."""
    if stream.format not in ("MP3", "MPEG"):
        return stream.frames if stream.frames < UNKNOWN else 0
    # where no length is stated, libsndfile guesses one and reads no further than that
    stated = stream.frames if contents.states_length else contents.mp3_samples
    return stated - MP3_PADDING
