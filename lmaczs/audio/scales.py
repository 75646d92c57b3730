"""Scales in which sound is shown and measured, and the way back: dB and mel."""

from __future__ import annotations

import torch
from torch import Tensor

MEL_BREAK_HZ = 700.0
MEL_FACTOR = 1127.0
"""The mel scale of HTK: nearly linear below the first number, logarithmic above."""


def power_to_db(power: Tensor, floor: float = 1e-10) -> Tensor:
    """Power in dB re 1; what is below a floor counts as the floor."""
    return 10 * power.clamp_min(floor).log10()


def db_to_power(decibels: Tensor) -> Tensor:
    """Power, or factor on it, of a level in dB."""
    return 10 ** (decibels / 10)


def hz_to_mel(hertz: Tensor) -> Tensor:
    """Frequency in mel, HTK's scale, of one in Hz."""
    return MEL_FACTOR * torch.log1p(hertz / MEL_BREAK_HZ)


def mel_to_hz(mel: Tensor) -> Tensor:
    """Frequency in Hz of one in mel."""
    return MEL_BREAK_HZ * torch.expm1(mel / MEL_FACTOR)
