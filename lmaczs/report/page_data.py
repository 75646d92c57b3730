"""What the page draws and plays of one recording, as a script that lies beside it.

A page that is opened from disk may load scripts, but may not read the samples of a
sound file, which gain and switching between sounds in step need.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from lmaczs.audio.scales import hz_to_mel, mel_to_hz
from lmaczs.report.figures import RANGE_DB, decibel, to_bands
from lmaczs.report.level_track import LEVEL_FLOOR_DB, LevelTrack
from lmaczs.utils.files import atomic_write
from lmaczs.utils.naming import INPUT_COPY, LISTENED, PAGE_DATA

CALL = "lmaczsAdd"
"""Function of the page that a script calls with its data."""

COLUMNS = 2000
"""Most time steps of a picture on the page, which can be zoomed."""

MASK_STEPS = 63

DECODED_SECONDS = 600.0
"""Sounds up to this length are in the script. Longer ones are played from their files:
decoded, an hour takes 600 MB."""

FULL_SCALE = 1 << 15

BLOCK_SAMPLES = 1 << 20
"""About as many are read at a time."""


def write_page_data(
    folder: str | Path, stft: Tensor, masks: Mapping[str, Tensor | None]
) -> Path:
    """Write page_data.js for a recording, and its sounds as 16-bit FLAC.

    Parameters
    ----------
    folder : str or Path
        Of the recording, with input.wav, and a folder for each prompt with
        explanation.wav and residual.wav. A FLAC is written beside each of them; where
        one is louder than full scale, all are lowered alike.
    stft : Tensor [F, T], complex
        Of the input.
    masks : mapping of str to Tensor [F, T] or None
        In [0, 1], by the name of the prompt's folder; None for an explanation that is
        silence, which is neither drawn nor played.

    Returns
    -------
    Path
        Of page_data.js.
    """
    folder = Path(folder)
    rate = soundfile.info(folder / INPUT_COPY).samplerate
    bands = {
        name: None if mask is None else to_bands(mask, rate, COLUMNS)
        for name, mask in masks.items()
    }
    power = to_bands(stft.abs().square(), rate, COLUMNS)
    return write_bands(folder, power, bands)


def write_bands(
    folder: Path, power: Tensor, masks: Mapping[str, Tensor | None]
) -> Path:
    """As `write_page_data`, from power and masks in bands of `to_bands`, [256, T].

    T is at most 2000. Sounds are read block by block: memory does not grow with the
    recording.
    """
    sounds = [folder / INPUT_COPY]
    for name, mask in masks.items():
        for flac in LISTENED:
            if mask is None:  # what an earlier run wrote
                (folder / name / flac).unlink(missing_ok=True)
            else:
                sounds.append(_wav(folder / name / flac))
    found = {path: levels(path) for path in sounds}
    loudest = max(
        10 ** ((one["peakDb"] or LEVEL_FLOOR_DB) / 20) for one in found.values()
    )
    scale = max(1.0, loudest * FULL_SCALE / (FULL_SCALE - 1))
    flacs = {path: to_flac(path, scale) for path in sounds}
    about = soundfile.info(sounds[0])
    rate, seconds = about.samplerate, about.frames / about.samplerate

    def embedded(path: Path) -> str | None:
        return _base64(flacs[path].read_bytes()) if seconds <= DECODED_SECONDS else None

    data = _shared(power, rate, seconds, found[sounds[0]])
    data |= {"scale": scale, "sound": embedded(sounds[0])}
    for name, mask in masks.items():
        data["prompts"][name] = {"empty": mask is None}
        if mask is not None:
            kept, left = (_wav(folder / name / flac) for flac in LISTENED)
            data["prompts"][name] |= {
                "mask": _packed(MASK_STEPS * mask),
                # the page subtracts it from the input: the residual need not be there
                "sound": embedded(kept),
                "explanation": found[kept],
                "residual": found[left],
                "where": extent(mask.square() * power, rate),
            }
    return _write(folder, data)


def write_overview(
    folder: Path, power: Tensor, rate: int, seconds: float, levels: Mapping[str, Any]
) -> Path:
    """Write page_data.js for a recording that is shown without sounds and masks.

    From power in bands of `to_bands`, [256, T], and levels of `LevelTrack`.
    """
    return _write(folder, _shared(power, rate, seconds, levels))


def _shared(
    power: Tensor, rate: int, seconds: float, levels: Mapping[str, Any]
) -> dict[str, Any]:
    """What the page shows of a recording itself."""
    return {
        "seconds": seconds,
        "sampleRate": rate,
        "rows": power.shape[0],
        "columns": power.shape[1],
        "picture": _packed(decibel(power, power.max()) + RANGE_DB),
        "scale": 1.0,
        "sound": None,
        "levels": dict(levels),
        "prompts": {},
    }


def _write(folder: Path, data: Mapping[str, Any]) -> Path:
    with atomic_write(folder / PAGE_DATA) as part:
        part.write_text(f"{CALL}({json.dumps(data)});\n", "utf-8")
    return folder / PAGE_DATA


def read_page_data(path: Path) -> str:
    """Read the data of a page_data.js, as JSON."""
    text = path.read_text("utf-8").rstrip()
    return text.removeprefix(f"{CALL}(").removesuffix(");")


def to_flac(path: Path, scale: float) -> Path:
    """Write a WAV, divided by a scale, as 16-bit FLAC beside it."""
    rate = soundfile.info(path).samplerate
    with (
        atomic_write(path.with_suffix(".flac")) as part,
        soundfile.SoundFile(part, "w", rate, 1, "PCM_16", format="FLAC") as flac,
    ):
        for block in _blocks(path, BLOCK_SAMPLES):
            samples = np.round(block * (FULL_SCALE / scale))
            flac.write(np.clip(samples, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16))
    return path.with_suffix(".flac")


def levels(path: Path) -> dict[str, Any]:
    """Levels of a WAV over time, see `LevelTrack`."""
    track = LevelTrack(soundfile.info(path).samplerate)
    for block in _blocks(path, BLOCK_SAMPLES):
        track.add(block)
    return track.levels()


def extent(power: Tensor, sample_rate: int) -> list[float]:
    """Where the middle 90 % of a power spectrogram in bands [256, T] lies.

    Fractions of the time at which it starts and stops, then its lowest and highest
    frequency in Hz.
    """
    start, stop = _middle(power.sum(0))
    top = hz_to_mel(torch.tensor(sample_rate / 2))
    low, high = (float(mel_to_hz(edge * top)) for edge in _middle(power.sum(1)))
    return [start, stop, low, high]


def _middle(power: Tensor) -> tuple[float, float]:
    """Fractions of a vector between which 90 % of its sum lie."""
    share = power.double().cumsum(0)
    share = share / share[-1].clamp_min(1e-30)
    first = int((share < 0.05).sum())
    last = min(int((share < 0.95).sum()), len(share) - 1) + 1
    return first / len(share), last / len(share)


def _wav(path: Path) -> Path:
    return path.with_suffix(".wav")


def _blocks(path: Path, size: int) -> Iterator[npt.NDArray[np.float32]]:
    return soundfile.blocks(path, blocksize=size, dtype="float32")


def _packed(values: Tensor) -> str:
    """Values in [0, 255], highest band first, as base64 of deflated bytes."""
    return _base64(zlib.compress(_bytes(values.flip(0)).tobytes()))


def _bytes(values: Tensor) -> npt.NDArray[np.uint8]:
    return values.round().clamp(0, 255).byte().numpy()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
