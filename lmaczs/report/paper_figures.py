"""The figures of the LMAC-ZS paper, from tables and masks.

Colours survive print and colour blindness (viridis, magma, and Okabe and Ito's set).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from lmaczs.report.figures import decibel, draw_bands, own_style, to_bands

LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKS = ("o", "s", "^", "D")


@own_style()
def similarity_figure(
    pairs: Mapping[str, pd.DataFrame], masked: bool = False
) -> Figure:
    """Mean mask against similarity, a 2-D histogram per method (figure 3, left).

    `pairs` holds for each method a table of mask_mean and similarity, or, if `masked`,
    masked_similarity, that after masking (figure 10); one row per pair of clip and
    prompt.
    """
    column = "masked_similarity" if masked else "similarity"
    figure, axes = _panels(1, len(pairs), 4.0, 3.4)
    low = min(table[column].min() for table in pairs.values())
    high = max(table[column].max() for table in pairs.values())
    edges = [np.linspace(low, high, 41), np.linspace(0, 1, 41)]
    for ax, (name, table) in zip(axes[0], pairs.items(), strict=True):
        counts = ax.hist2d(
            table[column], table.mask_mean, bins=edges, norm=LogNorm(), cmin=1
        )
        figure.colorbar(counts[3], ax=ax, label="pairs", pad=0.01)
        ax.set_title(f"{name}: r = {table[column].corr(table.mask_mean):.2f}")
        whose = "masked clip" if masked else "clip"
        ax.set_xlabel(f"Similarity of {whose} and prompt")
        ax.set_ylabel("Mean of the mask")
    return figure


@own_style()
def prompts_figure(
    power: Tensor,
    masks: Mapping[str, Tensor],
    clips: Sequence[str],
    prompts: Sequence[str],
    sample_rate: int,
    hop_length: int,
) -> Figure:
    """Masks of clips for present and absent prompts (figure 4).

    Parameters
    ----------
    power : Tensor [N, F, T]
        Power spectrograms of N clips.
    masks : mapping of str to Tensor [N, P, F, T]
        By method.
    clips : sequence of str
        Labels of the clips.
    prompts : sequence of str
        P prompts; a title is bold where the prompt is the clip's label.
    sample_rate : int
        Hz.
    hop_length : int
        Samples per column.

    Returns
    -------
    Figure
        The spectrograms, then one row per method and prompt.
    """
    rows = 1 + len(masks) * len(prompts)
    figure, axes = _panels(rows, len(clips), 2.6, 1.5)
    seconds = power.shape[-1] * hop_length / sample_rate
    for column, clip in enumerate(clips):
        bands = decibel(to_bands(power[column].cpu(), sample_rate))
        draw_bands(axes[0][column], bands, seconds, sample_rate, is_mask=False)
        axes[0][column].set_title(clip, fontweight="bold")
        for row, (name, number) in enumerate(
            ((m, p) for m in masks for p in range(len(prompts))), start=1
        ):
            mask, ax = masks[name][column, number].cpu(), axes[row][column]
            bands = to_bands(mask, sample_rate)
            draw_bands(ax, bands, seconds, sample_rate, is_mask=True)
            there = "bold" if prompts[number] == clip else "normal"
            title = f"{name}: {prompts[number]} ({mask.mean():.2f})"
            ax.set_title(title, fontsize="small", fontweight=there)
    return _finished(figure, axes)


@own_style()
def cascade_figure(
    masks: Mapping[tuple[str, str], Tensor],
    ssim: pd.DataFrame,
    sample_rate: int,
    hop_length: int,
) -> Figure:
    """One clip's masks while stages are randomised from the top (figure 5).

    Parameters
    ----------
    masks : mapping of (str, str) to Tensor [F, T]
        By method (rows) and stage (columns), ``trained`` first.
    ssim : DataFrame
        method, stage, ssim; one row per clip. Means are in the titles.
    sample_rate : int
        See `prompts_figure`.
    hop_length : int
        See `prompts_figure`.

    Returns
    -------
    Figure
    """
    methods = list(dict.fromkeys(method for method, _ in masks))
    stages = list(dict.fromkeys(stage for _, stage in masks))
    means = ssim.groupby(["method", "stage"]).ssim.mean()
    figure, axes = _panels(len(methods), len(stages), 2.6, 2.0)
    for row, method in enumerate(methods):
        for column, stage in enumerate(stages):
            mask, ax = masks[method, stage].cpu(), axes[row][column]
            seconds = mask.shape[1] * hop_length / sample_rate
            bands = to_bands(mask, sample_rate)
            draw_bands(ax, bands, seconds, sample_rate, is_mask=True)
            value = means.get((method, stage), 1.0)
            ax.set_title(f"{method}: {stage}\nmean SSIM {value:.2f}", fontsize="small")
    return _finished(figure, axes)


@own_style()
def ssim_figure(ssim: pd.DataFrame, caption: str = "") -> Figure:
    """SSIM of masks before and after randomisation, by stage (figure 3, right).

    Mean and standard deviation over clips, from rows of method, stage, ssim and empty;
    dotted: SSIM with an empty mask. The caption is `caption`.
    """
    figure, axes = _panels(1, 1, 5.0, 3.4)
    ax = axes[0][0]
    stages = list(dict.fromkeys(ssim.stage))
    for number, (method, rows) in enumerate(ssim.groupby("method", sort=False)):
        groups = rows.groupby("stage").ssim
        mean = [1.0, *groups.mean().reindex(stages)]
        spread = [0.0, *groups.std().fillna(0).reindex(stages)]
        style = {"color": LINES[number], "marker": MARKS[number], "capsize": 3}
        ax.errorbar(["trained", *stages], mean, spread, label=method, **style)
        ax.axhline(rows["empty"].mean(), color=LINES[number], linestyle=":")
    ax.set_xlabel("Randomised down to")
    ax.set_ylabel("SSIM with the trained model's mask")
    ax.tick_params(axis="x", rotation=20)
    ax.legend()
    if caption:
        figure.supxlabel(textwrap.fill(caption, 80), fontsize="x-small")
    return figure


@own_style()
def curves_figure(curves: pd.DataFrame) -> Figure:
    """Insertion and deletion curves, mean over clips.

    From rows of method, share, insertion and deletion, one per clip, method and share.
    """
    figure, axes = _panels(1, 2, 4.2, 3.4)
    means = curves.groupby(["method", "share"], sort=False).mean(numeric_only=True)
    for ax, kind in zip(axes[0], ("insertion", "deletion"), strict=True):
        for number, method in enumerate(means.index.unique("method")):
            line = means.loc[method][kind].sort_index()
            style = {"marker": MARKS[number % 4], "color": LINES[number % 4]}
            dashes = "-" if number < len(LINES) else "--"
            ax.plot(line.index, line, dashes, label=method, markersize=3, **style)
        ax.set_title(kind.capitalize(), loc="left")
        ax.set_xlabel("Fraction of the cells")
        ax.set_ylabel("Probability of the predicted class")
        ax.set_ylim(0, 1)
    axes[0][0].legend(fontsize="x-small", handlelength=3)
    return figure


def _panels(rows: int, columns: int, width: float, height: float) -> tuple:
    size = (columns * width, rows * height)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _finished(figure: Figure, axes: np.ndarray) -> Figure:
    """Label only the outer axes."""
    for ax in axes.flat:
        ax.tick_params(labelsize="x-small")
    for ax in axes[:-1].flat:
        ax.tick_params(labelbottom=False)
    for ax in axes[:, 1:].flat:
        ax.tick_params(labelleft=False)
        ax.set_ylabel("")
    for ax in axes[-1]:
        ax.set_xlabel("Time (s)")
    return figure
