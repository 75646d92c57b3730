"""Scoring of explanations, on a random tiny CLAP."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.evaluation import HEADER, evaluate, summarise

LABELS = ["dog", "rain", "siren"]
TEMPLATE = "This is a sound of {}."


def _batches(clap: FrozenClap, clips: int, size: int) -> list[dict]:
    samples = clap.front_end.max_samples
    wavs = 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(0))
    rows = range(clips)
    return [
        {
            "id": [f"clip{i}" for i in rows[start : start + size]],
            "label": [LABELS[i % 3] for i in rows[start : start + size]],
            "wav": wavs[start : start + size],
            "samples": torch.full((len(wavs[start : start + size]),), samples),
        }
        for start in range(0, clips, size)
    ]


@pytest.fixture(scope="module")
def per_clip(tiny_clap: FrozenClap) -> pd.DataFrame:
    """Scores of four clips in batches of two."""
    torch.manual_seed(0)
    decoder = MaskDecoder(tiny_clap, width=8)
    return evaluate(tiny_clap, decoder, _batches(tiny_clap, 4, 2), LABELS, TEMPLATE, 7)


def test_every_method_scores_every_clip_once(per_clip: pd.DataFrame) -> None:
    """One row a clip and method."""
    assert not per_clip.duplicated(["id", "method"]).any()
    assert len(per_clip) == 4 * per_clip.method.nunique()


def test_keeping_everything_changes_nothing(per_clip: pd.DataFrame) -> None:
    """No drop, no increase, the same class, and nothing left for the residual."""
    kept = per_clip[per_clip.method == "keep-all"]
    assert (kept["Fid-In"] == 1).all()
    assert (kept["MM"] == 1).all()
    assert kept["AD"].max() < 1e-2


def test_random_masks_have_the_decoders_mean(per_clip: pd.DataFrame) -> None:
    """Chance is given as much of the spectrogram as LMAC-ZS takes, clip by clip."""
    means = per_clip.pivot(index="id", columns="method", values="MM")
    for name in ("random bins", "random patches"):
        assert torch.allclose(
            torch.tensor(means[name].to_numpy()),
            torch.tensor(means["LMAC-ZS"].to_numpy()),
            atol=1e-5,
        )


def test_decoders_scores_do_not_depend_on_the_batch(
    tiny_clap: FrozenClap, per_clip: pd.DataFrame
) -> None:
    """All clips at once give what two batches gave."""
    torch.manual_seed(0)
    decoder = MaskDecoder(tiny_clap, width=8)
    batches = _batches(tiny_clap, 4, 4)
    once = evaluate(tiny_clap, decoder, batches, LABELS, TEMPLATE, 7)
    columns = ["AI", "AD", "AG", "FF", "Fid-In", "MM", "accuracy"]
    pick = lambda t: t[t.method == "LMAC-ZS"].set_index("id")[columns]  # noqa: E731
    pd.testing.assert_frame_equal(pick(once), pick(per_clip), atol=1e-4)


def test_summary_is_the_mean_over_clips(per_clip: pd.DataFrame) -> None:
    """Columns as published, each the plain mean of the clips' values."""
    summary = summarise(per_clip, "clean")
    assert tuple(summary.columns) == HEADER
    row = summary[summary.method == "LMAC-ZS"].iloc[0]
    clips = per_clip[per_clip.method == "LMAC-ZS"]
    assert row.n == 4
    assert row["AD"] == pytest.approx(sum(clips["AD"]) / 4)
