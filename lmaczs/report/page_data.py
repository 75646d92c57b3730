"""What the page draws and plays of one recording, as a script that lies beside it.

A page that is opened from disk may load scripts, but may not read the samples of a
sound file, which gain and switching between sounds in step need.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from lmaczs.report.figures import RANGE_DB, decibel, to_bands
from lmaczs.utils.files import atomic_write
from lmaczs.utils.naming import INPUT_FLAC, PAGE_DATA

CALL = "lmaczsAdd"
"""Function of the page that a script calls with its data."""

COLUMNS = 2000
"""Most time steps of a picture on the page, which can be zoomed."""

MASK_STEPS = 63

DECODED_SECONDS = 600.0
"""Sounds up to this length are in the script. Longer ones are played from their files:
decoded, an hour takes 600 MB."""

METER_SECONDS, METER_STEPS = 0.05, 6000
"""Stretch that a level is measured over, and most levels of a sound."""

LEVEL_FLOOR_DB, LEVELS_PER_DB = -96.0, 2
"""A level is a byte: half dB above the floor, which is silence."""

FULL_SCALE = 1 << 15


class Parts(NamedTuple):
    """What the page shows of one explanation."""

    mask: Tensor
    """[F, T], in [0, 1]."""
    waveform: Tensor
    """The explanation, [samples]; silence if the mask is empty."""
    residual: Tensor
    """[samples]."""
    empty: bool
    """Whether the explanation is silence: it is neither drawn nor played."""


def write_page_data(
    folder: str | Path, stft: Tensor, sample_rate: int, parts: Mapping[str, Parts]
) -> Path:
    """Write page_data.js for a recording, and its sounds as 16-bit FLAC.

    Parameters
    ----------
    folder : str or Path
        Of the recording: input.flac goes there, and explanation.flac and residual.flac
        into the folder of each prompt. Where a sound is louder than full scale, all are
        lowered alike.
    stft : Tensor [F, T], complex
        Of the input.
    sample_rate : int
        Hz.
    parts : mapping of str to Parts
        By the name of the prompt's folder; at least one.

    Returns
    -------
    Path
        Of page_data.js.
    """
    folder = Path(folder)
    one = next(iter(parts.values()))
    sounds = {INPUT_FLAC: one.waveform + one.residual}
    for name, part in parts.items():
        if not part.empty:
            sounds[f"{name}/explanation.flac"] = part.waveform
            sounds[f"{name}/residual.flac"] = part.residual
    scale = max(1.0, *(_peak(wav) * FULL_SCALE / 32767 for wav in sounds.values()))
    seconds = len(sounds[INPUT_FLAC]) / sample_rate
    embedded: dict[str, str] = {}
    for name, wav in sounds.items():
        flac = to_flac(wav / scale, sample_rate)
        with atomic_write(folder / name) as file:
            file.write_bytes(flac)
        if seconds <= DECODED_SECONDS:
            embedded[name] = _base64(flac)
    for name, part in parts.items():
        if part.empty:  # what an earlier run heard there
            for sound in ("explanation.flac", "residual.flac"):
                (folder / name / sound).unlink(missing_ok=True)
    power = to_bands(stft.abs().square(), sample_rate, COLUMNS)
    data = {
        "seconds": seconds,
        "sampleRate": sample_rate,
        "rows": power.shape[0],
        "columns": power.shape[1],
        "picture": _packed(decibel(power, power.max()) + RANGE_DB),
        "scale": scale,
        "sound": embedded.get(INPUT_FLAC),
        "levels": levels(sounds[INPUT_FLAC], sample_rate),
        "prompts": {
            name: _prompt_data(
                part, stft, sample_rate, embedded.get(f"{name}/explanation.flac")
            )
            for name, part in parts.items()
        },
    }
    with atomic_write(folder / PAGE_DATA) as file:
        file.write_text(f"{CALL}({json.dumps(data)});\n", "utf-8")
    return folder / PAGE_DATA


def read_page_data(path: Path) -> str:
    """Read the data of a page_data.js, as JSON."""
    text = path.read_text("utf-8").rstrip()
    return text.removeprefix(f"{CALL}(").removesuffix(");")


def _prompt_data(
    part: Parts, stft: Tensor, sample_rate: int, sound: str | None
) -> dict[str, Any]:
    if part.empty:
        return {"empty": True}
    bands = to_bands(part.mask, sample_rate, COLUMNS)
    return {
        "empty": False,
        "mask": _packed(MASK_STEPS * bands),
        # the page subtracts it from the input: the residual need not be there
        "sound": sound,
        "explanation": levels(part.waveform, sample_rate),
        "residual": levels(part.residual, sample_rate),
        "where": extent((part.mask * stft).abs().square(), sample_rate)
        + [len(part.waveform) / sample_rate],
    }


def to_flac(wav: Tensor, sample_rate: int) -> bytes:
    """Encode a waveform [samples] in [-1, 1] as 16-bit FLAC."""
    samples = (wav * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1)
    file = io.BytesIO()
    soundfile.write(
        file, samples.short().numpy(), sample_rate, format="FLAC", subtype="PCM_16"
    )
    return file.getvalue()


def levels(wav: Tensor, sample_rate: int) -> dict[str, Any]:
    """Levels of a waveform [samples] over time, in dB re full scale.

    They are: step (seconds), peakDb of the whole (None for silence), and rms and peak
    of each step, base64 of bytes: 2 (dB + 96), or 0 for silence.
    """
    size = max(round(METER_SECONDS * sample_rate), -(-len(wav) // METER_STEPS))
    steps = -(-len(wav) // size)
    padded = torch.nn.functional.pad(wav, (0, steps * size - len(wav)))
    cut = padded.reshape(steps, size)
    peak = _peak(wav)
    return {
        "step": size / sample_rate,
        "peakDb": float(20 * np.log10(peak)) if peak > 0 else None,
        "rms": _level_bytes(cut.square().mean(1).sqrt()),
        "peak": _level_bytes(cut.abs().amax(1)),
    }


def extent(power: Tensor, sample_rate: int) -> list[float]:
    """Where the middle 90 % of a power spectrogram [F, T] lies.

    Fractions of the time at which it starts and stops, then its lowest and highest
    frequency in Hz.
    """
    ends = []
    for axis, unit in ((1, 1.0), (0, sample_rate / 2)):
        share = power.double().sum(1 - axis).cumsum(0)
        share = share / share[-1].clamp_min(1e-30)
        first = int((share < 0.05).sum())
        last = min(int((share < 0.95).sum()), len(share) - 1) + 1
        ends += [first / len(share) * unit, last / len(share) * unit]
    return ends


def _peak(wav: Tensor) -> float:
    return float(wav.abs().max())


def _level_bytes(amplitude: Tensor) -> str:
    floor = 10 ** (LEVEL_FLOOR_DB / 20)
    decibels = 20 * amplitude.clamp_min(floor).log10() - LEVEL_FLOOR_DB
    return _base64(_bytes(LEVELS_PER_DB * decibels).tobytes())


def _packed(values: Tensor) -> str:
    """Values in [0, 255], highest band first, as base64 of deflated bytes."""
    return _base64(zlib.compress(_bytes(values.flip(0)).tobytes()))


def _bytes(values: Tensor) -> npt.NDArray[np.uint8]:
    return values.round().clamp(0, 255).byte().numpy()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
