"""Sound files that are whole, and faults that are put into them, by a seed."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import soundfile

SECONDS = 0.6
ODD_SIZES = (0, 1, 44, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

# libsndfile's format, subtype and rate
KINDS = (
    *(("WAV", sub, 16000) for sub in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE")),
    *(("WAV", sub, 8000) for sub in ("ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")),
    *(("AIFF", sub, 16000) for sub in ("PCM_16", "FLOAT", "IMA_ADPCM")),
    *(("CAF", sub, 16000) for sub in ("PCM_16", "ALAC_16", "ALAC_24")),
    *(("FLAC", sub, 16000) for sub in ("PCM_16", "PCM_24")),
    *(("OGG", sub, 48000) for sub in ("VORBIS", "OPUS")),
    *(("MP3", None, rate) for rate in (44100, 22050, 8000)),
    *((name, None, 16000) for name in ("WAVEX", "RF64", "W64", "AU", "AVR", "HTK")),
    *((name, None, 16000) for name in ("SVX", "MAT4", "MAT5", "PAF", "PVF", "IRCAM")),
    *((name, None, 16000) for name in ("VOC", "NIST")),
)
SIZED = ("WAV", "RF64", "W64", "AIFF", "AU", "CAF")
"""Formats whose headers state the size of the sound."""

STREAMS = (*SIZED, "FLAC", "OGG", "MP3")
"""Formats that people join, and tag."""

# FFmpeg's muxer and encoder
MEDIA = (("ipod", "aac"), ("webm", "libopus"), ("ac3", "ac3"), ("adts", "aac"))


@dataclass
class SoundFile:
    """A file, and how much of it is to be read at least.

    Attributes
    ----------
    name : str
        Its format.
    data : bytes
        The file.
    seconds : float
        Length that is read, or less with a warning; 0: any.
    faults : list of str
        What was done to it.
    """

    name: str
    data: bytes
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def whole_files() -> list[SoundFile]:
    """Return a file of each kind that can be written here."""
    files = [_encoded(*kind) for kind in KINDS]
    wide = next(one for one in files if one.name == "RF64")
    files.append(SoundFile("BW64", b"BW64" + wide.data[4:], wide.seconds))
    return files + [_muxed(*kind) for kind in MEDIA]


def _sound(rate: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    time = np.arange(int(SECONDS * rate)) / rate
    return 0.4 * np.sin(2700 * time * (1 + time)) + 0.05 * rng.standard_normal(
        len(time)
    )


def _encoded(format_: str, subtype: str | None, rate: int) -> SoundFile:
    file = io.BytesIO()
    soundfile.write(file, _sound(rate), rate, format=format_, subtype=subtype)
    return SoundFile(format_, file.getvalue(), SECONDS)


def _muxed(muxer: str, encoder: str) -> SoundFile:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as container:
        stream = container.add_stream(encoder, rate=48000, layout="mono")
        sound = _sound(48000).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(sound, "fltp", "mono")
        frame.sample_rate = 48000
        form = stream.format, "mono", 48000, stream.frame_size
        resampler = av.AudioResampler(*form)
        for one in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(one))
        container.mux(stream.encode(None))
    return SoundFile(muxer, file.getvalue(), SECONDS)


# --- faults -------------------------------------------------------------------------

Fault = Callable[[SoundFile, np.random.Generator], SoundFile]


def flip(file: SoundFile, rng: np.random.Generator) -> SoundFile:
    """1 to 20 bits are others, anywhere or in the first 200 bytes."""
    data = bytearray(file.data)
    last = len(data) if rng.random() < 0.5 else min(len(data), 200)
    for place in rng.integers(last, size=rng.integers(1, 21)):
        data[place] ^= 1 << rng.integers(8)
    return SoundFile(file.name, bytes(data))


def cut_off(file: SoundFile, rng: np.random.Generator) -> SoundFile:
    """The end is missing."""
    data = file.data[: int(rng.integers(len(file.data)))]
    return SoundFile(file.name, data, file.seconds)


def size(file: SoundFile, rng: np.random.Generator) -> SoundFile:
    """The size of the sound in the header is another one."""
    words = {"AIFF": b"SSND", "AU": b".snd", "RF64": b"ds64"}
    place = file.data.find(words.get(file.name, b"data"))
    place += {"AU": 8, "RF64": 16, "W64": 16, "CAF": 8}.get(file.name, 4)
    order = ">" if file.name in ("AIFF", "AU", "CAF") else "<"
    value = int(rng.choice(ODD_SIZES) if rng.random() < 0.5 else rng.integers(1 << 32))
    data = bytearray(file.data)
    struct.pack_into(f"{order}I", data, place, value)
    return SoundFile(file.name, bytes(data), file.seconds)


def field_of_header(file: SoundFile, rng: np.random.Generator) -> SoundFile:
    """A number of 2, 4 or 8 bytes in the first 128 is 0, 1, -1 or the like."""
    data = bytearray(file.data)
    width = int(rng.choice([2, 4, 8]))
    value = int(rng.choice(ODD_SIZES)) % (1 << 8 * width)
    order = "little" if rng.random() < 0.5 else "big"
    place = int(rng.integers(min(128, len(data))))
    data[place : place + width] = value.to_bytes(width, order)
    return SoundFile(file.name, bytes(data))


def join(file: SoundFile, rng: np.random.Generator) -> SoundFile:
    """Two or three are joined byte for byte."""
    times = int(rng.integers(2, 4))
    return SoundFile(file.name, file.data * times, file.seconds * times)


def tag(file: SoundFile, rng: np.random.Generator) -> SoundFile:
    """A tag or zeros are before or behind it."""
    size = int(rng.integers(5000))
    digits = bytes([size >> 14 & 127, size >> 7 & 127, size & 127])
    front = b"ID3\4\0\0\0" + digits + bytes(size)
    back = (b"TAG" + bytes(125), bytes(size))[int(rng.integers(2))]
    data = front + file.data if rng.random() < 0.5 else file.data + back
    return SoundFile(file.name, data, file.seconds)


def rubbish(file: SoundFile, rng: np.random.Generator) -> SoundFile:
    """Random bytes are before, in or behind it, or instead of some."""
    place = int(rng.integers(len(file.data) + 1))
    size = int(rng.integers(1, 3000))
    until = place + (size if rng.random() < 0.5 else 0)
    data = file.data[:place] + rng.bytes(size) + file.data[until:]
    return SoundFile(file.name, data)


def zeros(file: SoundFile, rng: np.random.Generator) -> SoundFile:
    """From some place in the first 100 bytes on there are zeros, up to 4 MB."""
    place = int(rng.integers(100))
    return SoundFile(file.name, file.data[:place] + bytes(int(rng.integers(1 << 22))))


def several(file: SoundFile, rng: np.random.Generator) -> SoundFile:
    """Two or three of these faults."""
    faults = [flip, cut_off, field_of_header, join, tag, rubbish]
    for fault in rng.choice(len(faults), int(rng.integers(2, 4))):
        if file.data:
            file = faults[fault](file, rng)
    return SoundFile(file.name, file.data)


FAULTS: dict[str, tuple[Fault, tuple[str, ...]]] = {
    "truncated": (cut_off, STREAMS),
    "joined": (join, STREAMS),
    "wrong size in the header": (size, SIZED),
    "tags or zeros around it": (tag, STREAMS),
    "flipped bits": (flip, ()),
    "wrong number in the header": (field_of_header, ()),
    "rubbish before, in or behind it": (rubbish, ()),
    "zeros behind a header": (zeros, ()),
    "several faults": (several, ()),
}
"""By name, with the formats that they are for; none: all."""


def faulty_file(files: list[SoundFile], seed: int, number: int) -> SoundFile:
    """File of a case: one of `files` with a fault, by the seed."""
    rng = np.random.default_rng([seed, number])
    names = list(FAULTS)
    name = names[int(rng.integers(len(names)))]
    fault, formats = FAULTS[name]
    fit = [one for one in files if not formats or one.name in formats]
    found = fault(fit[int(rng.integers(len(fit)))], rng)
    found.faults = [name]
    return found
