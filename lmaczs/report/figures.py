"""One picture of an explanation: input, mask and what is left of the input."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from lmaczs.utils.files import atomic_write

if TYPE_CHECKING:
    from lmaczs.explanation import Interpretation

ROWS = 256
"""Frequency bands of a picture, equally wide in mel."""

COLUMNS = 1000
"""Most time steps of a picture; those of a longer recording are averaged."""

RANGE_DB = 70.0
"""Span of the colour scale below the input's loudest point."""

TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000, 16000)


def explanation_figure(interpretation: Interpretation, hop_length: int) -> Figure:
    """Draw the input, the mask and the explanation above one another.

    Input and explanation share a colour scale, in dB below the input's loudest point;
    frequency is equally spaced in mel, as the model hears it.

    Parameters
    ----------
    interpretation : Interpretation
        What to draw.
    hop_length : int
        Samples from one column of its mask to the next.

    Returns
    -------
    Figure
        Not known to pyplot: nothing needs to be closed.
    """
    mask, masked = interpretation.mask, interpretation.masked_stft
    n_fft = 2 * (mask.shape[0] - 1)
    power = _power(interpretation.waveform + interpretation.residual, n_fft, hop_length)
    loudest = float(power.max().clamp_min(1e-10))
    bands = mel_bands(mask.shape[0], interpretation.sample_rate)
    panels = [
        ("Input", _decibel(bands @ _columns(power), loudest)),
        ("Mask", bands @ _columns(mask)),
        ("Explanation", _decibel(bands @ _columns(masked.abs().square()), loudest)),
    ]
    figure = Figure(figsize=(7.5, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 1, sharex=True)
    seconds = len(interpretation.waveform) / interpretation.sample_rate
    for ax, (title, values) in zip(axes, panels, strict=True):
        image = _draw(ax, values, seconds, is_mask=title == "Mask")
        label_frequencies(ax, interpretation.sample_rate)
        ax.set_title(title, loc="left")
        label = "share kept" if title == "Mask" else "dB re the input's peak"
        figure.colorbar(image, ax=ax, label=label, pad=0.01)
    axes[-1].set_xlabel("Time (s)")
    _write_titles(figure, interpretation)
    return figure


def save_figure(figure: Figure, path: str | Path, dpi: int = 110) -> Path:
    """Write a figure in the format of its suffix, whole or not at all.

    Parameters
    ----------
    figure : Figure
        What to write.
    path : str | Path
        Where to; missing parent folders are made.
    dpi : int
        Pixels an inch.

    Returns
    -------
    Path
        ``path``.
    """
    with atomic_write(path) as part, warnings.catch_warnings():
        # a prompt in a script that matplotlib's font lacks is drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(part, dpi=dpi)
    return Path(path)


def mel_bands(n_freqs: int, sample_rate: int) -> Tensor:
    """Compute the matrix that averages STFT bins into bands of equal width in mel.

    Parameters
    ----------
    n_freqs : int
        Bins of the STFT, F, from 0 Hz to half the rate.
    sample_rate : int
        Rate in Hz.

    Returns
    -------
    Tensor
        float32 [256, F], each row sums to 1. A band that is narrower than a bin shows
        the nearest bin.
    """
    hertz = torch.linspace(0, sample_rate / 2, n_freqs)
    edges = torch.linspace(0, float(_mel(hertz[-1])), ROWS + 1)
    mel = _mel(hertz)
    inside = (mel >= edges[:-1, None]) & (mel < edges[1:, None])
    centres = 700 * torch.expm1((edges[:-1] + edges[1:]) / 2 / 1127)
    nearest = (hertz - centres[:, None]).abs().argmin(1)
    inside[torch.arange(ROWS), nearest] |= ~inside.any(1)
    return inside.float() / inside.sum(1, keepdim=True)


def _mel(hertz: Tensor) -> Tensor:
    """Map Hz to the HTK mel scale."""
    return 1127 * torch.log1p(hertz / 700)


def _power(wav: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Return the power spectrogram of a waveform, [F, T], ends padded with zeros."""
    window = torch.hann_window(n_fft)
    spectrum = torch.stft(
        wav,
        n_fft,
        hop_length,
        window=window,
        pad_mode="constant",
        return_complex=True,
    )
    return spectrum.abs().square()


def _columns(values: Tensor) -> Tensor:
    """Average the time steps of a long recording, [F, T] to [F, at most 1000]."""
    steps = min(COLUMNS, values.shape[1])
    return torch.nn.functional.adaptive_avg_pool1d(values[None], steps)[0]


def _decibel(power: Tensor, loudest: float) -> Tensor:
    """Return a power in dB relative to the loudest point, within the colour scale."""
    return (10 * torch.log10(power.clamp_min(1e-20) / loudest)).clamp(-RANGE_DB, 0)


def _draw(ax: Axes, values: Tensor, seconds: float, is_mask: bool) -> AxesImage:
    """Draw bands over time with a scale that survives print and colour blindness."""
    low, high = (0.0, 1.0) if is_mask else (-RANGE_DB, 0.0)
    return ax.imshow(
        values.numpy(),
        cmap="viridis" if is_mask else "magma",
        vmin=low,
        vmax=high,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(0.0, seconds, 0.0, ROWS),
    )


def label_frequencies(ax: Axes, sample_rate: int) -> None:
    """Put round numbers of Hz on the mel axis.

    Parameters
    ----------
    ax : Axes
        Whose vertical axis has `ROWS` bands.
    sample_rate : int
        Hz.
    """
    nyquist = torch.tensor(sample_rate / 2)
    shown = [hertz for hertz in TICKS_HZ if hertz <= nyquist]
    places = _mel(torch.tensor(shown, dtype=torch.float)) / _mel(nyquist) * ROWS
    labels = [f"{h // 1000}k" if h >= 1000 else str(h) for h in shown]
    ax.set_yticks(places.tolist(), labels)
    ax.set_ylabel("Frequency (Hz)")


def _write_titles(figure: Figure, interpretation: Interpretation) -> None:
    """Write the prompt and the numbers over the panels."""
    numbers = {
        "similarity: input": interpretation.similarity,
        "explanation": interpretation.masked_similarity,
        "residual": interpretation.residual_similarity,
        "mean mask": float(interpretation.mask.mean()),
    }
    shown = {name: format_number(value) for name, value in numbers.items()}
    if interpretation.empty:
        shown["explanation"] = "nothing (empty mask)"
    line = "   ".join(f"{name} {text}" for name, text in shown.items())
    prompt = _shortened(interpretation.prompt, 70)
    # a prompt is no formula: "$" is a dollar sign
    figure.suptitle(f"“{prompt}”\n{line}", fontsize="medium", parse_math=False)


def format_number(value: float | None) -> str:
    """Write a number of a report.

    Parameters
    ----------
    value : float | None
        Any number.

    Returns
    -------
    str
        Three decimals, or a dash for what there is not.
    """
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def _shortened(text: str, length: int) -> str:
    """Return a text on one line, with an ellipsis if it is too long."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
