"""Containers that libsndfile does not read: M4A, WebM, AC-3 and others, by PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import numpy as np

from lmaczs.utils.errors import AudioError
from lmaczs.utils.extras import install_extra

MAX_ERRORS = 100
"""Packets that cannot be decoded after which the rest is given up."""


class MediaKind(NamedTuple):
    """A kind of media file."""

    name: str
    """For people."""
    demuxer: str
    """FFmpeg's name, so that a file cannot choose another one."""


M4A = MediaKind("M4A or MP4", "mov")
KINDS: tuple[tuple[int, bytes, MediaKind], ...] = (
    *((4, box, M4A) for box in (b"ftyp", b"moov", b"mdat", b"wide")),
    (0, b"\x1a\x45\xdf\xa3", MediaKind("WebM or Matroska", "matroska")),
    (0, b"\xff\xf1", MediaKind("AAC", "aac")),
    (0, b"\xff\xf9", MediaKind("AAC", "aac")),
    (0, bytes.fromhex("3026b2758e66cf11"), MediaKind("WMA", "asf")),
    (0, b"#!AMR", MediaKind("AMR", "amr")),
    (0, b"wvpk", MediaKind("WavPack", "wv")),
    (0, b"MAC ", MediaKind("Monkey's Audio", "ape")),
    (0, b"TTA1", MediaKind("TTA", "tta")),
)
"""Place and bytes by which they are known, and the kind."""


def media_kind(path: Path) -> MediaKind | None:
    """Kind of a file by its first bytes; None if it is none that PyAV is for."""
    with path.open("rb") as file:
        return kind_of(file.read(16))


def kind_of(head: bytes) -> MediaKind | None:
    """As `media_kind`, by the first 16 bytes."""
    if head[:2] == b"\x0b\x77" and len(head) > 5:
        # the stream's version tells the two apart (ETSI TS 102 366)
        return MediaKind("AC-3", "eac3" if head[5] >> 3 > 10 else "ac3")
    for place, magic, kind in KINDS:
        if head[place : place + len(magic)] == magic:
            return kind
    return None


class MediaStream:
    """The first sound of a media file, front to back; a context manager.

    Parameters
    ----------
    path : Path
        The file.
    kind : MediaKind
        Which it is.

    Attributes
    ----------
    samplerate : int
        Hz.
    channels : int
        How many.
    frames : int
        Its length as the container states it, roughly; 0 if it does not.
    error : str
        What could not be decoded; empty if all could.

    Raises
    ------
    AudioError
        If PyAV is not installed, or there is no sound that it can decode.
    """

    def __init__(self, path: Path, kind: MediaKind) -> None:
        try:
            import av
        except ImportError as error:
            raise AudioError(
                f"{path}: {kind.name} is read with `{install_extra('av')}`; or "
                f"convert it: ffmpeg -i {quote(path.name)} {quote(path.stem + '.wav')}"
            ) from error
        self._av, self.error = av, ""
        options = {"protocol_whitelist": "file"}
        try:
            self._container = av.open(str(path), format=kind.demuxer, options=options)
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(
                f"{path}: it is damaged, or no {kind.name} after all"
            ) from error
        sounds = self._container.streams.audio
        if not sounds or sounds[0].codec_context is None:
            self._container.close()
            raise AudioError(f"{path}: there is no sound in it that can be decoded")
        self._stream = stream = sounds[0]
        self.samplerate = int(stream.rate or 0)
        self.channels = int(stream.channels or 0)
        self.frames = self._stated_frames()
        self._left = np.zeros((0, self.channels), np.float32)
        self._decoded = self._blocks()

    def _stated_frames(self) -> int:
        """Length of the stream, or of the whole container."""
        stream, container = self._stream, self._container
        if stream.duration and stream.time_base:
            return max(0, round(stream.duration * stream.time_base * self.samplerate))
        if container.duration:
            return max(0, round(container.duration / 1e6 * self.samplerate))
        return 0

    def _blocks(self) -> Iterator[np.ndarray]:
        """Decoded frames [n, channels], float32."""
        to_float = self._av.AudioResampler(format="fltp")
        errors = 0
        for packet in self._packets():
            try:
                for frame in packet.decode():
                    if frame.sample_rate != self.samplerate:
                        self.error = self.error or "its rate changes"
                        return
                    for one in to_float.resample(frame):
                        yield self._with_channels(one.to_ndarray().T)
            except self._av.FFmpegError as error:
                self.error = self.error or str(error.strerror)
                errors += 1
                if errors > MAX_ERRORS:
                    return

    def _packets(self) -> Iterator[Any]:
        """Packets of the stream; the end where the file is cut off."""
        try:
            yield from self._container.demux(self._stream)
        except self._av.FFmpegError as error:
            self.error = self.error or str(error.strerror)

    def _with_channels(self, block: np.ndarray) -> np.ndarray:
        """As many channels as the header states, where the stream changes them."""
        if block.shape[1] == self.channels:
            return block
        return np.repeat(block.mean(1, keepdims=True), self.channels, 1)

    def read(self, frames: int) -> np.ndarray:
        """Read the next frames [n, channels], float32; fewer at the end."""
        parts, count = [self._left], len(self._left)
        while count < frames and (block := next(self._decoded, None)) is not None:
            parts.append(block)
            count += len(block)
        joined = np.concatenate(parts)
        self._left = joined[frames:]
        return joined[:frames]

    def __enter__(self) -> MediaStream:
        return self

    def __exit__(self, *raised: object) -> None:
        self._container.close()
