"""Scales of level and frequency, and their inverses: dB and mel."""

from __future__ import annotations

import torch
from torch import Tensor

MEL_BREAK_HZ = 700.0
MEL_FACTOR = 1127.0
"""The mel scale of HTK: nearly linear below the first number, logarithmic above."""


def power_to_db(power: Tensor, floor: float = 1e-10) -> Tensor:
    """Power in dB re 1, clamped at a floor."""
    return 10 * power.clamp_min(floor).log10()


def db_to_power(decibels: Tensor) -> Tensor:
    """Power, or factor on power, from dB."""
    return 10 ** (decibels / 10)


def hz_to_mel(hertz: Tensor) -> Tensor:
    """Hz to mel, HTK's scale."""
    return MEL_FACTOR * torch.log1p(hertz / MEL_BREAK_HZ)


def mel_to_hz(mel: Tensor) -> Tensor:
    """Mel, HTK's scale, to Hz."""
    return MEL_BREAK_HZ * torch.expm1(mel / MEL_FACTOR)
