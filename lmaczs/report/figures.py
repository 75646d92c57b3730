"""Pictures of an explanation: input, mask and masked-in spectrogram.

They look the same on every machine: neither the user's matplotlibrc nor the backend,
LaTeX or fonts change them. What is drawn into a user's own axes follows their style.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

import matplotlib.style
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from lmaczs.audio.scales import hz_to_mel, mel_to_hz, power_to_db
from lmaczs.report.fonts import drawable, font_families
from lmaczs.report.words import margin_words, verdict_words
from lmaczs.utils.errors import InputError
from lmaczs.utils.files import atomic_write

ROWS = 256
"""Frequency bands of a picture, equally wide in mel."""

COLUMNS = 1000
"""Most time steps of a picture; those of a longer recording are averaged."""

RANGE_DB = 70.0
"""Span of the colour scale below the input's loudest point."""

TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000, 16000)

EMPTY = "nothing (empty mask)"

SIZE = (7.5, 7.2)
"""Width and height of a picture, inches."""

DPI = 110

TITLE_INCHES = 0.1
"""Distance of a title from the upper edge."""

PANELS = {
    "Input": (0.1, 0.64, 0.76, 0.245),
    "Mask": (0.1, 0.355, 0.76, 0.245),
    "Explanation": (0.1, 0.07, 0.76, 0.245),
}
"""Left, bottom, width and height of a picture's panels, fractions of its size."""

_STYLE_LOCK = RLock()


@contextlib.contextmanager
def own_style(text: str = "") -> Iterator[None]:
    """Draw with matplotlib's defaults and fonts for a text, one thread at a time.

    Figures are to be made and saved inside. The settings that were there before are
    restored.
    """
    with (
        _STYLE_LOCK,
        matplotlib.style.context("default"),
        matplotlib.rc_context({"font.family": font_families(text)}),
    ):
        yield


def explanation_figure(
    stft: Tensor, mask: Tensor, sample_rate: int, seconds: float, title: str = ""
) -> Figure:
    """Draw the input, the mask and the explanation below one another.

    Input and explanation share a colour scale, in dB below the input's loudest point;
    frequency is equally spaced in mel, as in the model's input.

    Parameters
    ----------
    stft : Tensor [F, T], complex
        Of the input.
    mask : Tensor [F, T]
        In [0, 1].
    sample_rate : int
        Hz.
    seconds : float
        Length of the recording.
    title : str
        Taken literally, in any script.

    Returns
    -------
    Figure
        Not registered with pyplot: it need not be closed.
    """
    with own_style(title):
        figure = framed_figure(sample_rate, seconds)
        shown = panels(stft, mask, sample_rate)
        for ax, name in zip(figure.axes[: len(PANELS)], PANELS, strict=True):
            ax.images[0].set_data(shown[name].numpy())
        write_title(figure, title)
    return figure


def framed_figure(sample_rate: int, seconds: float) -> Figure:
    """Figure with an axes for each of `PANELS`, then their colour scales; no picture.

    To be made in `own_style`. Placed by hand: a layout engine takes longer than all the
    rest.
    """
    figure = Figure(figsize=SIZE, dpi=DPI)
    FigureCanvasAgg(figure)
    blank = torch.zeros(ROWS, 1)
    for name, (left, bottom, width, height) in PANELS.items():
        ax = figure.add_axes((left, bottom, width, height))
        draw_bands(ax, blank, seconds, sample_rate, is_mask=name == "Mask")
        # a title whose place is given is not measured
        ax.set_title(name, loc="left", y=1.0)
        ax.xaxis.set_visible(False)
    ax.xaxis.set_visible(True)
    ax.set_xlabel("Time (s)")
    for ax, (_, bottom, _, height) in zip(
        figure.axes[: len(PANELS)], PANELS.values(), strict=True
    ):
        _add_scale(figure, ax.images[0], (0.87, bottom, 0.02, height))
    return figure


def write_title(figure: Figure, title: str) -> None:
    """Write a title literally: a prompt is no formula, and "$" is a dollar sign."""
    place = 1 - TITLE_INCHES / figure.get_figheight()
    shown = drawable(title)
    figure.suptitle(shown, fontsize="medium", y=place, parse_math=False)


def panels(stft: Tensor, mask: Tensor, sample_rate: int) -> dict[str, Tensor]:
    """Values in bands [256, T] of each of `PANELS`, as `bands_of` gives them."""
    return panels_of(
        to_bands(stft.abs().square(), sample_rate),
        to_bands(mask, sample_rate),
        to_bands((mask * stft).abs().square(), sample_rate),
    )


def panels_of(power: Tensor, mask: Tensor, masked: Tensor) -> dict[str, Tensor]:
    """Values of each of `PANELS`, from power, mask and masked power [256, T]."""
    return {
        "Input": decibel(power, power.max()),
        "Mask": mask,
        "Explanation": decibel(masked, power.max()),
    }


def bands_of(part: str, stft: Tensor, mask: Tensor, sample_rate: int) -> Tensor:
    """Values in bands [256, T] of a part of an explanation, for `draw_bands`.

    The mask is in [0, 1]; the input, the explanation and the residual are in dB below
    the loudest point of the input.
    """
    if part == "residual":
        mask, part = 1 - mask, "explanation"
    shown = panels(stft, mask, sample_rate)
    if part.capitalize() not in shown:
        raise InputError(f"part is {part!r}: give input, mask, explanation or residual")
    return shown[part.capitalize()]


def _add_scale(
    figure: Figure, image: AxesImage, place: tuple[float, float, float, float]
) -> None:
    """Draw the colour scale of an image, which is quicker than `Figure.colorbar`."""
    low, high = image.get_clim()
    ax = figure.add_axes(place)
    column = np.linspace(low, high, 256)[:, None]
    ax.imshow(
        column, image.cmap, aspect="auto", origin="lower", extent=(0, 1, low, high)
    )
    ax.xaxis.set_visible(False)
    ax.yaxis.tick_right()
    ax.yaxis.set_label_position("right")
    ax.set_ylabel("fraction kept" if high == 1 else "dB re the input's peak")


def title_of(record: Mapping[str, Any]) -> str:
    """Title of an explanation's figure, from what explanation.json holds."""
    numbers = {
        "similarity: input": format_number(record["similarity"]),
        "explanation": format_number(record["masked_similarity"]),
        "residual": format_number(record["residual_similarity"]),
        "mean mask": format_number(record["mask_mean"]),
        "mel area": format_number(record["mel_area"]),
    }
    if record["empty"]:
        numbers["explanation"] = EMPTY
    line = "   ".join(f"{name} {text}" for name, text in numbers.items())
    prompt = _shortened(record["prompt"], 70)
    words = verdict_words(record)
    if margin := margin_words(record):  # in place of the presence: a line is short
        words = f"{record['verdict']}, {margin}" if record["verdict"] else margin
    return f"“{prompt}”\n{_shortened(words, 90)}\n{line}"


def save_figure(figure: Figure, path: str | Path, dpi: int = DPI) -> Path:
    """Write a figure in the format of its suffix, whole or not at all."""
    with atomic_write(path) as part, own_style():
        figure.savefig(part, dpi=dpi)
    return Path(path)


def to_bands(values: Tensor, sample_rate: int, columns: int = COLUMNS) -> Tensor:
    """Average a spectrogram or mask [F, T] over mel bands and time.

    To 256 bands and at most `columns` time steps.
    """
    steps = min(columns, values.shape[1])
    shorter = torch.nn.functional.adaptive_avg_pool1d(values[None], steps)[0]
    return mel_bands(values.shape[0], sample_rate) @ shorter


@lru_cache(maxsize=4)
def mel_bands(n_freqs: int, sample_rate: int) -> Tensor:
    """Matrix [256, F] that averages STFT bins into bands of equal width in mel.

    Rows sum to 1; a band narrower than a bin takes the nearest bin.
    """
    hertz = torch.linspace(0, sample_rate / 2, n_freqs)
    edges = torch.linspace(0, float(hz_to_mel(hertz[-1])), ROWS + 1)
    mel = hz_to_mel(hertz)
    inside = (mel >= edges[:-1, None]) & (mel < edges[1:, None])
    centres = mel_to_hz((edges[:-1] + edges[1:]) / 2)
    nearest = (hertz - centres[:, None]).abs().argmin(1)
    inside[torch.arange(ROWS), nearest] |= ~inside.any(1)
    return inside.float() / inside.sum(1, keepdim=True)


def decibel(power: Tensor, loudest: Tensor | None = None) -> Tensor:
    """Power in dB re its maximum, or a given one, clipped to the colour scale."""
    loudest = power.max() if loudest is None else loudest
    ratio = power / loudest.clamp_min(1e-10)
    return power_to_db(ratio, 10 ** (-RANGE_DB / 10)).clamp_max(0)


def draw_bands(
    ax: Axes, values: Tensor, seconds: float, sample_rate: int, is_mask: bool
) -> AxesImage:
    """Draw a mask, or dB in [-70, 0], in bands [256, T] of `to_bands` over time.

    The axes are in seconds and Hz, the latter spaced in mel: what is drawn over it is
    given in these units. Colours survive print and colour blindness; the image is for a
    colour bar.
    """
    low, high = (0.0, 1.0) if is_mask else (-RANGE_DB, 0.0)
    nyquist = sample_rate / 2
    ax.set_yscale("function", functions=(_mel_of, _hertz_of))
    image = ax.imshow(
        values.numpy(),
        cmap="viridis" if is_mask else "magma",
        vmin=low,
        vmax=high,
        origin="lower",
        aspect="auto",
        interpolation="nearest",  # quick: the bands are about as fine as the pixels
        extent=(0.0, seconds, 0.0, float(_mel_of(nyquist))),
        # the bands are equally wide in mel, as the axis is after its scale
        transform=ax.transLimits + ax.transAxes,
    )
    ax.set(xlim=(0.0, seconds), ylim=(0.0, nyquist))
    shown = [hertz for hertz in TICKS_HZ if hertz <= nyquist]
    ax.set_yticks(shown, [f"{h // 1000}k" if h >= 1000 else str(h) for h in shown])
    ax.set_yticks([], minor=True)
    ax.set_ylabel("Frequency (Hz)")
    return image


def _mel_of(hertz: Any) -> Any:
    return hz_to_mel(torch.as_tensor(hertz)).numpy()


def _hertz_of(mel: Any) -> Any:
    return mel_to_hz(torch.as_tensor(mel)).numpy()


def format_number(value: float | None) -> str:
    """Write a number with three decimals and a true minus; a dash for None."""
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def _shortened(text: str, length: int) -> str:
    """Text on one line, with an ellipsis if it is too long."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
