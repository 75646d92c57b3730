"""robustness_page.py: three tables and their legend."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from lmaczs.evaluation.explainers import KEEP_ALL, MAIN
from lmaczs.evaluation.robustness import TRANSFORMS
from lmaczs.evaluation.robustness_page import (
    randomised_markdown,
    robustness_page,
    tagger_markdown,
    transforms_table,
)


@pytest.fixture
def scores() -> pd.DataFrame:
    """Two clips; AD is 1, 2, 3 and 4 under the four transforms."""
    rows = [
        {"id": clip, "method": method, "transform": name, "AI": 50.0, "AD": 1.0 + n}
        | {"FF": 0.25, "Fid-In": 1.0, "MM": 0.5}
        for method in (MAIN, KEEP_ALL)
        for n, name in enumerate(TRANSFORMS)
        for clip in "ab"
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def tagged() -> pd.DataFrame:
    """Three clips, one of which the tagger does not recognise as it is."""
    ranks = [(1, 2, 40), (10, 11, 3), (11, 1, 1)]
    rows = [
        {"id": str(n), "method": MAIN, "rank_input": own, "rank_kept": kept}
        | {
            "rank_left": left,
            "score_input": 0.5,
            "score_kept": 0.25,
            "score_left": 0.03,
        }
        for n, (own, kept, left) in enumerate(ranks)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def randomised() -> pd.DataFrame:
    """One method, one clip."""
    first = {"id": "a", "method": MAIN, "empty": 0.125}
    top, every = {"overlap": 0.75, "ssim": 0.5}, {"overlap": 0.25, "ssim": 0.375}
    return pd.DataFrame(
        [{**first, "stage": "top", **top}, {**first, "stage": "all"} | every]
    )


def test_cells_have_the_transforms_in_order(scores: pd.DataFrame) -> None:
    """With the digits that the metrics have elsewhere."""
    row = transforms_table(scores).splitlines()[2]
    assert row.startswith(f"| {MAIN} | 2 | 0.50 | 50.0 · 50.0 · 50.0 · 50.0 |")
    assert "| 1.0 · 2.0 · 3.0 · 4.0 | 0.250 · " in row


def test_shares_are_of_recognised_clips(tagged: pd.DataFrame) -> None:
    """Kept, left, and kept but not left, where the input is recognised."""
    assert tagger_markdown(tagged).splitlines()[2] == (
        f"| {MAIN} | 2 of 3 | 50 | 50 | 50 | 0.50 | 0.25 | 0.03 |"
    )
    faint = tagger_markdown(tagged.assign(score_left=1 / 256)).splitlines()[2]
    assert "| 50 | 0 | 50 |" in faint
    none = tagger_markdown(tagged.assign(rank_input=99)).splitlines()[2]
    assert none == f"| {MAIN} | 0 of 3 |  |  |  |  |  |  |"


def test_random_models(randomised: pd.DataFrame) -> None:
    """Overlap and SSIM of both ends, and the SSIM with an empty mask."""
    row = randomised_markdown(randomised).splitlines()[2]
    assert row == f"| {MAIN} | 1 | 0.75 | 0.25 | 0.50 | 0.38 (0.12) |"


def test_page(
    scores: pd.DataFrame, tagged: pd.DataFrame, randomised: pd.DataFrame
) -> None:
    """One heading with the set, three sections, tables as wide as their headers."""
    page = robustness_page(scores, tagged, randomised, "ESC-50")
    assert page.startswith("# Is it an explanation or an attack? ESC-50\n\n2 clips")
    assert page.count("\n### ") == 3
    for table in re.findall(r"(?:^\|.*\n)+", page, re.M):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "nan" not in page


def test_page_without_a_tagger(scores: pd.DataFrame, randomised: pd.DataFrame) -> None:
    """It says so; likewise where no prompt has a class."""
    assert "no tagger was given" in robustness_page(scores, None, randomised, "x")
    none = robustness_page(scores, pd.DataFrame(), randomised, "x")
    assert "AudioSet has no class for the label of any prompt" in none
