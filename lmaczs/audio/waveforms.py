"""Samples in memory with their rate, in the forms in which libraries hand them over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lmaczs.utils.errors import AudioError

Samples = Tensor | npt.NDArray[Any] | Sequence[float]
"""[samples], [channels, samples], or [samples, channels] as soundfile reads."""

Waveform = Samples | tuple[Samples, int] | tuple[int, Samples] | Mapping[str, Any]
"""Samples, alone or with their rate: ``(samples, rate)`` of soundfile, librosa and
torchaudio, ``(rate, samples)`` of scipy and Gradio, and the ``{"array": ...,
"sampling_rate": ...}`` of Hugging Face datasets."""

FIELDS = ("array", "sampling_rate")


def with_rate(
    waveform: Waveform, sample_rate: int | None = None
) -> tuple[Tensor | npt.NDArray[Any], int]:
    """Samples and rate of a waveform.

    Parameters
    ----------
    waveform : Tensor, ndarray, or what holds one
        See `Waveform`.
    sample_rate : int, optional
        Hz; required where the waveform comes without one.

    Returns
    -------
    samples : Tensor or ndarray
        As given, but lists and pandas columns as arrays.
    sample_rate : int
        As given; `lmaczs.audio.io.convert_audio` checks both.

    Raises
    ------
    AudioError
        If there is no rate, or there are two that differ.
    """
    samples, own = _parted(waveform)
    rate = sample_rate if own is None else own
    if rate is None:
        raise AudioError(
            "array: its rate is missing: pass (samples, rate), or sample_rate in Hz"
        )
    if isinstance(sample_rate, str):
        raise AudioError(
            f"a rate is a positive integer in Hz, not {sample_rate!r}: "
            "after (samples, rate), name the other arguments"
        )
    if own is not None and sample_rate not in (None, own):
        raise AudioError(
            f"array: it comes with a rate of {own} Hz, but sample_rate is "
            f"{sample_rate}: leave out the one that is wrong"
        )
    return _as_array(samples), rate


def has_rate(waveform: Any) -> bool:
    """Whether a waveform comes with a rate."""
    return _parted(waveform)[1] is not None


def _parted(waveform: Any) -> tuple[Any, Any]:
    """Samples, and the rate that comes with them or None."""
    if isinstance(waveform, Mapping):
        if not all(name in waveform for name in FIELDS):
            raise AudioError(
                f"array: a mapping with {' and '.join(FIELDS)} is taken, not one of "
                f"{', '.join(map(str, waveform)) or 'nothing'}"
            )
        return waveform[FIELDS[0]], waveform[FIELDS[1]]
    if isinstance(waveform, tuple | list) and len(waveform) == 2:
        first, second = waveform
        if isinstance(second, Real) and not isinstance(first, Real):
            return first, second
        if isinstance(first, Real) and not isinstance(second, Real):
            return second, first
    return waveform, None


def _as_array(samples: Any) -> Any:
    """Lists of numbers, and what converts itself (pandas), as an array."""
    if isinstance(samples, list | tuple) or (
        hasattr(samples, "__array__") and not isinstance(samples, Tensor)
    ):
        try:
            return np.asarray(samples)
        except ValueError as error:  # rows of different lengths
            raise AudioError(f"array: it is no array of samples ({error})") from error
    return samples
