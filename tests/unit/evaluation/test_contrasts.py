"""Sums of two clips that a model recognises both, explained alone and in contrast."""

from __future__ import annotations

from itertools import combinations

import pandas as pd
import pytest
import soundfile
import torch

from lmaczs import ZeroShotInterpreter
from lmaczs.evaluation.contrasts import (
    WAYS,
    contrast_rows,
    contrast_summary,
    recognised_sums,
)
from lmaczs.metrics.localisation import si_sdr_improvement

LABELS = ["dog", "rain", "siren"]


@pytest.fixture(scope="module")
def interpreter() -> ZeroShotInterpreter:
    """The embedded default."""
    return ZeroShotInterpreter.from_hparams(run_opts={"device": "cpu"})


@pytest.fixture(scope="module")
def clips(
    interpreter: ZeroShotInterpreter, tmp_path_factory: pytest.TempPathFactory
) -> pd.DataFrame:
    """Four recordings of three labels: noise, tones, noise again, clicks."""
    folder, rate = tmp_path_factory.mktemp("clips"), interpreter.sample_rate
    time = torch.arange(5 * rate) / rate
    noise = torch.randn(2, 5 * rate, generator=torch.Generator().manual_seed(0)) / 10
    sounds = {
        "rain": noise[0],
        "siren": (2000 * time + 80 * (5 * time).sin()).sin() / 4,
        "rain 2": noise[1],
        "dog": noise[1] * (time % 1 < 0.1),
    }
    rows = []
    for name, wav in sounds.items():
        path = folder / f"{name}.wav"
        soundfile.write(path, wav.numpy(), rate, subtype="FLOAT")
        rows.append({"id": name, "path": str(path), "label": name.split()[0]})
    return pd.DataFrame(rows)


def test_sums_are_those_whose_labels_are_ahead(
    interpreter: ZeroShotInterpreter, clips: pd.DataFrame
) -> None:
    """Of two labels, each pair once, at equal power, in an order of the seed."""
    sums = list(recognised_sums(interpreter, clips, LABELS, seed=1))
    expected = set()
    for first, second in combinations(range(4), 2):
        labels = clips.label[[first, second]].tolist()
        wavs = [
            torch.from_numpy(soundfile.read(clips.path[row], dtype="float32")[0])
            for row in (first, second)
        ]
        mixture = sum(wav / wav.square().mean().sqrt() * 0.05 for wav in wavs)
        table = interpreter.classify_waveform(mixture, interpreter.sample_rate, LABELS)
        if set(table.label[:2]) == set(labels):
            expected.add(frozenset(clips.id[[first, second]]))
    assert expected and {frozenset(one.ids) for one in sums} == expected
    assert len(sums) == len(expected)
    for one in sums:
        assert one.labels[0] != one.labels[1]
        for wav in one.wavs:
            assert float(wav.square().mean().sqrt()) == pytest.approx(0.05, rel=1e-3)
    again = [one.ids for one in recognised_sums(interpreter, clips, LABELS, seed=1)]
    assert again == [one.ids for one in sums]


@pytest.mark.slow
def test_rows_are_those_of_interpretations(
    interpreter: ZeroShotInterpreter, clips: pd.DataFrame
) -> None:
    """Both labels of a sum in each way; without a contrast there is no margin."""
    (one,) = [next(recognised_sums(interpreter, clips, LABELS))]
    rows = contrast_rows(interpreter, iter([one]), 5)
    assert len(rows) == 2 * len(WAYS) and set(rows.masks) == set(WAYS)
    prompts = [f"This is a sound of {label}." for label in one.labels]
    for masks, (refine, against) in WAYS.items():
        own = rows[rows.masks == masks].reset_index(drop=True)
        assert tuple(own.id) == one.ids and tuple(own.other) == one.ids[::-1]
        assert own.margin.notna().all() == against
        found = interpreter.interpret_waveform(
            one.mixture,
            interpreter.sample_rate,
            prompts,
            refine=refine,
            contrast=prompts if against else None,
        )
        for place, explained in enumerate(found):
            gain = si_sdr_improvement(
                explained.waveform[None], one.mixture[None], one.wavs[place][None]
            )
            row = own.iloc[place]
            assert row.si_sdr_improvement == pytest.approx(float(gain), abs=1e-3)
            assert row.verdict == explained.verdict


def test_summary_is_of_each_kind_of_masks() -> None:
    """Means, the median and the fraction that is kept."""
    rows = pd.DataFrame(
        {
            "masks": ["decoder", "refined"] * 3,
            "si_sdr_improvement": [1.0, 0.0, 2.0, 0.0, 6.0, 3.0],
            "margin": [None, 0.0, None, 0.1, None, 0.2],
            "verdict": ["kept", "not kept", "kept", "kept", "partly kept", "kept"],
        }
    )
    rows["margin"] = rows.margin.astype(float)
    table = contrast_summary(rows).set_index("masks")
    assert table.si_sdr_improvement.tolist() == [3.0, 1.0]
    assert table["median"].tolist() == [2.0, 0.0] and table.n.tolist() == [3, 3]
    assert table.kept.tolist() == pytest.approx([200 / 3, 200 / 3])
    assert table.margin.isna().tolist() == [True, False]
