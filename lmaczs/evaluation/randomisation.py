"""Cascading randomisation: an explanation of a model must change with the model.

The audio encoder's weights are drawn anew from the top stage down, one stage more at a
time, and each time the masks are compared with those of the trained model (Adebayo et
al., "Sanity Checks for Saliency Maps", NeurIPS 2018; LMAC-ZS, figures 3 and 5). The
decoder stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import pandas as pd
import torch
from torch import Tensor, nn

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.explainers import Explainer


def stages_from_the_top(clap: FrozenClap) -> dict[str, list[nn.Module]]:
    """Parts of the audio encoder, the last one first.

    Parameters
    ----------
    clap : FrozenClap
        The model.

    Returns
    -------
    dict
        Of each name its modules. The input's normalisation is data, not learnt from
        labels, and stays.
    """
    encoder = clap.model.audio_model.audio_encoder
    layers = list(encoder.layers)
    parts: dict[str, list[nn.Module]] = {
        f"stage {len(layers)}": [
            clap.model.audio_projection,
            encoder.norm,
            layers[-1],
        ]
    }
    for number in range(len(layers) - 1, 0, -1):
        parts[f"stage {number}"] = [layers[number - 1]]
    parts["patch embedding"] = [encoder.patch_embed]
    return parts


def cascade(clap: FrozenClap, seed: int = 0) -> Iterator[tuple[str, FrozenClap]]:
    """The model with ever more stages at random.

    Parameters
    ----------
    clap : FrozenClap
        The trained model, which stays as it is.
    seed : int
        Of the weights that are drawn.

    Yields
    ------
    tuple
        Name of the stage that was randomised last, and the model: the same object
        each time, with that stage and all above it at random.
    """
    randomised = copy.deepcopy(clap)
    stages = stages_from_the_top(randomised).items()
    for number, (name, modules) in enumerate(stages):
        # not around the yield: who asks in between would draw from it
        with torch.random.fork_rng():
            torch.manual_seed(seed + number)
            for module in modules:
                module.apply(draw_weights)
        yield name, randomised


@torch.no_grad()
def draw_weights(module: nn.Module) -> None:
    """Draw a module's own weights as if it had never been trained.

    Parameters
    ----------
    module : Module
        Linear, convolution and norm layers by their own rule; other parameters (tables
        of relative positions) from a normal distribution of deviation 0.02.
    """
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
        return
    for parameter in module.parameters(recurse=False):
        nn.init.normal_(parameter, std=0.02)


def alike(first: Tensor, second: Tensor) -> float:
    """Structural similarity of two masks (SSIM, Wang et al., 2004).

    Parameters
    ----------
    first : Tensor [F, T]
        In [0, 1].
    second : Tensor [F, T]
        In [0, 1].

    Returns
    -------
    float
        1 for equal masks; Gaussian windows of deviation 1.5, range 1.
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            first.cpu().numpy(),
            second.cpu().numpy(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def overlap(first: Tensor, second: Tensor) -> float:
    """What two masks have in common, of what either of them keeps.

    SSIM is high where both masks are empty; this is not.

    Parameters
    ----------
    first : Tensor [F, T]
        In [0, 1].
    second : Tensor [F, T]
        In [0, 1].

    Returns
    -------
    float
        ``sum(min) / sum(max)``, in [0, 1]; 1 for two that keep nothing.
    """
    either = torch.maximum(first, second).sum()
    return float(torch.minimum(first, second).sum() / either) if either > 0 else 1.0


def randomise(
    clap: FrozenClap,
    methods: Mapping[str, Explainer],
    log_mel: Tensor,
    text: Tensor,
    seed: int = 0,
) -> tuple[pd.DataFrame, dict[tuple[str, str], Tensor]]:
    """Compare masks of ever more random models with those of the trained one.

    Parameters
    ----------
    clap : FrozenClap
        The trained model.
    methods : mapping of str to Explainer
        What is compared.
    log_mel : Tensor [B, C, T, n_mels]
        Clips.
    text : Tensor [B, D]
        What is asked of each, for example its predicted class.
    seed : int
        Of the weights that are drawn.

    Returns
    -------
    tuple
        A row a clip, method and stage (clip, method, stage, ssim, overlap, empty), and
        the masks of each method and stage; the trained model's stage is ``trained``.
        ``empty`` is the SSIM of the trained model's mask with one that keeps nothing: a
        method that finds nothing in a random model comes out there, not at 0.
    """
    masks = {
        (name, "trained"): explain(clap, log_mel, text, seed)
        for name, explain in methods.items()
    }
    empty = {
        name: [alike(mask, torch.zeros_like(mask)) for mask in masks[name, "trained"]]
        for name in methods
    }
    rows = []
    for stage, randomised in cascade(clap, seed):
        for name, explain in methods.items():
            found = explain(randomised, log_mel, text, seed)
            masks[name, stage] = found
            for clip, mask in enumerate(found):
                pair = masks[name, "trained"][clip], mask
                found_alike = alike(*pair), overlap(*pair), empty[name][clip]
                rows.append((clip, name, stage, *found_alike))
    columns = ["clip", "method", "stage", "ssim", "overlap", "empty"]
    return pd.DataFrame(rows, columns=columns), masks
