"""How much of a recording lies in the band that a model hears."""

from __future__ import annotations

import torch
from torch import Tensor

from lmaczs.frontend import FrontEnd

LITTLE = 0.5
"""A fraction of a recording's power in the band below which that is said."""


def band_warnings(
    front_end: FrontEnd, stft: Tensor, wav: Tensor, total: float | None = None
) -> tuple[str, ...]:
    """Say what of a recording the model does not hear, if that is most of it.

    Parameters
    ----------
    front_end : FrontEnd
        The checkpoint's.
    stft : Tensor [F, T], complex64
        Of the recording at the checkpoint's rate.
    wav : Tensor [samples]
        The same as a waveform.
    total : float, optional
        Mean power of the recording before it was resampled. Default: of `wav`.

    Returns
    -------
    tuple of str
        A sentence, or none.
    """
    own = float(wav.double().square().mean())
    parts = torch.view_as_real(stft.mT).flatten(1)  # bins' real and imaginary parts
    rows = parts.square().sum(0).unflatten(0, (-1, 2)).sum(1)
    return power_warnings(front_end, rows.double(), own, total)


def power_warnings(
    front_end: FrontEnd, rows: Tensor, own: float, total: float | None
) -> tuple[str, ...]:
    """As `band_warnings`, from the power of each bin [F] and the mean power `own`."""
    whole = own if total is None else max(total, own)
    if whole == 0:
        return ("the recording is digital silence",)
    rows = rows.clone()
    rows[1:-1] *= 2  # the bins of negative frequencies
    visible = front_end.visible.to(rows.device)
    share = float(rows[visible].sum() / rows.sum().clamp_min(1e-300)) * own / whole
    if share >= LITTLE:
        return ()
    edges = torch.linspace(0, front_end.sample_rate / 2, front_end.n_freqs)
    heard = edges[visible.cpu()]
    amount = "less than 1 %" if share < 0.01 else f"{100 * share:.0f} %"
    return (
        f"{amount} of the recording's power lies in the band that the model hears, "
        f"{heard[0]:.0f} to {heard[-1]:.0f} Hz",
    )
