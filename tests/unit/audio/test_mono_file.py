"""mono_file.py: a file is read whole, whatever its headers state."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.audio.containers import inspect
from lmaczs.audio.contents import Contents
from lmaczs.audio.file_bytes import Data
from lmaczs.audio.levels import Levels
from lmaczs.audio.mono_file import MonoFile
from lmaczs.utils.errors import AudioError

Encoded = Callable[..., bytes]
JOINED = ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3"]
SIZES = {  # format: what comes before the size of the sound, its struct, what it counts
    "WAV": (b"data", "<I", 0),
    "AIFF": (b"SSND", ">I", 8),
    "AU": (b".snd" + struct.pack(">I", 24), ">I", 0),
    "CAF": (b"data", ">q", 4),
    "W64": (b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", "<Q", 24),
    "RF64": (b"ds64\x1c\0\0\0", "<8xQ", 0),
}


def read(path: Path, **options: object) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the samples of a file, and what is doubtful about it."""
    file = MonoFile(path, **options)
    return np.concatenate([*file.blocks()]), file.warnings


@pytest.mark.parametrize("format_", JOINED)
def test_joined_recordings_are_read_one_after_another(
    encoded: Encoded, tmp_path: Path, chirp: np.ndarray, format_: str
) -> None:
    """Three files that were joined are what they are alone; nothing is doubtful."""
    parts, alone = [chirp, chirp[::-1].copy(), chirp[:20000]], []
    for number, samples in enumerate(parts):
        path = tmp_path / str(number)
        path.write_bytes(encoded(format_, samples=samples))
        alone.append(read(path)[0])
    path = tmp_path / "joined"
    path.write_bytes(b"".join((tmp_path / str(n)).read_bytes() for n in range(3)))
    found, warnings = read(path, strict=True)
    np.testing.assert_array_equal(found, np.concatenate(alone))
    assert warnings == () and MonoFile(path).frames == len(found)
    assert MonoFile(tmp_path / "0").as_it_is and not MonoFile(path).as_it_is


def test_joined_opus_is_read_whole(encoded: Encoded, tmp_path: Path) -> None:
    """At its own rate, 48 kHz."""
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, 48000)
    data = encoded("OGG", "OPUS", sound, 48000)
    (tmp_path / "a.opus").write_bytes(data + data)
    assert len(read(tmp_path / "a.opus", strict=True)[0]) == 96000


def test_parts_of_another_rate_are_resampled(encoded: Encoded, tmp_path: Path) -> None:
    """To that of the first; a stretch is that of the whole."""
    path = tmp_path / "a.flac"
    path.write_bytes(encoded("FLAC") + encoded("FLAC", rate=32000))
    file = MonoFile(path)
    found = np.concatenate([*file.blocks()])
    assert file.rate == 16000 and len(found) == file.frames == 32000 + 16000
    # the second half of the chirp is twice as fast: every other sample of it
    middle = np.concatenate([*file.blocks(31000, 40000)])
    np.testing.assert_allclose(middle, found[31000:40000], atol=1e-6)


@pytest.mark.parametrize("format_", SIZES)
@given(data=st.data())
def test_any_size_in_a_header_leads_to_what_is_there(
    encoded: Encoded,
    tmp_path_factory: pytest.TempPathFactory,
    chirp: np.ndarray,
    format_: str,
    data: st.DataObject,
) -> None:
    """All samples are read, and a size that is wrong is a warning."""
    before, form, counted = SIZES[format_]
    whole = bytearray(encoded(format_))
    right = 2 * len(chirp) + counted
    odd = [0, 1, 1000, right - 2, right + 44, 4 * right, 0x7FFFFFFF, 0xFFFFFFFF]
    size = data.draw(st.sampled_from([right, *odd]) | st.integers(0, 0xFFFFFFFF))
    place = whole.index(before) + len(before) + (8 if "8x" in form else 0)
    struct.pack_into(form.replace("8x", ""), whole, place, size)
    path = tmp_path_factory.mktemp("sizes") / "a"
    path.write_bytes(whole)
    found, warnings = read(path)
    assert abs(len(found) - len(chirp)) <= 1
    np.testing.assert_allclose(found[:31999], chirp[:31999], atol=1e-4)
    assert bool(warnings) == (abs(size - right) >= 64 or size > right)


@pytest.mark.parametrize("stated", [1, 16000, 31999])
def test_flac_that_states_too_little_is_read_whole(
    encoded: Encoded, tmp_path: Path, stated: int
) -> None:
    """As an encoder that was ended leaves it."""
    data = bytearray(encoded("FLAC"))
    data[22:26] = stated.to_bytes(4, "big")
    (tmp_path / "a.flac").write_bytes(data)
    found, warnings = read(tmp_path / "a.flac", strict=True)
    assert len(found) == 32000
    assert warnings[0].startswith(f"its header states {stated} samples, but")


def test_bw64_is_read_as_rf64(encoded: Encoded, tmp_path: Path) -> None:
    """Its successor: the headers differ in four bytes."""
    data = encoded("RF64")
    (tmp_path / "a.wav").write_bytes(data)
    expected, _ = read(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"BW64" + data[4:])
    found, warnings = read(tmp_path / "b.wav", strict=True)
    np.testing.assert_array_equal(found, expected)
    assert warnings == ()


def test_mp3_in_wav_is_read_whole(encoded: Encoded, tmp_path: Path) -> None:
    """The encoder's padding, which the header counts, is no damage."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 44100)
    mp3 = encoded("MP3", samples=noise, rate=44100)
    fmt = struct.pack("<HHIIHH", 0x55, 1, 44100, 16000, 1, 0)
    fmt += struct.pack("<HHIHHH", 12, 1, 2, 417, 1, 1393)
    fact = b"fact" + struct.pack("<II", 4, 44100 + 2000)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + fact
    body += b"data" + struct.pack("<I", len(mp3)) + mp3
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    found, warnings = read(path, strict=True)
    assert len(found) >= 44100 and warnings == ()


@pytest.mark.parametrize("format_", ["WAV", "W64", "AIFF", "AU", "CAF", "FLAC", "MP3"])
def test_strict_refuses_what_is_cut_off(
    encoded: Encoded, tmp_path: Path, format_: str
) -> None:
    """Which is read as far as it goes elsewhere; a size that is unknown is no lack."""
    path = tmp_path / "a"
    path.write_bytes(encoded(format_)[:-1500])
    _, warnings = read(path)
    assert len(warnings) == 1 and "truncated" in warnings[0]
    with pytest.raises(AudioError, match=f"{path}: it is truncated"):
        read(path, strict=True)
    data = bytearray(encoded("WAV"))
    struct.pack_into("<I", data, data.index(b"data") + 4, 0xFFFFFFFF)
    path.write_bytes(data)
    _, warnings = read(path, strict=True)
    assert "does not state its length" in warnings[0]


@pytest.mark.parametrize("behind", [b"TAG" + bytes(125), bytes(1000)])
@pytest.mark.parametrize("format_", JOINED)
def test_what_is_behind_the_sound_is_neither_sound_nor_damage(
    encoded: Encoded, tmp_path: Path, format_: str, behind: bytes
) -> None:
    """Tags, as a ripper appends them, and zeros."""
    (tmp_path / "a").write_bytes(encoded(format_))
    (tmp_path / "b").write_bytes(encoded(format_) + behind)
    found, warnings = read(tmp_path / "b", strict=True)
    np.testing.assert_array_equal(found, read(tmp_path / "a")[0])
    assert warnings == ()


def test_joined_recordings_of_which_one_states_no_length(
    encoded: Encoded, tmp_path: Path
) -> None:
    """That of the file is not known; all of it is read, and so is a stretch."""
    data = bytearray(encoded("FLAC"))
    data[22:26] = bytes(4)
    path = tmp_path / "a.flac"
    path.write_bytes(encoded("FLAC") + data)
    file = MonoFile(path, strict=True)
    found = np.concatenate([*file.blocks()])
    assert file.frames == 0 and len(found) == 64000
    stretch = np.concatenate([*file.blocks(31000, 40000)])
    np.testing.assert_array_equal(stretch, found[31000:40000])


def test_one_of_joined_recordings_that_cannot_be_read(
    encoded: Encoded, tmp_path: Path
) -> None:
    """It is named, and the others are read."""
    path = tmp_path / "a.ogg"
    data = encoded("OGG")
    path.write_bytes(data + data[:58].ljust(700, b"x") + data)
    found, warnings = read(path)
    assert len(found) == 64000
    assert "recording 2 of the 3 in it cannot be read" in warnings
    with pytest.raises(AudioError, match="recording 2 of the 3"):
        read(path, strict=True)


def test_of_what_nothing_is_left_the_reason_is_told(
    encoded: Encoded, tmp_path: Path
) -> None:
    """Cut off before the first sound; but among others it is one that lacks some."""
    for format_ in ("OGG", "FLAC"):
        path = tmp_path / format_
        data = encoded(format_)
        path.write_bytes(data[:150])
        with pytest.raises(AudioError, match=f"{path}: .*; nothing is left of it"):
            read(path)
    path.write_bytes(encoded("FLAC") + encoded("FLAC")[:150])
    found, warnings = read(path)
    assert len(found) == 32000 and "only 0.00 of 2.00 s can be read" in warnings[0]


def test_a_file_that_is_cut_off_while_it_is_looked_at(
    encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another process, between its size and its header: one sentence."""
    path = tmp_path / "a.wav"
    path.write_bytes(encoded("WAV"))

    def inspect_later(data: Data) -> Contents:
        path.write_bytes(b"")
        return inspect(data)

    monkeypatch.setattr("lmaczs.audio.mono_file.inspect", inspect_later)
    with pytest.raises(AudioError, match=f"^{path}: cannot be read: it became shorter"):
        MonoFile(path)


def test_pipes_are_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands for standard input elsewhere, and a pipe with a name; no reading."""
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)
    for name in ("-", "fifo"):
        with pytest.raises(AudioError, match=f"^{name}: .*write it into a file first"):
            MonoFile(name)


def test_levels_are_of_what_is_decoded(tmp_path: Path) -> None:
    """Each channel, before they are mixed."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (100_000, 2))
    soundfile.write(tmp_path / "a.wav", samples * [1, 0], 16000)
    levels = Levels()
    mix = np.concatenate([*MonoFile(tmp_path / "a.wav").blocks(levels=levels)])
    assert levels.count == 100_000
    assert levels.power == pytest.approx(float((mix.astype(float) ** 2).mean()))
    assert "channel 2 is silent" in levels.warnings()[0]


@pytest.mark.parametrize(
    "head", [b"RIFF", b"RIFF\xff\xff\xff\x03WAVE", b"FORM\0\0\0\0AIFF", b"caff\0\1\0\0"]
)
@pytest.mark.parametrize("suffix", ["wav", "mp3"])
def test_zeros_are_refused_in_bounded_time(
    tmp_path: Path, head: bytes, suffix: str
) -> None:
    """64 MB of them behind a magic word."""
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(head + bytes(64 << 20))
    begin = time.process_time()
    with pytest.raises(AudioError, match="no audio|truncated or damaged|empty"):
        read(path)
    assert time.process_time() - begin < 60  # without an end they would take hours
