"""Sounds that are made at random: finite, distinct, the same for a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from lmaczs.demo.random_sounds import FAMILIES, random_sound, write_random_sounds
from lmaczs.demo.sound_models import SOURCES


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("rate", [8000, 22050])
def test_a_sound_is_as_long_and_loud_as_stated(name: str, rate: int) -> None:
    """Whatever is drawn, samples are finite and their peak is 0.8."""
    for seed in range(6):
        sound = random_sound(name, rate, 3.0, seed)
        assert sound.shape == (3 * rate,)
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() == pytest.approx(0.8)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_seed_makes_one_sound_and_another_one_another(name: str) -> None:
    """No global generator takes part, and seeds differ in their spectra."""
    once, again, other = (random_sound(name, 8000, 3.0, seed) for seed in (1, 1, 2))
    assert (once == again).all()
    spectra = [np.abs(np.fft.rfft(one)) for one in (once, other)]
    assert np.corrcoef(*spectra)[0, 1] < 0.9


def test_every_family_is_written_as_often(tmp_path: Path) -> None:
    """Two rounds of all families and models, as mono FLAC; workers change nothing."""
    kinds = [*FAMILIES, *SOURCES]
    folder = write_random_sounds(tmp_path / "new" / "it", 2 * len(kinds), 8000, 3.0, 5)
    names = sorted(path.name for path in folder.iterdir())
    assert sorted(2 * kinds) == sorted(name.split("-")[0] for name in names)
    for name in names:
        found = soundfile.info(folder / name)
        assert (found.samplerate, found.channels, found.frames) == (8000, 1, 24000)
        assert found.format == "FLAC"
    contents = {(folder / name).read_bytes() for name in names}
    assert len(contents) == len(names)
    again = write_random_sounds(tmp_path / "again", len(kinds), 8000, 3.0, 5, workers=2)
    for path in again.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_a_folder_that_is_there_stays(tmp_path: Path) -> None:
    """A resumed run finds the sounds that it made, and makes none."""
    (tmp_path / "mine.txt").write_text("mine")
    assert write_random_sounds(tmp_path, 3, 8000, 3.0, 0) == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
