"""Decoding of one recording of a file, front to back, as far as it goes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from lmaczs.audio.contents import Part
from lmaczs.audio.media import MediaKind, MediaStream
from lmaczs.audio.pieces import PiecesFile
from lmaczs.utils.errors import AudioError

BLOCK_FRAMES = 1 << 16
"""Frames read at a time, so that only the mixture of a long file is kept."""

BLOCK_SAMPLES = 1 << 22
"""Samples of all channels read at a time."""

UNKNOWN = 1 << 62
"""Frames from here on are what libsndfile has for a length that is not stated."""

MPEG_PADDING = 2304
"""Samples of MPEG audio that a decoder may drop: delay and padding of the encoder."""

EXACT_SEEKS = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW", "VORBIS")
"""Codecs (FLAC's are PCM) that decode the same from any frame on. MP3 does not: a frame
may refer to those before it."""

RATES = 1000, 1_000_000
"""Lowest and highest rate of what is read and written, Hz."""

READABLE = "WAV, FLAC, OGG, MP3 and AIFF are: convert it to WAV or FLAC"


@dataclass(frozen=True)
class SoundPart:
    """One recording of a file, and what its decoder says of it.

    Attributes
    ----------
    path : Path
        The file.
    part : Part
        What of it is read.
    as_is : bool
        Whether it is the whole file, as it is.
    media : MediaKind or None
        What PyAV is to read; None: libsndfile reads it.
    rate : int
        Hz.
    channels : int
        How many.
    frames : int
        Its length; 0 if it is not stated.
    least : int
        Frames that it has at least; 0 if nothing states it.
    seeks : bool
        Whether reading may begin anywhere.
    """

    path: Path
    part: Part
    as_is: bool
    media: MediaKind | None = None
    rate: int = 0
    channels: int = 0
    frames: int = 0
    least: int = 0
    seeks: bool = False


def open_part(
    path: Path, part: Part, as_is: bool, kind: MediaKind | None = None
) -> SoundPart:
    """Open a recording of a file and read what its decoder says of it.

    `AudioError` if it is not audio, or has a rate below 1 kHz or above 1 MHz.
    """
    found = SoundPart(path, part, as_is, kind)
    with _open(found) as stream:
        rate, channels = stream.samplerate, stream.channels
        frames = stream.frames if stream.frames < UNKNOWN else 0
        if isinstance(stream, MediaStream):
            exact, padding = False, max(MPEG_PADDING, rate // 10)
        else:
            exact = stream.subtype.startswith(EXACT_SEEKS)
            padding = MPEG_PADDING if stream.subtype.startswith("MPEG") else 0
    if not RATES[0] <= rate <= RATES[1] or not channels:
        raise AudioError(
            f"{path}: a rate of {rate} Hz cannot be right: between {RATES[0]} Hz and "
            f"{RATES[1] // 1000} kHz are read"
        )
    return replace(
        found,
        rate=rate,
        channels=channels,
        frames=frames,
        least=max(0, frames - padding),
        seeks=exact and frames > 0,
    )


class PartReader:
    """Blocks of a recording's frames [n, channels], float32, as far as it goes.

    Parameters
    ----------
    part : SoundPart
        The recording.
    first : int
        Where to begin; 0 for those that do not seek.
    end : int
        The frame after the last one that is wanted.

    Attributes
    ----------
    reached : int
        The frame after the last one that was read.
    error : str
        Why the decoder stopped before the end; empty if it did not.
    """

    def __init__(self, part: SoundPart, first: int, end: int) -> None:
        self.part, self.reached, self.end = part, first, end
        self.error = ""

    def __iter__(self) -> Iterator[np.ndarray]:
        first = self.reached
        with _open(self.part) as stream:
            if not first or _sought(stream, first):
                yield from self._decoded(stream)
                return
        self.reached = 0  # a damaged file: what comes before is decoded, and dropped
        with _open(self.part) as stream:
            for block in self._decoded(stream):
                inside = max(0, first - self.reached + len(block))
                if inside < len(block):
                    yield block[inside:]

    def _decoded(self, stream: _Stream | MediaStream) -> Iterator[np.ndarray]:
        """Blocks from where the stream is, up to the end."""
        at_once = max(1, min(BLOCK_FRAMES, BLOCK_SAMPLES // self.part.channels))
        while self.reached < self.end and not self.error:
            block = self._block(stream, min(at_once, self.end - self.reached))
            if not len(block):
                break
            self.reached += len(block)
            yield block
        if isinstance(stream, MediaStream):
            self.error = stream.error

    def _block(self, stream: _Stream | MediaStream, size: int) -> np.ndarray:
        if isinstance(stream, MediaStream):
            return stream.read(size)
        # where decoding fails, what came before that in the same block stays there
        block = np.full((size, self.part.channels), np.nan, np.float32)
        try:
            return stream.read(size, out=block)
        except soundfile.LibsndfileError as error:
            self.error = error.error_string.strip(" :.") or "it cannot be decoded"
        empty = np.isnan(block).all(1)
        return block[: int(empty.argmax()) if empty.any() else size]


def _sought(stream: _Stream | MediaStream, frame: int) -> bool:
    """Go to a frame; whether that was possible."""
    try:
        return isinstance(stream, _Stream) and stream.seek(frame) == frame
    except soundfile.LibsndfileError:
        return False


class _Stream(soundfile.SoundFile):
    """A sound file read front to back: FLAC of no stated length cannot be sought."""

    def seekable(self) -> bool:
        """Return False, which also avoids a seek after every block."""
        return False


def _open(part: SoundPart) -> _Stream | MediaStream:
    """Open a recording with its decoder, or raise an `AudioError`."""
    if part.media is not None:
        return MediaStream(part.path, part.media)
    try:
        if part.as_is:
            return _Stream(part.path)
        raw = PiecesFile(part.path, part.part.pieces)
        return _Stream(io.BufferedReader(raw, 1 << 16))
    except (soundfile.LibsndfileError, TypeError) as error:
        raise AudioError(
            f"{part.path}: no audio in a format that is read here; {READABLE}"
        ) from error
