"""scales.py: each scale against known points, and the way there and back."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.audio_utils import hertz_to_mel

from lmaczs.audio.scales import db_to_power, hz_to_mel, mel_to_hz, power_to_db


@given(power=st.floats(1e-9, 1e9), hertz=st.floats(0, 1e5))
def test_scales_lead_there_and_back(power: float, hertz: float) -> None:
    """Each conversion is undone by its inverse."""
    powers, frequencies = (torch.tensor(x, dtype=torch.float64) for x in (power, hertz))
    torch.testing.assert_close(db_to_power(power_to_db(powers)), powers)
    torch.testing.assert_close(mel_to_hz(hz_to_mel(frequencies)), frequencies)


def test_decibels_are_of_power_and_have_a_floor() -> None:
    """Ten times the power is 10 dB more; silence has the floor."""
    power = torch.tensor([1.0, 10.0, 1e-3, 0.0])
    assert power_to_db(power).tolist() == [0, 10, -30, -100]
    assert power_to_db(power, 1e-2).tolist() == [0, 10, -20, -20]
    assert db_to_power(torch.tensor([0.0, 20.0])).tolist() == [1, 100]


def test_mel_is_that_of_htk() -> None:
    """Values are those of transformers' scale of the same formula."""
    hertz = np.linspace(0, 20000, 50)
    found = hz_to_mel(torch.from_numpy(hertz)).numpy()
    np.testing.assert_allclose(found, hertz_to_mel(hertz, "kaldi"))
