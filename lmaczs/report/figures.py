"""Figure of an explanation: input, mask and masked-in spectrogram."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from lmaczs.audio.scales import hz_to_mel, mel_to_hz, power_to_db
from lmaczs.report.words import verdict_words
from lmaczs.utils.files import atomic_write

ROWS = 256
"""Frequency bands of a picture, equally wide in mel."""

COLUMNS = 1000
"""Most time steps of a picture; those of a longer recording are averaged."""

RANGE_DB = 70.0
"""Span of the colour scale below the input's loudest point."""

TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000, 16000)

EMPTY = "nothing (empty mask)"


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
        Taken literally.

    Returns
    -------
    Figure
        Not registered with pyplot: it need not be closed.
    """
    power = to_bands(stft.abs().square(), sample_rate)
    masked = to_bands((mask * stft).abs().square(), sample_rate)
    panels = {
        "Input": decibel(power, power.max()),
        "Mask": to_bands(mask, sample_rate),
        "Explanation": decibel(masked, power.max()),
    }
    figure = Figure(figsize=(7.5, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True)
    for ax, (name, values) in zip(axes, panels.items(), strict=True):
        image = draw_bands(ax, values, seconds, sample_rate, is_mask=name == "Mask")
        ax.set_title(name, loc="left")
        label = "fraction kept" if name == "Mask" else "dB re the input's peak"
        figure.colorbar(image, ax=ax, label=label, pad=0.01)
    axes[-1].set_xlabel("Time (s)")
    # a prompt is no formula: "$" is a dollar sign
    figure.suptitle(title, fontsize="medium", parse_math=False)
    return figure


def title_of(record: Mapping[str, Any]) -> str:
    """Title of an explanation's figure, from what explanation.json holds."""
    numbers = {
        "similarity: input": format_number(record["similarity"]),
        "explanation": format_number(record["masked_similarity"]),
        "residual": format_number(record["residual_similarity"]),
        "mean mask": format_number(record["mask_mean"]),
    }
    if record["empty"]:
        numbers["explanation"] = EMPTY
    line = "   ".join(f"{name} {text}" for name, text in numbers.items())
    prompt = _shortened(record["prompt"], 70)
    return f"“{prompt}”\n{verdict_words(record)}\n{line}"


def save_figure(figure: Figure, path: str | Path, dpi: int = 110) -> Path:
    """Write a figure in the format of its suffix, whole or not at all."""
    with atomic_write(path) as part, warnings.catch_warnings():
        # a prompt in a script that matplotlib's font lacks is drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(part, dpi=dpi)
    return Path(path)


def to_bands(values: Tensor, sample_rate: int) -> Tensor:
    """Average a spectrogram or mask [F, T] over mel bands and time: [256, <= 1000]."""
    steps = min(COLUMNS, values.shape[1])
    columns = torch.nn.functional.adaptive_avg_pool1d(values[None], steps)[0]
    return mel_bands(values.shape[0], sample_rate) @ columns


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

    Colours survive print and colour blindness; the image is for a colour bar.
    """
    low, high = (0.0, 1.0) if is_mask else (-RANGE_DB, 0.0)
    _label_frequencies(ax, sample_rate)
    return ax.imshow(
        values.numpy(),
        cmap="viridis" if is_mask else "magma",
        vmin=low,
        vmax=high,
        origin="lower",
        aspect="auto",
        extent=(0.0, seconds, 0.0, ROWS),
    )


def _label_frequencies(ax: Axes, sample_rate: int) -> None:
    """Label the mel axis in Hz."""
    nyquist = torch.tensor(sample_rate / 2)
    shown = [hertz for hertz in TICKS_HZ if hertz <= nyquist]
    mel = hz_to_mel(torch.tensor(shown, dtype=torch.float))
    places = mel / hz_to_mel(nyquist) * ROWS
    labels = [f"{h // 1000}k" if h >= 1000 else str(h) for h in shown]
    ax.set_yticks(places.tolist(), labels)
    ax.set_ylabel("Frequency (Hz)")


def format_number(value: float | None) -> str:
    """Write a number with three decimals and a true minus; a dash for None."""
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def _shortened(text: str, length: int) -> str:
    """Text on one line, with an ellipsis if it is too long."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
