"""page_data.py: what the page draws and plays is what was explained."""

from __future__ import annotations

import base64
import io
import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from lmaczs.audio.io import save_audio
from lmaczs.report.figures import decibel, to_bands
from lmaczs.report.page_data import (
    extent,
    levels,
    read_page_data,
    to_flac,
    write_page_data,
)

RATE, N_FFT, HOP = 8000, 256, 64


def noise(seconds: float = 1.0, seed: int = 0) -> Tensor:
    """Noise with a peak below full scale."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(int(seconds * RATE), generator=generator) - 0.5


def spectrum(wav: Tensor) -> Tensor:
    """STFT [129, T]."""
    window = torch.hann_window(N_FFT)
    return torch.stft(wav, N_FFT, HOP, window=window, return_complex=True)


def decoded(flac: bytes | str) -> np.ndarray:
    """Samples of a FLAC, or of the base64 of one, in [-1, 1)."""
    data = base64.b64decode(flac) if isinstance(flac, str) else flac
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == RATE
    return samples


def unpacked(text: str, rows: int) -> np.ndarray:
    """Values [rows, columns] of a picture, lowest band first."""
    data = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return data.reshape(rows, -1)[::-1]


def written(folder: Path, wav: Tensor, **kept: float) -> dict:
    """Write a recording, the part of it that each prompt keeps, and the page's data."""
    save_audio(folder / "input.wav", wav, RATE)
    stft = spectrum(wav)
    for name, value in kept.items():
        save_audio(folder / name / "explanation.wav", value * wav, RATE)
        save_audio(folder / name / "residual.wav", (1 - value) * wav, RATE)
    masks = {
        name: torch.full(stft.shape, value) if value else None
        for name, value in kept.items()
    }
    path = write_page_data(folder, stft, masks)
    assert path == folder / "page_data.js"
    assert path.read_text().startswith("lmaczsAdd({") and ");" in path.read_text()
    return json.loads(read_page_data(path))


def test_golden_structure(tmp_path: Path) -> None:
    """What the script of the page reads: these keys, and no others."""
    data = written(tmp_path, noise(), dog=0.25, siren=0.0)
    assert list(data) == [
        *("seconds", "sampleRate", "rows", "columns", "picture", "scale", "sound"),
        *("levels", "prompts"),
    ]
    assert data["seconds"] == 1 and data["sampleRate"] == RATE
    assert (data["rows"], data["columns"]) == (256, 126)
    assert list(data["prompts"]["dog"]) == [
        *("empty", "mask", "sound", "explanation", "residual", "where"),
    ]
    assert data["prompts"]["siren"] == {"empty": True}
    assert list(data["levels"]) == ["step", "peakDb", "rms", "peak"]


def test_pictures_are_in_steps_of_one_decibel(tmp_path: Path) -> None:
    """The spectrogram to half a dB, the mask to half a 63rd."""
    wav = noise()
    data = written(tmp_path, wav, dog=0.25)
    power = to_bands(spectrum(wav).abs().square(), RATE)
    expected = decibel(power, power.max()).numpy() + 70
    shown = unpacked(data["picture"], 256)
    np.testing.assert_allclose(shown, expected, atol=0.501)
    mask = unpacked(data["prompts"]["dog"]["mask"], 256) / 63
    np.testing.assert_allclose(mask, 0.25, atol=0.5 / 63)


def test_sounds_are_those_that_were_explained(tmp_path: Path) -> None:
    """In the script and beside it, to half a step of 16 bits."""
    wav = noise()
    data = written(tmp_path, wav, dog=0.25)
    assert data["scale"] == 1
    for flac, expected in (
        (data["sound"], wav),
        ((tmp_path / "input.flac").read_bytes(), wav),
        (data["prompts"]["dog"]["sound"], 0.25 * wav),
        ((tmp_path / "dog" / "explanation.flac").read_bytes(), 0.25 * wav),
        ((tmp_path / "dog" / "residual.flac").read_bytes(), 0.75 * wav),
    ):
        error = np.abs(decoded(flac) - expected.numpy()).max()
        assert error <= 0.5001 / 32768


def test_sounds_above_full_scale_are_lowered_alike(tmp_path: Path) -> None:
    """Nothing clips, and the page multiplies by the scale again."""
    wav = 4 * noise()
    data = written(tmp_path, wav, dog=0.25, rain=1.0)
    assert data["scale"] == pytest.approx(float(wav.abs().max()), rel=1e-3)
    for flac, expected in (
        (data["sound"], wav),
        (data["prompts"]["dog"]["sound"], 0.25 * wav),
    ):
        sound = decoded(flac) * data["scale"]
        np.testing.assert_allclose(sound, expected.numpy(), atol=2e-5 * data["scale"])
    assert data["levels"]["peakDb"] == pytest.approx(
        20 * np.log10(float(wav.abs().max()))
    )


def test_empty_explanations_have_no_sound(tmp_path: Path) -> None:
    """Those of an earlier run are removed."""
    written(tmp_path, noise(), dog=0.5)
    assert (tmp_path / "dog" / "explanation.flac").is_file()
    written(tmp_path, noise(), dog=0.0)
    assert not list((tmp_path / "dog").glob("*.flac"))
    assert (tmp_path / "input.flac").is_file()


@pytest.mark.slow
def test_sounds_of_long_recordings_are_not_in_the_script(tmp_path: Path) -> None:
    """Above ten minutes they are played from their files; pictures stay small."""
    wav = torch.zeros(601 * RATE)
    wav[::RATE] = 0.5
    data = written(tmp_path, wav, dog=0.5)
    assert data["sound"] is None and data["prompts"]["dog"]["sound"] is None
    assert data["columns"] == 2000
    assert len(decoded((tmp_path / "input.flac").read_bytes())) == len(wav)
    assert len(base64.b64decode(data["levels"]["rms"])) <= 6000


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 8000, 3_000_000])
def test_levels_are_those_of_each_step(tmp_path: Path, samples: int) -> None:
    """RMS and peak of every 50 ms in half dB, against a loop; of silence 0."""
    wav = noise(samples / RATE)[:samples] * torch.linspace(0.1, 1, samples)
    found = levels(save_audio(tmp_path / "a.wav", wav, RATE))
    size = 400 * math.ceil(math.ceil(samples / 400) / 6000)
    assert found["step"] == size / RATE
    rms, peak = (
        np.frombuffer(base64.b64decode(found[name]), np.uint8)
        for name in ("rms", "peak")
    )
    assert len(rms) == len(peak) == -(-samples // size)
    for number in range(len(rms)):
        cut = wav[size * number : size * (number + 1)].numpy()
        loudest = np.abs(cut).max()
        mean = np.sqrt((cut.astype(float) ** 2).sum() / size)
        for byte, value in ((peak[number], loudest), (rms[number], mean)):
            expected = max(0.0, 2 * (20 * np.log10(max(value, 1e-9)) + 96))
            assert byte == pytest.approx(expected, abs=0.51)
    assert found["peakDb"] == pytest.approx(20 * np.log10(float(wav.abs().max())))


def test_silence_has_no_peak(tmp_path: Path) -> None:
    """None, which is no number that a meter could show."""
    found = levels(save_audio(tmp_path / "a.wav", torch.zeros(801), RATE))
    assert found["peakDb"] is None
    assert base64.b64decode(found["rms"]) == bytes(3)


def test_extent_is_where_most_of_the_power_is() -> None:
    """A square in the middle of noise that is 60 dB lower."""
    power = torch.full((256, 200), 1e-6)
    power[20:40, 50:150] = 1
    start, stop, low, high = extent(power, RATE)
    assert start == pytest.approx(0.275, abs=0.01)
    assert stop == pytest.approx(0.725, abs=0.01)
    top = 1127 * np.log1p(RATE / 2 / 700)
    for hertz, row in ((low, 21), (high, 39)):
        assert 1127 * np.log1p(hertz / 700) / top * 256 == pytest.approx(row, abs=1.1)


@pytest.mark.parametrize("samples", [5, 1_100_000])
def test_flac_does_not_wrap_around(tmp_path: Path, samples: int) -> None:
    """What is at full scale stays there; all blocks are written."""
    wav = torch.linspace(-1.5, 1.5, samples)
    path = to_flac(save_audio(tmp_path / "a.wav", wav, RATE), 1.0)
    assert path == tmp_path / "a.flac"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.flac", "a.wav"]
    expected = wav.numpy().clip(-1, 32767 / 32768)
    np.testing.assert_allclose(decoded(path.read_bytes()), expected, atol=1.6e-5)
