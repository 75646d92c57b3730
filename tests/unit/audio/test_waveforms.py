"""waveforms.py: samples and their rate, however they are handed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from lmaczs.audio.io import AudioError
from lmaczs.audio.waveforms import has_rate, with_rate

SAMPLES = np.array([0.5, -0.25, 0.125], np.float32)


@pytest.mark.parametrize(
    "given",
    [
        (SAMPLES, 22050),
        (22050, SAMPLES),
        [SAMPLES, 22050],
        (SAMPLES, np.int64(22050)),
        ([0.5, -0.25, 0.125], 22050),
        {"array": SAMPLES, "sampling_rate": 22050, "path": "a.wav"},
    ],
)
def test_a_rate_that_comes_along(given: Any) -> None:
    """In either order, or as data sets have it."""
    samples, rate = with_rate(given)
    assert has_rate(given) and rate == 22050
    assert samples.tolist() == SAMPLES.tolist()
    assert with_rate(given, 22050)[1] == 22050


@pytest.mark.parametrize(
    "given",
    [
        SAMPLES,
        torch.from_numpy(SAMPLES),
        SAMPLES.tolist(),
        tuple(SAMPLES.tolist()),
        pd.Series(SAMPLES, index=[7, 8, 9]),
    ],
)
def test_a_rate_of_its_own(given: Any) -> None:
    """Samples without a rate need one; nothing is guessed."""
    samples, rate = with_rate(given, 8000)
    assert not has_rate(given) and rate == 8000
    assert samples.tolist() == SAMPLES.tolist()
    with pytest.raises(AudioError, match="its rate is missing: pass .samples, rate."):
        with_rate(given)


def test_two_samples_are_no_rate() -> None:
    """A list of two numbers is a waveform, and so are two channels."""
    assert not has_rate([0.5, 0.25])
    assert not has_rate([SAMPLES, SAMPLES])
    assert with_rate([SAMPLES, SAMPLES], 8000)[0].shape == (2, 3)


def test_what_soundfile_reads(tmp_path: Path) -> None:
    """Its pair is taken as it is."""
    soundfile.write(tmp_path / "a.wav", SAMPLES, 22050, subtype="FLOAT")
    samples, rate = with_rate(soundfile.read(tmp_path / "a.wav"))
    assert (samples.tolist(), rate) == (SAMPLES.tolist(), 22050)


@pytest.mark.parametrize(
    ("given", "rate", "reason"),
    [
        ((SAMPLES, 22050), 44100, "it comes with a rate of 22050 Hz, but sample_rate"),
        ((SAMPLES, 22050), "dog", "not 'dog': after .samples, rate., name the other"),
        (
            {"samples": SAMPLES},
            8000,
            "array and sampling_rate is taken, not one of sam",
        ),
        ([[0.5], [0.5, 0.25]], 8000, "no array of samples"),
    ],
)
def test_what_is_refused(given: Any, rate: Any, reason: str) -> None:
    """In one sentence."""
    with pytest.raises(AudioError, match=reason):
        with_rate(given, rate)
