"""paper_figures.py: the numbers that the pictures state are those that they got."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from lmaczs.report.paper_figures import (
    cascade_figure,
    curves_figure,
    prompts_figure,
    similarity_figure,
    ssim_figure,
)

RATE, HOP, BINS, FRAMES = 16000, 160, 257, 101


def titles(figure: Figure) -> list[str]:
    """Titles of all panels."""
    return [ax.get_title() or ax.get_title(loc="left") for ax in figure.axes]


def test_similarity_figure_states_the_correlation() -> None:
    """A panel a method; every pair is counted once."""
    rng = np.random.default_rng(0)
    similarity = rng.uniform(-0.2, 0.8, 300)
    follows = pd.DataFrame(
        {"similarity": similarity, "mask_mean": similarity / 2 + 0.2}
    )
    chance = follows.assign(mask_mean=rng.uniform(0, 1, 300))
    figure = similarity_figure({"LMAC-ZS+": follows, "Grad-CAM++": chance})
    r = np.corrcoef(similarity, chance.mask_mean)[0, 1]
    assert titles(figure)[:2] == ["LMAC-ZS+: r = 1.00", f"Grad-CAM++: r = {r:.2f}"]
    for ax in figure.axes[:2]:
        counts = ax.collections[0].get_array()
        assert np.ma.filled(counts, 0).sum() == 300


def test_figure_of_masked_similarities() -> None:
    """It is of the similarity after masking, for one decoder or two."""
    rng = np.random.default_rng(0)
    mask = rng.uniform(0, 1, 200)
    table = pd.DataFrame(
        {
            "mask_mean": mask,
            "similarity": rng.uniform(0, 1, 200),
            "masked_similarity": -mask,
        }
    )
    for pairs in ({"ours": table}, {"ours": table, "without diversity": table}):
        figure = similarity_figure(pairs, masked=True)
        assert titles(figure)[: len(pairs)] == [f"{name}: r = -1.00" for name in pairs]
        label = figure.axes[0].get_xlabel()
        assert label == "Similarity of masked clip and prompt"


def test_prompts_figure_marks_what_is_there() -> None:
    """A column a clip, a row a method and prompt, in bold where it is the clip's."""
    masks = torch.zeros(2, 2, BINS, FRAMES)
    masks[0, 0] = 0.25
    figure = prompts_figure(
        torch.rand(2, BINS, FRAMES),
        {"A": masks, "B": 1 - masks},
        ["dog", "rain"],
        ["dog", "rain"],
        RATE,
        HOP,
    )
    assert len(figure.axes) == 2 * 5
    bold = [a.get_title() for a in figure.axes if a.title.get_fontweight() == "bold"]
    assert bold == [
        "dog",
        "rain",
        "A: dog (0.25)",
        "A: rain (0.00)",
        "B: dog (0.75)",
        "B: rain (1.00)",
    ]


def test_prompts_figure_shows_the_mask_in_seconds_and_hertz() -> None:
    """What is kept in the last half of the time is bright there."""
    masks = torch.zeros(1, 1, BINS, FRAMES)
    masks[..., FRAMES // 2 :] = 1
    power = torch.rand(1, BINS, FRAMES)
    figure = prompts_figure(power, {"A": masks}, ["dog"], ["dog"], RATE, HOP)
    ax = figure.axes[1]
    shown = np.asarray(ax.images[0].get_array())
    assert shown[:, -1] == pytest.approx(1, abs=1e-3)
    assert shown[:, 0] == pytest.approx(0, abs=1e-6)
    assert ax.get_xlim() == (0, pytest.approx(FRAMES * HOP / RATE))
    assert "1k" in [label.get_text() for label in ax.get_yticklabels()]


@pytest.fixture
def ssim() -> pd.DataFrame:
    """Two clips, two methods, two stages."""
    rows = [
        (clip, method, stage, value + clip / 10, 0.2 + clip / 10)
        for clip in (0, 1)
        for method, stage, value in (
            ("A", "stage 2", 0.4),
            ("A", "stage 1", 0.1),
            ("B", "stage 2", 0.9),
            ("B", "stage 1", 0.8),
        )
    ]
    return pd.DataFrame(rows, columns=["clip", "method", "stage", "ssim", "empty"])


def test_cascade_figure_states_the_mean_ssim(ssim: pd.DataFrame) -> None:
    """A row a method, the trained model first."""
    stages = ("trained", "stage 2", "stage 1")
    masks = {(m, s): torch.rand(BINS, FRAMES) for m in "AB" for s in stages}
    assert titles(cascade_figure(masks, ssim, RATE, HOP)) == [
        "A: trained\nmean SSIM 1.00",
        "A: stage 2\nmean SSIM 0.45",
        "A: stage 1\nmean SSIM 0.15",
        "B: trained\nmean SSIM 1.00",
        "B: stage 2\nmean SSIM 0.95",
        "B: stage 1\nmean SSIM 0.85",
    ]


def test_ssim_figure_draws_the_means(ssim: pd.DataFrame) -> None:
    """A line a method, from 1 for the trained model down; what emptiness would give."""
    ax = ssim_figure(ssim).axes[0]
    level = [line.get_ydata() for line in ax.lines if line.get_linestyle() == ":"]
    assert len(level) == 2
    for ends in level:
        assert list(ends) == pytest.approx([0.25, 0.25])
    assert [list(line.get_ydata()) for line in ax.lines if len(line.get_xdata()) == 3][
        0
    ] == pytest.approx([1.0, 0.45, 0.15])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["A", "B"]


def test_ssim_figure_has_its_caption(ssim: pd.DataFrame) -> None:
    """All of its words, below the picture; none without one."""
    caption = "A claim of many words, which do not fit into a single line. " * 3
    shown = ssim_figure(ssim, caption).get_supxlabel()
    assert shown.split() == caption.split()
    assert "\n" in shown
    assert ssim_figure(ssim).get_supxlabel() == ""


def test_curves_figure_draws_the_means() -> None:
    """Insertion beside deletion, means over clips in the order of the shares."""
    rows = [
        ("A", clip, share, share + clip / 10, 1 - share)
        for clip in (0, 1)
        for share in (1.0, 0.0, 0.5)
    ]
    columns = ["method", "id", "share", "insertion", "deletion"]
    axes = curves_figure(pd.DataFrame(rows, columns=columns)).axes
    assert list(axes[0].lines[0].get_xdata()) == [0.0, 0.5, 1.0]
    assert axes[0].lines[0].get_ydata() == pytest.approx([0.05, 0.55, 1.05])
    assert axes[1].lines[0].get_ydata() == pytest.approx([1.0, 0.5, 0.0])
