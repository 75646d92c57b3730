"""What SpeechBrain's recipe of L-MAC has beside the paper's terms: pure functions.

The total variation of masks, and the terms of its fine-tuning stage, in which a clip
whose masked-in signal is similar enough to the clip is *guided*: its mask learns which
cells are loud, and its area and total variation no longer count. Source:
``recipes/ESC50/interpret/train_lmac.py`` of https://github.com/speechbrain/speechbrain
(L-MAC: Paissan et al., ICML 2024, arXiv 2403.13086). Spectrograms are
``log(1 + |X|)`` [B, F, T] on the grid of the masks, see `LogMagnitude`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lmaczs.frontend import Domain, FrontEnd, cell_power


class LogMagnitude(NamedTuple):
    """``log(1 + |X|)`` of clips, and of their first sources without what was added.

    Both are Tensor [B, F, T], or [B, n_mels, T] in the mel domain; they are equal where
    training adds nothing to a clip.
    """

    clip: Tensor
    clean: Tensor


@torch.no_grad()
def log_magnitude(front_end: FrontEnd, spectrum: Tensor, domain: Domain) -> Tensor:
    """``log(1 + |X|)`` [B, F, T] of a spectrum [B, F, T] on the grid of the masks."""
    return cell_power(front_end, spectrum, domain).sqrt().log1p()


def total_variation_term(masks: Tensor) -> Tensor:
    """Masks should be smooth.

    ``sum((M[f+1, t] - M[f, t])^2 + (M[f, t+1] - M[f, t])^2) / 2``, as a mean over the P
    prompts and the F x T cells. The weight is SpeechBrain's `reg_w_tv` times its batch
    size and the number of cells; its recipe has 0. The regulariser is that of Mahendran
    and Vedaldi (CVPR 2015, with beta 2) and of Dabkowski and Gal (NeurIPS 2017).

    Parameters
    ----------
    masks : Tensor [B, P, F, T]
        In [0, 1].

    Returns
    -------
    Tensor [B]
        In [0, 1]; 0 for constant masks.
    """
    steps = (masks.diff(dim=axis).square().sum((2, 3)) for axis in (2, 3))
    return (sum(steps, start=masks.new_zeros(())) / 2 / masks[0, 0].numel()).mean(1)


def similar_enough(
    mask: Tensor, magnitude: LogMagnitude, crosscor_threshold: float
) -> Tensor:
    """Which clips are guided: their masked-in spectrogram resembles the clean one.

    The normalised cross-correlation at no shift, ``<C, M X> / (|C| |M X|)``, of the
    clean and the masked spectrogram is at least `crosscor_threshold`.

    Parameters
    ----------
    mask : Tensor [B, F, T]
        In [0, 1].
    magnitude : LogMagnitude
        Of the clips.
    crosscor_threshold : float
        In [0, 1]. SpeechBrain's `crosscor_th`.

    Returns
    -------
    Tensor [B], bool
        False for silence and for empty masks.
    """
    masked = (mask * magnitude.clip).flatten(1)
    correlation = nn.functional.cosine_similarity(magnitude.clean.flatten(1), masked)
    return (correlation >= crosscor_threshold) & masked.any(1)


def guidance_term(
    mask: Tensor,
    magnitude: LogMagnitude,
    crosscor_threshold: float,
    level: float,
    highest: float = 0.95,
) -> Tensor:
    """The mask of a guided clip should be the clean spectrogram's, binarised.

    Binary cross-entropy between the mask and ``C >= level max(C)``, mean over cells.

    Parameters
    ----------
    mask : Tensor [B, F, T]
        In [0, 1].
    magnitude : LogMagnitude
        Of the clips.
    crosscor_threshold : float
        See `similar_enough`.
    level : float
        Fraction of a clip's largest value from which a cell is loud. SpeechBrain's
        `bin_th`.
    highest : float
        Mask values above count as this one: `MaskDecoder` rounds to 1 in training what
        is above 0.9, and the gradient at 1 in a quiet cell would be infinite.

    Returns
    -------
    Tensor [B]
        Not negative; 0 for clips that are not guided.
    """
    loud = magnitude.clean >= level * magnitude.clean.amax((1, 2), keepdim=True)
    inside = mask + (mask.clamp(0, highest) - mask).detach()  # gradient passes
    cost = nn.functional.binary_cross_entropy(inside, loud.float(), reduction="none")
    return cost.mean((1, 2)) * similar_enough(mask, magnitude, crosscor_threshold)
