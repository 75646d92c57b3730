"""figures.py: a picture that shows what is in the interpretation, and says so."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from lmaczs.explanation import Interpretation
from lmaczs.report.figures import (
    COLUMNS,
    RANGE_DB,
    ROWS,
    draw_bands,
    explanation_figure,
    format_number,
    mel_bands,
    save_figure,
    title_of,
)

RATE, N_FFT, HOP = 32000, 2048, 640


def interpretation(wav: Tensor, mask: Tensor, prompt: str = "dog") -> Interpretation:
    """Return what a mask makes of a waveform, with made-up similarities."""
    window = torch.hann_window(N_FFT)
    stft = torch.stft(wav, N_FFT, HOP, window=window, return_complex=True)
    kept, left = (
        torch.istft(part * stft, N_FFT, HOP, window=window, length=len(wav))
        for part in (mask, 1 - mask)
    )
    return Interpretation(prompt, stft, kept, left, mask, RATE, 0.432, 0.401, None, HOP)


def draw(one: Interpretation) -> Figure:
    """Draw an interpretation as `Interpretation.save` does."""
    title = title_of(one.to_dict())
    seconds = len(one.waveform) / one.sample_rate
    return explanation_figure(one.stft, one.mask, one.sample_rate, seconds, title)


def tones(seconds: float = 1.0) -> Tensor:
    """Return 1 and 4 kHz, equally loud."""
    time = torch.arange(int(RATE * seconds)) / RATE
    return sum(torch.sin(2 * torch.pi * hertz * time) for hertz in (1000, 4000)) / 4


def lowpass_mask(wav: Tensor, hertz: float) -> Tensor:
    """Return the mask that keeps what is below a frequency."""
    frequencies = torch.linspace(0, RATE / 2, N_FFT // 2 + 1)
    below = (frequencies < hertz).float()
    return below[:, None].repeat(1, len(wav) // HOP + 1)


def panels(figure: Figure) -> dict[str, np.ndarray]:
    """Return the values that the panels show, [rows, columns], by title."""
    return {
        ax.get_title(loc="left"): ax.images[0].get_array().data
        for ax in figure.axes
        if ax.get_title(loc="left")
    }


def row_of(hertz: float) -> int:
    """Return the row of a panel in which a frequency lies."""
    mel, top = (1127 * np.log1p(f / 700) for f in (hertz, RATE / 2))
    return int(mel / top * ROWS)


def test_the_panels_show_input_mask_and_explanation() -> None:
    """Both tones are in the input, only the lower one in the explanation."""
    wav = tones()
    one = interpretation(wav, lowpass_mask(wav, 2000))
    shown = panels(draw(one))
    assert list(shown) == ["Input", "Mask", "Explanation"]
    inner = slice(3, -3)
    low, high = row_of(1000), row_of(4000)
    assert shown["Input"][[low, high], inner].min() > -6
    assert shown["Explanation"][low, inner].min() > -6
    assert shown["Explanation"][high, inner].max() == -RANGE_DB
    assert shown["Mask"][low].min() == 1 and shown["Mask"][high].max() == 0


def test_input_and_explanation_share_their_scale() -> None:
    """A mask of one half everywhere is 6 dB in every visible cell, same colours."""
    wav = tones()
    half = torch.full((N_FFT // 2 + 1, len(wav) // HOP + 1), 0.5)
    figure = draw(interpretation(wav, half))
    shown = panels(figure)
    inner = (slice(None), slice(3, -3))
    loud = shown["Input"][inner] > -40
    difference = (shown["Input"] - shown["Explanation"])[inner][loud]
    np.testing.assert_allclose(difference, 20 * np.log10(2), atol=0.05)
    limits = {ax.images[0].get_clim() for ax in figure.axes if ax.images}
    assert limits == {(-RANGE_DB, 0.0), (0.0, 1.0)}


def test_axes_are_in_seconds_and_hertz() -> None:
    """A tick, and what a user draws, stand where the picture has that frequency."""
    wav = tones(2.5)
    figure = draw(interpretation(wav, lowpass_mask(wav, 2000)))
    ax = figure.axes[0]
    ticks = dict(
        zip((t.get_text() for t in ax.get_yticklabels()), ax.get_yticks(), strict=True)
    )
    assert ticks["1k"] == 1000 and ticks["16k"] == 16000
    assert ax.get_xlim() == (0, 2.5) and ax.get_ylim() == (0, RATE / 2)
    image, bottom = ax.images[0], ax.transAxes.transform((0, 0))[1]
    height = ax.transAxes.transform((0, 1))[1] - bottom
    for hertz in (500, 1000, 4000, 15000):
        place = (ax.transData.transform((1, hertz))[1] - bottom) / height
        assert int(place * image.get_array().shape[0]) == row_of(hertz)


def test_the_picture_moves_with_the_axes() -> None:
    """The bands of a zoomed axes are those between its limits."""
    bands = torch.zeros(ROWS, 10)
    bands[row_of(1000) :] = 1
    figure = Figure(figsize=(1, 1), dpi=100)
    ax = figure.add_axes((0, 0, 1, 1))
    draw_bands(ax, bands, 1.0, RATE, is_mask=True)
    ax.set_ylim(500, 1000)
    ax.axis("off")
    assert len(np.unique(pixels(figure)[10:-10], axis=0)) == 1
    ax.set_ylim(500, 2000)
    column = pixels(figure)[:, 50].astype(int)
    mel = [1127 * np.log1p(f / 700) for f in (500, 1000, 2000)]
    edge = np.abs(np.diff(column, axis=0)).sum(1).argmax()
    below = (mel[1] - mel[0]) / (mel[2] - mel[0])
    assert edge == pytest.approx(100 * (1 - below), abs=3)


def pixels(figure: Figure) -> np.ndarray:
    """Pixels [rows, columns, 3] of a figure as it is drawn."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def test_settings_of_the_user_change_nothing(tmp_path: Path) -> None:
    """Neither rc parameters, LaTeX nor a font reach a picture, and they stay."""
    wav = tones()
    one = interpretation(wav, lowpass_mask(wav, 2000))
    expected = save_figure(draw(one), tmp_path / "a.png").read_bytes()
    settings = {
        "text.usetex": True,
        "figure.dpi": 33,
        "figure.autolayout": True,
        "image.origin": "upper",
        "axes.facecolor": "red",
        "axes.grid": True,
        "font.family": "no such font",
        "font.size": 30,
        "savefig.bbox": "tight",
    }
    with matplotlib.rc_context(settings):
        shown = save_figure(draw(one), tmp_path / "b.png").read_bytes()
        assert matplotlib.rcParams["font.size"] == 30
    assert shown == expected


def test_titles_hold_prompt_and_numbers() -> None:
    """The title holds prompt and numbers; a formula is taken literally."""
    wav = tones()
    mask = lowpass_mask(wav, 4000)
    one = interpretation(wav, mask, prompt="a $5 \\bill & <b>_x^2$")
    one = replace(one, presence=0.996, verdict="partly kept")
    text = draw(one).get_suptitle()
    assert one.prompt in text
    assert "partly kept, ahead of 99.6 % of the reference prompts" in text
    assert "0.432" in text and "0.401" in text and "residual –" in text
    assert f"mean mask {float(mask.mean()):.3f}" in text


def test_titles_say_that_an_explanation_is_empty() -> None:
    """A mask of nothing has no similarity in the title."""
    wav = tones()
    one = interpretation(wav, 0 * lowpass_mask(wav, 4000))
    text = draw(one).get_suptitle()
    assert "explanation nothing (empty mask)" in text
    assert "0.432" in text and "0.401" not in text


def test_long_recordings_are_averaged() -> None:
    """However long, a panel has at most 1000 columns, whose mean is kept."""
    wav = tones(30.0)
    mask = torch.rand(N_FFT // 2 + 1, len(wav) // HOP + 1)
    shown = panels(draw(interpretation(wav, mask)))
    assert all(values.shape == (ROWS, COLUMNS) for values in shown.values())
    assert shown["Mask"].mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("samples", [1100, 32000])
def test_silence_and_short_clips_are_drawn(tmp_path: Path, samples: int) -> None:
    """No sound, a prompt in any script: no division by zero, no warning."""
    wav = torch.zeros(samples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = interpretation(wav, lowpass_mask(wav, 2000), prompt="犬")
        figure = draw(one)
        save_figure(figure, tmp_path / "a.png")
    assert all(np.isfinite(values).all() for values in panels(figure).values())


def test_figures_are_saved_whole(tmp_path: Path) -> None:
    """A PNG of the requested size, and nothing else in the folder."""
    wav = tones()
    figure = draw(interpretation(wav, lowpass_mask(wav, 1)))
    path = save_figure(figure, tmp_path / "new" / "a.png", dpi=50)
    data = path.read_bytes()
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and (width, height) == (375, 360)
    assert list(path.parent.iterdir()) == [path]


def test_pyplot_is_left_alone() -> None:
    """No figure is registered with pyplot, so none has to be closed."""
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    wav = tones()
    draw(interpretation(wav, lowpass_mask(wav, 1)))
    assert pyplot.get_fignums() == before


@pytest.mark.parametrize("n_freqs, rate", [(1025, 32000), (513, 48000), (33, 8000)])
def test_bands_are_averages(n_freqs: int, rate: int) -> None:
    """Each band is a mean of neighbouring bins, and frequency never turns back."""
    bands = mel_bands(n_freqs, rate)
    assert bands.shape == (ROWS, n_freqs)
    torch.testing.assert_close(bands.sum(1), torch.ones(ROWS))
    centres = bands @ torch.linspace(0, rate / 2, n_freqs)
    assert (centres.diff() >= 0).all()


def test_numbers_are_readable() -> None:
    """Three decimals, a true minus, a dash for nothing."""
    assert [format_number(v) for v in (0.12345, -0.5, None)] == ["0.123", "−0.500", "–"]


def test_title_names_the_contrast_in_one_short_line() -> None:
    """In place of the presence, and cut where its names are long."""
    record = {
        "prompt": "dog",
        "verdict": "kept",
        "presence": 0.99,
        "similarity": 0.5,
        "masked_similarity": 0.6,
        "residual_similarity": -0.1,
        "mask_mean": 0.2,
        "mel_area": 0.3,
        "empty": False,
        "contrast": ["rain"],
        "margin": 0.25,
        "masked_margin": 0.5,
        "residual_margin": -0.5,
    }
    line = title_of(record).splitlines()[1]
    assert line == "kept, above “rain” by 0.250 (explanation 0.500, residual -0.500)"
    lines = title_of({**record, "contrast": ["a very long prompt " * 9]}).splitlines()
    assert len(lines) == 3 and len(lines[1]) <= 90
