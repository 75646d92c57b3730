"""Shared by the tests of audio: sound as the bytes of whole files."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

Encoded = Callable[..., bytes]


@pytest.fixture(scope="session")
def chirp() -> np.ndarray:
    """Two seconds at 16 kHz, float32 [32000]: every stretch of it is another."""
    time = np.arange(32000) / 16000
    return (0.4 * np.sin(2 * np.pi * (200 + 900 * time) * time)).astype(np.float32)


@pytest.fixture(scope="session")
def encoded(chirp: np.ndarray) -> Encoded:
    """Function that returns the bytes of a file of the chirp, or of other samples.

    Arguments: libsndfile's ``format_``, and ``subtype``, ``samples`` and ``rate``.
    """

    def encode(
        format_: str,
        subtype: str | None = None,
        samples: np.ndarray | None = None,
        rate: int = 16000,
    ) -> bytes:
        file = io.BytesIO()
        sound = chirp if samples is None else samples
        soundfile.write(file, sound, rate, format=format_, subtype=subtype)
        return file.getvalue()

    return encode
