"""Rates of verdicts and quantiles of presences."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import soundfile
import torch

from lmaczs import ZeroShotInterpreter
from lmaczs.evaluation.verdict_rates import (
    FIRST,
    OTHER,
    presence_quantiles,
    rates,
    verdicts,
)

LABELS = ["dog", "rain", "siren", "church bells"]


@pytest.fixture(scope="module")
def interpreter() -> ZeroShotInterpreter:
    """The embedded default."""
    return ZeroShotInterpreter.from_hparams(run_opts={"device": "cpu"})


@pytest.fixture(scope="module")
def clips(
    interpreter: ZeroShotInterpreter, tmp_path_factory: pytest.TempPathFactory
) -> pd.DataFrame:
    """Two recordings of noise, one of them cut from a longer file."""
    folder, rate, rows = tmp_path_factory.mktemp("clips"), interpreter.sample_rate, []
    for number, label in enumerate(("dog", "rain")):
        rng = torch.Generator().manual_seed(number)
        path = folder / f"{label}.wav"
        soundfile.write(path, 0.1 * torch.randn(2 * rate, generator=rng).numpy(), rate)
        place = {"start": 0.5, "stop": 1.5} if number else {"start": None, "stop": None}
        rows.append(
            {"id": f"clip {number}", "path": str(path), "label": label, **place}
        )
    return pd.DataFrame(rows)


def test_verdicts_are_those_of_single_interpretations(
    interpreter: ZeroShotInterpreter, clips: pd.DataFrame
) -> None:
    """Of the label that the model ranks first, and of drawn ones of other classes."""
    presences, judged = verdicts(interpreter, clips, LABELS, others=2, seed=1)
    assert len(presences) == 2 * len(LABELS)
    assert presences.groupby("id").present.sum().tolist() == [1, 1]
    assert judged.groupby(["id", "masks"]).size().tolist() == [3] * 4
    again = verdicts(interpreter, clips, LABELS, others=2, seed=1)[1]
    pd.testing.assert_frame_equal(judged, again)
    for clip in clips.itertuples():
        wav, rate = soundfile.read(Path(clip.path), dtype="float32")
        if clip.id == "clip 1":
            wav = wav[rate // 2 : rate * 3 // 2]
        own = presences[presences.id == clip.id].set_index("prompt").presence
        for row in judged[judged.id == clip.id].itertuples():
            prompt = f"This is a sound of {row.prompt}."
            refine = 0 if row.masks == "decoder" else "auto"
            one = interpreter.interpret_waveform(wav, rate, prompt, refine=refine)
            assert row.verdict == one.verdict
            assert row.mask_mean == pytest.approx(float(one.mask.mean()), abs=1e-3)
            assert own[row.prompt] == pytest.approx(one.presence)
            if row.kind == OTHER:
                assert row.prompt != clip.label
        table = interpreter.classify_waveform(wav, rate, LABELS)
        first = judged[(judged.id == clip.id) & (judged.kind == FIRST)]
        assert set(first.prompt) == {table.label[0]}


def test_rates_are_counts_of_verdicts() -> None:
    """In per cent of the prompts of each kind; verdicts that do not occur are 0."""
    found = ["kept", "kept", "not kept", "kept", "not heard"]
    kinds, masks = [FIRST] * 3 + [OTHER] * 2, ["decoder"] * 5
    table = rates(pd.DataFrame({"kind": kinds, "masks": masks, "verdict": found}))
    assert table.n.tolist() == [3, 2]
    assert table["kept"].tolist() == pytest.approx([200 / 3, 50])
    assert table["partly kept"].tolist() == [0, 0]
    assert table["not kept"].tolist() == pytest.approx([100 / 3, 0])
    assert table["not heard"].tolist() == [0, 50]


def test_quantiles_of_own_labels_and_of_others() -> None:
    """Silence, which has no presence, is left out."""
    own = [i / 10 for i in range(11)]
    rows = [("a", True, value) for value in own] + [("a", False, 0.25)] * 3
    rows.append(("b", True, None))
    table = presence_quantiles(
        pd.DataFrame(rows, columns=["id", "present", "presence"])
    )
    table = table.set_index("present")
    assert table.loc[True, "n"] == 11
    assert table.loc[True, [0.1, 0.5, 0.9]].tolist() == pytest.approx([0.1, 0.5, 0.9])
    assert (table.loc[False, [0.1, 0.5, 0.9, 0.99]] == 0.25).all()
