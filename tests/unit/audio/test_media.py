"""media.py: what libsndfile does not read, by PyAV."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest

from lmaczs.audio.io import load_audio
from lmaczs.audio.media import MediaStream, media_kind
from lmaczs.audio.mono_file import MonoFile
from lmaczs.utils.errors import AudioError
from lmaczs.utils.extras import install_extra

RATE = 48000
FILES = {  # suffix: FFmpeg's encoder
    "m4a": "aac",
    "mp4": "aac",
    "webm": "libopus",
    "mka": "libopus",
    "ac3": "ac3",
    "eac3": "eac3",
    "aac": "aac",
    "wma": "wmav2",
    "tta": "tta",
}


def tone() -> np.ndarray:
    """Two seconds in two channels, float32 [2, samples]."""
    time = np.arange(2 * RATE) / RATE
    low, high = (0.5 * np.sin(2 * np.pi * hertz * time) for hertz in (440, 1000))
    return np.stack([low, high]).astype(np.float32)


def write(path: Path, layout: str = "stereo") -> Path:
    """Write the tone, or its first channel, as the suffix says."""
    muxer = {"m4a": "ipod", "wma": "asf", "aac": "adts", "mka": "matroska"}
    suffix = path.suffix[1:]
    with av.open(str(path), "w", format=muxer.get(suffix, suffix)) as file:
        stream = file.add_stream(FILES[suffix], rate=RATE, layout=layout)
        stream.bit_rate = 128_000
        samples = tone()[: stream.channels]
        frame = av.AudioFrame.from_ndarray(samples, "fltp", layout)
        frame.sample_rate = RATE
        resampler = av.AudioResampler(stream.format, layout, RATE, stream.frame_size)
        for one in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(one))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", FILES)
def test_media_files_are_read(tmp_path: Path, suffix: str) -> None:
    """They have the tones that were encoded, mixed, or one of them alone."""
    path = write(tmp_path / f"a.{suffix}")
    assert media_kind(path) is not None
    mix = load_audio(path, RATE, strict=True).numpy()
    assert 2 * RATE <= len(mix) + 2304 <= 2.2 * RATE
    first = load_audio(path, RATE, channel=1).numpy()
    for wav, hertz in ((mix, [440, 1000]), (first, [440])):
        middle = wav[RATE // 2 :][:RATE]  # a second: a bin is 1 Hz
        bins = np.abs(np.fft.rfft(middle * np.hanning(RATE)))
        assert sorted({round(one, -1) for one in np.argsort(bins)[-2:]}) == hertz


def test_a_stream_may_change_its_channels(tmp_path: Path) -> None:
    """Two files that were joined: in the second, both channels are its only one."""
    parts = [write(tmp_path / f"{one}.aac", one) for one in ("stereo", "mono")]
    joined = tmp_path / "joined.aac"
    joined.write_bytes(b"".join(path.read_bytes() for path in parts))
    found = load_audio(joined, RATE, channel=2).numpy()
    for second, hertz in ((0.5, 1000), (2.5, 440)):
        spectrum = np.abs(np.fft.rfft(found[int(second * RATE) :][:RATE]))
        assert spectrum.argmax() == hertz


def test_a_stretch_is_that_of_the_whole(tmp_path: Path) -> None:
    """Which is decoded up to its end."""
    path = write(tmp_path / "a.m4a")
    whole = load_audio(path, 16000)
    found = load_audio(path, 16000, start=0.5, stop=1.0)
    np.testing.assert_allclose(found, whole[8000:16000], atol=1e-5)


def test_a_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    """It is read as far as it goes."""
    path = write(tmp_path / "a.webm")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    file = MonoFile(path)
    count = sum(map(len, file.blocks()))
    assert RATE / 2 < count < 1.5 * RATE
    assert file.warnings and "truncated" in file.warnings[0]


@pytest.mark.parametrize("suffix", ["m4a", "webm", "ac3"])
def test_without_pyav_both_ways_out_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """The extra, and the line that converts the file."""
    path = write(tmp_path / f"a voice.{suffix}")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError) as refusal:
        load_audio(path, RATE)
    assert f"`{install_extra('av')}`" in str(refusal.value)
    assert f"ffmpeg -i 'a voice.{suffix}' 'a voice.wav'" in str(refusal.value)


def test_damage_is_an_error_of_ours(tmp_path: Path) -> None:
    """A box that leads nowhere, and a codec that nobody knows."""
    path = write(tmp_path / "a.m4a")
    unknown = path.read_bytes().replace(b"mp4a", b"mp4?").replace(b"esds", b"esd?")
    for data in (b"\0\0\0\x1cftypM4A " + bytes(4000), unknown):
        path.write_bytes(data)
        kind = media_kind(path)
        with pytest.raises(AudioError, match="no M4A|no sound in it"):
            MediaStream(path, kind)


def test_other_files_are_no_media(tmp_path: Path) -> None:
    """Text, and what libsndfile reads."""
    path = tmp_path / "a"
    for data in (b"", b"text", b"RIFF....WAVEfmt ", b"OggS\0\2", b"\xff\xfb\x90\0"):
        path.write_bytes(data)
        assert media_kind(path) is None
