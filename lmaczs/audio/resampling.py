"""Change of the sampling rate with a band-limited filter, differentiable throughout."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torchaudio.transforms import Resample

FILTER_WIDTH = 64
FILTER_ROLLOFF = 0.9475937167399596
FILTER_BETA = 14.769656459379492
"""A Kaiser-windowed sinc: 44.1 to 32 kHz keeps 13.5 kHz at 99 dB signal-to-noise ratio
and leaves aliases below -140 dB (torchaudio's default: 18 dB and -11 dB)."""

MAX_KERNEL = 1 << 22
"""Values of a polyphase filter above which every output is computed by itself."""

PIECE = 1 << 20
"""Input samples that a polyphase filter is given at a time, to bound its memory."""

DIRECT_BLOCK = 1 << 18
"""Values of that filter that are computed at a time."""


def resample(wav: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Change the rate of waveforms with a band-limited (windowed sinc) filter.

    Parameters
    ----------
    wav : Tensor
        Floating point, ``[..., samples]``; gradients pass.
    from_rate : int
        Rate of ``wav`` in Hz.
    to_rate : int
        Rate of the result in Hz; any positive integer.

    Returns
    -------
    Tensor
        ``[..., ceil(samples * to_rate / from_rate)]``; ``wav`` itself if the rates
        agree.

    Raises
    ------
    ValueError
        If a rate is not positive.
    """
    if min(from_rate, to_rate) <= 0:
        raise ValueError(f"rates are positive: {from_rate} and {to_rate} Hz")
    divisor = math.gcd(from_rate, to_rate)
    up, down = to_rate // divisor, from_rate // divisor
    if up == down or not wav.shape[-1]:
        return wav
    samples = -(-wav.shape[-1] * up // down)
    if up * (down + 2 * _half_width(up, down)) > MAX_KERNEL:
        return _resample_directly(wav, up, down, samples)
    return _resample_polyphase(wav, up, down, samples)


def _half_width(up: int, down: int) -> int:
    """Return how many input samples the filter reaches to either side."""
    return math.ceil(FILTER_WIDTH * down / (min(up, down) * FILTER_ROLLOFF))


@lru_cache(maxsize=32)
def _resampler(
    down: int, up: int, dtype: torch.dtype, device: torch.device
) -> Resample:
    """Return torchaudio's polyphase resampler, its filter computed in float64."""
    with torch.inference_mode(False):  # a cached filter must serve training as well
        return Resample(
            down,
            up,
            resampling_method="sinc_interp_kaiser",
            lowpass_filter_width=FILTER_WIDTH,
            rolloff=FILTER_ROLLOFF,
            beta=FILTER_BETA,
            dtype=torch.float64,
        ).to(device=device, dtype=dtype)


def _resample_polyphase(wav: Tensor, up: int, down: int, samples: int) -> Tensor:
    """Resample piece by piece, each with the context that the filter reaches.

    This bounds the memory, and torchaudio rounds lengths to float32.
    """
    context = -(-_half_width(up, down) // down) * down
    whole = -(-wav.shape[-1] // down) * down
    step = min(whole, max(1, PIECE // down) * down)
    pieces = -(-whole // step)
    tail = pieces * step + context - wav.shape[-1]
    padded = torch.nn.functional.pad(wav, (context, tail))
    resampler = _resampler(down, up, wav.dtype, wav.device)
    first, last = context // down * up, (context + step) // down * up
    parts = (padded[..., i * step :][..., : step + 2 * context] for i in range(pieces))
    return torch.cat([resampler(part)[..., first:last] for part in parts], -1)[
        ..., :samples
    ]


def _resample_directly(wav: Tensor, up: int, down: int, samples: int) -> Tensor:
    """Compute the same filter output by output, for rates with no small common ratio.

    A polyphase filter has ``up`` phases: 44.1 to 47.999 kHz would need 17 GB.
    """
    width = _half_width(up, down)
    padded = torch.nn.functional.pad(wav, (width, width + 1))
    taps = torch.arange(2 * width + 1)
    step = max(1, DIRECT_BLOCK // len(taps))
    blocks = []
    for start in range(0, samples, step):
        position = torch.arange(start, min(start + step, samples)) * down
        offset = taps - width - (position % up)[:, None].double() / up
        weights = _filter(offset, min(1.0, up / down) * FILTER_ROLLOFF).to(wav)
        index = ((position // up)[:, None] + taps).to(wav.device)
        blocks.append((padded[..., index] * weights).sum(-1))
    return torch.cat(blocks, -1)


def _filter(offset: Tensor, cutoff: float) -> Tensor:
    """Return the Kaiser-windowed sinc at offsets in input samples.

    ``cutoff`` is relative to the input's Nyquist frequency.
    """
    phase = (offset * cutoff).clamp(-FILTER_WIDTH, FILTER_WIDTH)
    window = torch.special.i0(FILTER_BETA * (1 - (phase / FILTER_WIDTH) ** 2).sqrt())
    scale = cutoff / torch.special.i0(torch.tensor(FILTER_BETA, dtype=torch.float64))
    return torch.sinc(phase) * window * scale
