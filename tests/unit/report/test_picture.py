"""picture.py: the picture of `explanation_figure`, put together from kept parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lmaczs.report.figures import explanation_figure, save_figure
from lmaczs.report.picture import save_png

RATE, BINS = 16000, 513


def pixels(path: Path) -> np.ndarray:
    """Pixels [height, width, 3] of a file."""
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.mark.parametrize(("frames", "seconds"), [(3, 0.05), (80, 1.0), (2500, 61.5)])
def test_the_picture_is_that_of_the_figure(
    tmp_path: Path, frames: int, seconds: float
) -> None:
    """Pixel by pixel, but where a cell ends; nothing else is in the folder."""
    generator = torch.Generator().manual_seed(0)
    # cells that are larger than a pixel
    blocks = torch.rand(1, 2, 9, 3, generator=generator)
    grown = torch.nn.functional.interpolate(blocks, (BINS, frames))[0]
    drawn = grown[0] + 0j, grown[1], RATE, seconds, "“$dog$”\nkept\na line"
    path = save_png(tmp_path / "quick.png", *drawn)
    assert list(tmp_path.iterdir()) == [path]
    save_figure(explanation_figure(*drawn), tmp_path / "slow.png")
    quick, slow = pixels(path), pixels(tmp_path / "slow.png")
    assert quick.shape == slow.shape
    different = np.abs(quick - slow).max(2) > 8
    assert different.mean() < 0.02
    # text and ticks are the same
    assert not different[: int(0.1 * len(different))].any()
    assert not different[-int(0.06 * len(different)) :].any()


def test_pictures_share_no_pixels(tmp_path: Path) -> None:
    """What one picture holds is not in the next."""
    loud, silent = torch.ones(BINS, 9) + 0j, torch.zeros(BINS, 9) + 0j
    mask = torch.ones(BINS, 9)
    first = save_png(tmp_path / "1.png", silent, 0 * mask, RATE, 1.0, "a")
    save_png(tmp_path / "2.png", loud, mask, RATE, 7.0, "b")
    again = save_png(tmp_path / "3.png", silent, 0 * mask, RATE, 1.0, "a")
    assert (pixels(first) == pixels(again)).all()
