"""A recording, from a file or an array, as one mono waveform at the model's rate.

Channels are mixed before resampling. Whatever cannot become a finite, non-empty
waveform raises :class:`AudioError`.
"""

from __future__ import annotations

from numbers import Real
from pathlib import Path
from typing import NamedTuple
from warnings import warn

import numpy as np
import soundfile
import torch
from torch import Tensor

from lmaczs.audio.decoder import RATES, UNKNOWN
from lmaczs.audio.levels import Levels
from lmaczs.audio.mono_file import MonoFile
from lmaczs.audio.resampling import input_span, resample
from lmaczs.utils.errors import AudioError, AudioWarning
from lmaczs.utils.files import atomic_write

WAV_HEAD = 1024
"""Bytes that the chunks before the samples of a WAV of libsndfile have at most."""

FULL_SCALE = {"i1": 1 << 7, "u1": 1 << 7, "i2": 1 << 15, "i4": 1 << 31}
"""Integer sample formats (kind and bytes) and the value that stands for 1."""


class Recording(NamedTuple):
    """A recording, or a stretch of it, as it was read.

    Attributes
    ----------
    wav : Tensor
        float32 ``[samples]`` on the CPU.
    warnings : tuple of str
        What is doubtful about it, a sentence each, without its name.
    lost_power : float | None
        Its mean power at its own rate, where that is above the one it was read at; None
        where nothing was lost.
    """

    wav: Tensor
    warnings: tuple[str, ...] = ()
    lost_power: float | None = None


def load_audio(
    path: str | Path,
    sample_rate: int,
    *,
    start: float | None = None,
    stop: float | None = None,
    channel: int | None = None,
    strict: bool = False,
) -> Tensor:
    """Read a recording, or a stretch of it, as a mono waveform.

    What is doubtful about the file is a warning, `AudioWarning`.

    Parameters
    ----------
    path : str | Path
        WAV, FLAC, OGG, MP3, AIFF and whatever else libsndfile reads; M4A, WebM, AC-3
        and others where PyAV is installed. Joined recordings are read whole.
    sample_rate : int
        Rate of the result in Hz.
    start : float | None
        Where the stretch begins, in seconds; None: at the first sample.
    stop : float | None
        Where it ends, in seconds; None, or beyond the end: at the last sample. Only the
        stretch is decoded; of MP3 and the like, all up to its end.
    channel : int | None
        The only channel that is read, from 1 on; None: the mean over all.
    strict : bool
        Whether a file that is truncated or damaged is refused, not read as far as it
        goes.

    Returns
    -------
    Tensor
        float32 ``[samples]`` on the CPU: the mean over the channels, resampled to
        ``ceil(samples * sample_rate / own_rate)`` samples, of which a stretch has those
        from ``round(start * sample_rate)`` on.

    Raises
    ------
    AudioError
        If the file is missing, a directory, empty, not audio or not finite, or has a
        rate below 1 kHz or above 1 MHz, or if the stretch is empty, or there is no such
        channel; if `strict`, see there.
    """
    file = MonoFile(path, channel, strict)
    wav = _read(file, sample_rate, start, stop)
    for text in file.warnings:
        warn(f"{path}: {text}", AudioWarning, stacklevel=2)
    return wav


def read_recording(
    path: str | Path,
    sample_rate: int,
    channel: int | None = None,
    strict: bool = False,
    stop: float | None = None,
) -> Recording:
    """Read a recording as `load_audio` does, with all that is doubtful about it.

    Its levels are looked at, too, see `lmaczs.audio.levels`.
    """
    file, levels = MonoFile(path, channel, strict), Levels()
    wav = _read(file, sample_rate, None, stop, levels)
    warnings = *file.warnings, *levels.warnings(channel)
    return Recording(wav, warnings, levels.power if file.rate > sample_rate else None)


def _read(
    file: MonoFile,
    sample_rate: int,
    start: float | None = None,
    stop: float | None = None,
    levels: Levels | None = None,
) -> Tensor:
    """Stretch of a file at a rate, see `load_audio`."""
    rate = checked_rate(sample_rate)
    first = round((start or 0) * rate)
    last = UNKNOWN if stop is None else round(stop * rate)
    begin, end, offset = input_span(first, last, file.rate, rate)
    if not file.frames:  # nothing to seek in, and a begin beyond the end shows late
        begin = offset = 0
    blocks = file.blocks(begin, end, levels)
    frames = torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *blocks]))
    total = file.frames or len(frames)
    _require_samples(str(file.path), total, frames)
    wav = resample(frames, file.rate, rate)
    if start is None and stop is None:
        return wav
    wav = wav[first - offset : max(0, last - offset)].clone()
    if not wav.numel():
        until = "on" if stop is None else f"to {stop:g} s"
        raise AudioError(
            f"{file.path}: no sample from {start or 0:g} s {until}, it has "
            f"{total / file.rate:g} s"
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
    return convert_recording(samples, from_rate, to_rate).wav


def convert_recording(
    samples: np.ndarray | Tensor, from_rate: int, to_rate: int
) -> Recording:
    """Convert a waveform as `convert_audio` does, with what is doubtful about it."""
    channels, rate = _channels(samples), checked_rate(from_rate)
    # what overflows or cancels infinities is refused here, with its own message
    with np.errstate(over="ignore", invalid="ignore"):
        mix = channels.mean(0, dtype=np.float32)
    wav = torch.from_numpy(mix)
    _require_samples("array", len(wav), wav)
    levels = Levels()
    levels.add(channels, mix)
    target = checked_rate(to_rate)
    power = levels.power if rate > target else None
    return Recording(resample(wav, rate, target), levels.warnings(), power)


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
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(
            f"a rate lies between {RATES[0]} Hz and {RATES[1] // 1000} kHz, not at "
            f"{rate} Hz"
        )
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


def _channels(source: np.ndarray | Tensor) -> np.ndarray:
    """Return an array or tensor as float32 [channels, samples]."""
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
        return np.zeros((1, 0), np.float32)
    if source.ndim == 2 and source.shape[0] > source.shape[1]:
        source = source.T
    with np.errstate(over="ignore"):
        return _as_float(np.atleast_2d(source))


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
