"""Cascading randomisation: an explanation of a model must change with the model.

The audio encoder's weights are redrawn from the top stage down, cumulatively, and the
masks are compared with those of the trained model (Adebayo et al., "Sanity Checks for
Saliency Maps", NeurIPS 2018; LMAC-ZS, figures 3 and 5). The decoder stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor, nn

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.explainer import Explainer, ExplainerInput
from lmaczs.metrics.similarity import soft_iou, ssim


def stages_from_the_top(clap: FrozenClap) -> dict[str, list[nn.Module]]:
    """Parts of the audio encoder by name, the last one first.

    Without the input's normalisation, which is data, not learned from labels.
    """
    encoder = clap.model.audio_model.audio_encoder
    layers = list(encoder.layers)
    parts: dict[str, list[nn.Module]] = {
        f"stage {len(layers)}": [clap.model.audio_projection, encoder.norm, layers[-1]]
    }
    for number in range(len(layers) - 1, 0, -1):
        parts[f"stage {number}"] = [layers[number - 1]]
    parts["patch embedding"] = [encoder.patch_embed]
    return parts


def cascade(clap: FrozenClap, seed: int = 0) -> Iterator[tuple[str, FrozenClap]]:
    """Yield the last randomised stage's name and the model, stage by stage.

    The model is a copy, the same object each time; all stages above are random, too.
    """
    randomised = copy.deepcopy(clap)
    stages = stages_from_the_top(randomised).items()
    for number, (name, modules) in enumerate(stages):
        # not around the yield: callers would draw from the forked generator
        with torch.random.fork_rng():
            torch.manual_seed(seed + number)
            for module in modules:
                module.apply(draw_weights)
        yield name, randomised


@torch.no_grad()
def draw_weights(module: nn.Module) -> None:
    """Initialise a module's own weights as before training.

    Linear, convolution and norm layers by their own rule; other parameters (tables of
    relative positions) from a normal distribution of deviation 0.02.
    """
    reset = getattr(module, "reset_parameters", None)
    if reset is not None:
        reset()
        return
    for parameter in module.parameters(recurse=False):
        nn.init.normal_(parameter, std=0.02)


@torch.no_grad()
def randomise(
    explainers: Mapping[str, Explainer], batch: ExplainerInput
) -> tuple[pd.DataFrame, dict[tuple[str, str], Tensor]]:
    """Compare masks of ever more random models with those of the trained one.

    The batch's seed also draws the weights. A row for each clip, method and stage
    (clip, method, stage, ssim, overlap, empty), and the masks of each method and stage;
    the trained model's stage is ``trained``. ``empty`` is the SSIM of the trained
    model's mask with an empty one: a method that finds nothing in a random model has
    this value, not 0.
    """
    trained = {name: explain(batch) for name, explain in explainers.items()}
    masks = {(name, "trained"): found for name, found in trained.items()}
    empty = {name: ssim(found, 0 * found) for name, found in trained.items()}
    parts = []
    for stage, randomised in cascade(batch.clap, batch.seed):
        for name, explain in explainers.items():
            found = explain(replace(batch, clap=randomised))
            masks[name, stage] = found
            figures = {
                "ssim": ssim(trained[name], found),
                "overlap": soft_iou(trained[name], found),
                "empty": empty[name],
            }
            columns = {key: values.tolist() for key, values in figures.items()}
            first = {"clip": range(len(found)), "method": name, "stage": stage}
            parts.append(pd.DataFrame({**first, **columns}))
    return pd.concat(parts, ignore_index=True), masks
