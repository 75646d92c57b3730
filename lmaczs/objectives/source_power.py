"""Power of a mixture's sources on the masks' grid, as fractions of its power."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lmaczs.frontend import Domain, FrontEnd, cell_power


class SourcePower(NamedTuple):
    """Power of each prompt's own source and of the rest, as fractions of their sum.

    Both are Tensor [B, P, F, T], or [B, P, n_mels, T] in the mel domain. `target` is 0
    throughout where no other sound is known, `interference` where it is unknown.
    """

    target: Tensor
    interference: Tensor


def relative_power(power: Tensor) -> Tensor:
    """Power [B, F, T] as fractions of each clip's sum; 0 throughout in silence."""
    whole = power.sum((1, 2), keepdim=True)
    return torch.where(whole > 0, power / whole, 0)


def power_fractions(target: Tensor, interference: Tensor) -> SourcePower:
    """Two sources' power [B, P, F, T] as fractions of the power of both.

    Together their sum over F and T is 1; both are 0 throughout in silence, and the
    target is where there is no interference.
    """
    rest = interference.sum((2, 3), keepdim=True)
    whole = target.sum((2, 3), keepdim=True) + rest
    # scaled once: a pass over F and T costs as much as a transform
    return SourcePower(
        target=target * torch.where(rest > 0, 1 / whole, 0),
        interference=interference * torch.where(whole > 0, 1 / whole, 0),
    )


@torch.no_grad()
def source_power(
    front_end: FrontEnd,
    wav: Tensor,
    spectrum: Tensor,
    sources: Tensor,
    prompts: int,
    domain: Domain,
) -> SourcePower:
    """Power of each prompt's source and of the rest, on the grid of the masks.

    The STFT is linear: the spectrum of the rest is that of the clip less that of the
    source, so only the sources are transformed.

    Parameters
    ----------
    front_end : FrontEnd
        Of the model.
    wav : Tensor [B, samples]
        Clips, fitted to the model's length.
    spectrum : Tensor [B, F, T], complex64
        Their STFT.
    sources : Tensor [B, 2, samples]
        Sources of the first and the second prompt in the clip.
    prompts : int
        P.
    domain : {"mel", "stft", "waveform"}
        Of the masks.

    Returns
    -------
    SourcePower
        0 throughout for prompts beyond the second, which are absent.
    """
    sources = sources[:, :prompts]
    spectra = front_end.stft(sources)
    target = cell_power(front_end, spectra, domain)
    rest = cell_power(front_end, spectrum[:, None] - spectra, domain)
    # exactly 0 where a source is the whole clip, which rounding would hide
    rest *= (wav[:, None] != sources).any(-1)[..., None, None]
    fractions = power_fractions(target, rest)
    lacking = prompts - sources.shape[1]
    if lacking <= 0:
        return fractions
    missing = (0, 0, 0, 0, 0, lacking)
    return SourcePower(*(nn.functional.pad(one, missing) for one in fractions))
