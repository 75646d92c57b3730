"""An explanation as a notebook shows it: verdict, picture and players."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import soundfile
from torch import Tensor

from lmaczs.report.html import EMPTY, template_environment
from lmaczs.report.picture import png_bytes
from lmaczs.report.words import MEANINGS

PLAYED_SECONDS = 60.0
"""Sounds up to this length are in the element: a notebook keeps what it shows."""

SHOWN_EVENTS = 10
"""Most rows of the table of events."""

FULL_SCALE = 1 << 15


def notebook_html(
    record: Mapping[str, Any], stft: Tensor, mask: Tensor, sounds: Mapping[str, Tensor]
) -> str:
    """Write an explanation as HTML that needs no other file, no style and no script.

    Parameters
    ----------
    record : mapping
        What explanation.json holds.
    stft : Tensor [F, T], complex
        Of the input.
    mask : Tensor [F, T]
        In [0, 1].
    sounds : mapping of str to Tensor [samples]
        Input, explanation and residual, by these names. Where one is louder than full
        scale, all are lowered alike, and a line says so.

    Returns
    -------
    str
        One element.
    """
    seconds, rate = record["seconds"], record["sample_rate"]
    loudest = max(float(one.abs().max()) for one in sounds.values())
    scale = max(1.0, loudest * FULL_SCALE / (FULL_SCALE - 1))
    heard = {"explanation": "masked_", "residual": "residual_"}
    rows = [
        {
            "name": name.capitalize(),
            "presence": record[f"{heard.get(name, '')}presence"],
            "similarity": record[f"{heard.get(name, '')}similarity"],
            "sound": _player(one, rate, scale) if seconds <= PLAYED_SECONDS else None,
        }
        for name, one in sounds.items()
        if name == "input" or not record["empty"]
    ]
    picture = None
    if not record["empty"]:
        picture = _base64(png_bytes(stft, mask, rate, seconds))
    template = template_environment().get_template("notebook.html.j2")
    return template.render(
        record=record,
        rows=rows,
        picture=picture,
        empty=EMPTY,
        meaning=MEANINGS.get(record["verdict"]),
        lowered_db=20 * np.log10(scale),
        played_seconds=PLAYED_SECONDS,
        shown_events=SHOWN_EVENTS,
    )


def _player(sound: Tensor, sample_rate: int, scale: float) -> str:
    """A sound, divided by a scale, as base64 of 16-bit FLAC, which browsers play."""
    samples = np.round(sound.numpy() * (FULL_SCALE / scale))
    file = io.BytesIO()
    integers = np.clip(samples, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    soundfile.write(file, integers, sample_rate, format="FLAC", subtype="PCM_16")
    return _base64(file.getvalue())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
