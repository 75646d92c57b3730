"""decoder.py: one recording is decoded as far as it goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lmaczs.audio.contents import Part
from lmaczs.audio.decoder import PartReader, SoundPart, open_part
from lmaczs.utils.errors import AudioError

Encoded = Callable[..., bytes]


def opened(path: Path, data: bytes, *pieces: object) -> SoundPart:
    """Write a file and open pieces of it, or all of it."""
    path.write_bytes(data)
    return open_part(path, Part(pieces or ((0, len(data)),)), not pieces)


def test_a_part_is_described_and_read(
    encoded: Encoded, tmp_path: Path, chirp: np.ndarray
) -> None:
    """A range of a file is what a file of these bytes would be."""
    data = encoded("WAV", samples=np.stack([chirp, -chirp], 1))
    part = opened(tmp_path / "a", b"..." + data + b"...", (3, 3 + len(data)))
    assert (part.rate, part.channels, part.frames, part.least) == (
        16000,
        2,
        32000,
        32000,
    )
    assert part.seeks
    reader = PartReader(part, 100, 5000)
    frames = np.concatenate([*reader])
    assert reader.reached == 5000 and not reader.error
    np.testing.assert_allclose(frames[:, 0], chirp[100:5000], atol=1e-4)
    np.testing.assert_allclose(frames[:, 1], -chirp[100:5000], atol=1e-4)


def test_what_comes_before_damage_is_read(encoded: Encoded, tmp_path: Path) -> None:
    """Also within the block in which decoding fails."""
    data = encoded("FLAC")
    part = opened(tmp_path / "a", data[: len(data) // 2])
    reader = PartReader(part, 0, 32000)
    frames = np.concatenate([*reader])
    assert part.frames == 32000 and 12000 < reader.reached < 20000
    assert np.isfinite(frames).all() and "lost sync" in reader.error


def test_a_damaged_file_is_read_from_anywhere(encoded: Encoded, tmp_path: Path) -> None:
    """Where it cannot be sought in, what comes before is decoded and dropped."""
    data = encoded("FLAC")
    part = opened(tmp_path / "a", data[: len(data) // 2])
    whole = np.concatenate([*PartReader(part, 0, 32000)])
    for first in (100, 9000, len(whole) - 5, len(whole), 20000):
        reader = PartReader(part, first, 32000)
        found = np.concatenate([np.zeros((0, 1), np.float32), *reader])
        np.testing.assert_array_equal(found, whole[first:])
        assert reader.error and reader.reached == len(whole)


def test_mp3_does_not_seek_and_may_lack_its_padding(
    encoded: Encoded, tmp_path: Path
) -> None:
    """Frames depend on those before them."""
    part = opened(tmp_path / "a", encoded("MP3"))
    assert not part.seeks and part.least == part.frames - 2304


@pytest.mark.parametrize("rate", [1, 999, 1_000_001])
def test_rates_that_no_sound_has_are_refused(
    encoded: Encoded, tmp_path: Path, rate: int
) -> None:
    """Before anything is decoded."""
    with pytest.raises(AudioError, match=f"a rate of {rate} Hz cannot be right"):
        opened(tmp_path / "a", encoded("WAV", rate=rate))


@pytest.mark.parametrize("name", ["a.wav", "a.raw", "a"])
def test_what_is_no_audio_is_refused(tmp_path: Path, name: str) -> None:
    """Under any name, with the way out."""
    with pytest.raises(AudioError, match="convert it to WAV or FLAC"):
        opened(tmp_path / name, b"This is no recording. " * 99)
