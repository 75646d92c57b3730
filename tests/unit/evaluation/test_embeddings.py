"""Embeddings of sets of clips, and the distances between the sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from lmaczs.audio.io import load_audio
from lmaczs.clap import FrozenClap
from lmaczs.evaluation.embeddings import embed_clips, frechet_table
from lmaczs.metrics.frechet import extrapolated_distance, frechet_distance


@pytest.fixture
def clips(tmp_path: Path) -> pd.DataFrame:
    """Three recordings, shorter and longer than the encoder's input; one is cut."""
    for number, seconds in enumerate((1, 8, 2)):
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, seconds * 8000)
        soundfile.write(tmp_path / f"{number}.wav", noise, 8000)
    paths = [str(tmp_path / f"{number}.wav") for number in range(3)]
    return pd.DataFrame({"path": paths, "start": np.nan, "stop": [np.nan, np.nan, 1]})


def test_embeddings_are_those_of_each_clip(
    tiny_clap: FrozenClap, clips: pd.DataFrame
) -> None:
    """By itself, whatever the batch; of unit norm."""
    found = embed_clips(tiny_clap, clips, batch_size=2)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    front_end = tiny_clap.front_end
    for row, (path, stop) in enumerate(zip(clips.path, (None, None, 1.0), strict=True)):
        wav = load_audio(path, front_end.sample_rate, stop=stop)
        log_mel = front_end.stft_to_log_mel(
            front_end.stft(front_end.fit_length(wav[None]))
        )
        with torch.no_grad():
            alone = tiny_clap.audio_embedding(log_mel)[0].numpy()
        np.testing.assert_allclose(found[row], alone, atol=1e-5)


def test_the_table_has_every_two_sets_once() -> None:
    """Their names, numbers of clips, and both distances."""
    rng = np.random.default_rng(0)
    sets = {name: rng.normal(size=(n, 3)) for name, n in (("a", 9), ("b", 8), ("c", 7))}
    table = frechet_table(sets, seed=4)
    assert list(zip(table["first"], table["second"], strict=True)) == [
        *(("a", "b"), ("a", "c"), ("b", "c")),
    ]
    last = table.iloc[2]
    assert (last.first_clips, last.second_clips) == (8, 7)
    assert last.distance == frechet_distance(sets["b"], sets["c"])
    assert last.extrapolated == extrapolated_distance(sets["b"], sets["c"], 4)
