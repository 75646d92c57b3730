"""The picture of an explanation, put together from a frame that is kept.

It is that of `lmaczs.report.figures.explanation_figure` in a fraction of the time:
panels, scales and their labels, which matplotlib is slow to draw, are the same for all
recordings of a rate.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from lmaczs.report.figures import (
    DPI,
    PANELS,
    RANGE_DB,
    SIZE,
    framed_figure,
    own_style,
    panels,
    write_title,
)
from lmaczs.utils.files import atomic_write

Pixels = npt.NDArray[np.uint8]

HEADING_INCHES, FOOTING_INCHES = 66 / DPI, 60 / DPI
"""Heights of the strips that hold the title and the time axis; whole pixels."""


def save_png(
    path: str | Path,
    stft: Tensor,
    mask: Tensor,
    sample_rate: int,
    seconds: float,
    title: str = "",
) -> Path:
    """Write the picture of `explanation_figure`, whose arguments these are, as PNG.

    Parameters
    ----------
    path : str or Path
        The file appears whole or not at all.
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
    Path
        `path`.
    """
    shown = panels(stft, mask, sample_rate)
    return save_panels(path, shown, sample_rate, seconds, title)


def save_panels(
    path: str | Path,
    shown: Mapping[str, Tensor],
    sample_rate: int,
    seconds: float,
    title: str = "",
) -> Path:
    """As `save_png`, from the values [256, T] of each panel, see `panels`."""
    pixels = _drawn(shown, sample_rate, seconds, title)
    with atomic_write(path) as part:
        _write(pixels, part)
    return Path(path)


def png_bytes(stft: Tensor, mask: Tensor, sample_rate: int, seconds: float) -> bytes:
    """The PNG of `save_png` in memory, without a title and the room for it."""
    pixels = _drawn(panels(stft, mask, sample_rate), sample_rate, seconds, "")
    file = io.BytesIO()
    _write(pixels[round(HEADING_INCHES * DPI) :], file)
    return file.getvalue()


def _write(pixels: Pixels, file: Path | io.BytesIO) -> None:
    # compressing further takes as long as all the rest
    Image.fromarray(pixels).save(file, format="PNG", compress_level=1)


def _drawn(
    shown: Mapping[str, Tensor], sample_rate: int, seconds: float, title: str
) -> Pixels:
    """Pixels [height, width, 3] of a picture."""
    with own_style(title):
        pixels = _frame(sample_rate).copy()
        heading, footing = _heading(title), _time_axis(seconds)
    pixels[: len(heading)] = heading
    pixels[-len(footing) :] = footing
    for name, place in PANELS.items():
        _paste(pixels, shown[name].numpy(), place, is_mask=name == "Mask")
    return pixels


@lru_cache(maxsize=4)
def _frame(sample_rate: int) -> Pixels:
    """Pixels [height, width, 3] of a figure without pictures, title and time axis."""
    figure = framed_figure(sample_rate, 1.0)
    for ax in figure.axes[: len(PANELS)]:
        ax.xaxis.set_visible(False)
    return _pixels(figure)


def _heading(title: str) -> Pixels:
    figure = _strip(HEADING_INCHES)
    write_title(figure, title)
    return _pixels(figure)


def _time_axis(seconds: float) -> Pixels:
    """Pixels of the ticks of the lowest panel, and of the line that they stand on."""
    figure = _strip(FOOTING_INCHES)
    left, bottom, width, _ = list(PANELS.values())[-1]
    ax = figure.add_axes((left, bottom * SIZE[1] / FOOTING_INCHES, width, 1))
    ax.set_xlim(0, seconds)
    ax.set_xlabel("Time (s)")
    ax.yaxis.set_visible(False)
    return _pixels(figure)


def _strip(inches: float) -> Figure:
    figure = Figure(figsize=(SIZE[0], inches), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def _pixels(figure: Figure) -> Pixels:
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _paste(
    pixels: Pixels,
    values: npt.NDArray[np.floating[Any]],
    place: tuple[float, float, float, float],
    is_mask: bool,
) -> None:
    """Colour values [rows, columns], lowest row first, inside the line of a panel."""
    height, width = pixels.shape[:2]
    left, right = (round(x * width) for x in (place[0], place[0] + place[2]))
    bottom, top = (round((1 - y) * height) for y in (place[1], place[1] + place[3]))
    share = values if is_mask else 1 + values / RANGE_DB
    colours = colormaps["viridis" if is_mask else "magma"](share[::-1], bytes=True)
    image = Image.fromarray(np.ascontiguousarray(colours[..., :3]))
    size = (right - left, bottom - top)
    resized = np.asarray(image.resize(size, Image.Resampling.NEAREST))
    pixels[top + 1 : bottom, left + 1 : right] = resized[1:, 1:]
