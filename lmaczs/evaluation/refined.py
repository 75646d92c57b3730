"""Masks that are refined on each clip, from a decoder's or without one.

The predicted class is explained whatever its presence, as by every other method: all of
its similarity is asked for. Neither method sees the classes: the prompt's competitors
are the reference prompts, as for a user who gives one prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.presence import reference_text
from lmaczs.refinement import RefinementOptions, refine

PASSES = 1 + 4 * RefinementOptions.steps + 2
"""Most encoder passes for a clip: each step is two inputs forward and back."""


def refined(batch: ExplainerInput, options: RefinementOptions | None = None) -> Tensor:
    """Refine the reference masks, those of the first decoder: see `fitted`."""
    return _refined(batch, batch.like, options)


def fitted(batch: ExplainerInput, options: RefinementOptions | None = None) -> Tensor:
    """Fit masks from the agreement of places and prompt.

    Rounded, as they are applied, and soft, as they order the cells: [B, 2, F, T].
    """
    return _refined(batch, None, options)


def _refined(
    batch: ExplainerInput, start: Tensor | None, options: RefinementOptions | None
) -> Tensor:
    clap = batch.clap
    found = refine(
        clap,
        batch.spectrum[..., : clap.front_end.n_frames],
        clap.audio_features(batch.log_mel),
        batch.text,
        reference_text(clap),
        batch.samples,
        start,
        domain=batch.domain,
        options=options,
    )
    return torch.stack([found.masks, found.soft], 1)
