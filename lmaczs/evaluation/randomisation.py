"""Cascading randomisation: an explanation of a model must change with the model.

The audio encoder's weights are redrawn from the top stage down, cumulatively, and the
masks are compared with those of the trained model (Adebayo et al., "Sanity Checks for
Saliency Maps", NeurIPS 2018; LMAC-ZS, figures 3 and 5). The decoder stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor, nn

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.explainer import Explainer, ExplainerInput
from lmaczs.metrics.similarity import soft_iou, ssim
from lmaczs.presence import share_reference_text
from lmaczs.report import markdown

PAPER_CLAIM = (
    "The paper's claim (LMAC-ZS, figure 3, right): as the model is randomised from the "
    "top, the masks of LMAC-ZS change by SSIM, and more than those of Grad-CAM++."
)


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
    share_reference_text(clap, randomised)
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
    explainers: Mapping[str, Explainer],
    batch: ExplainerInput,
    stages: Collection[str] | None = None,
) -> tuple[pd.DataFrame, dict[tuple[str, str], Tensor]]:
    """Compare masks of ever more random models with those of the trained one.

    The batch's seed also draws the weights. A row for each clip, method and stage of
    `stages`, by default all (clip, method, stage, ssim, overlap, empty), and the masks
    of each method and stage; the trained model's stage is ``trained``. ``empty`` is the
    SSIM of the trained model's mask with an empty one: a method that finds nothing in a
    random model has this value, not 0.
    """
    trained = {name: explain(batch) for name, explain in explainers.items()}
    masks = {(name, "trained"): found for name, found in trained.items()}
    empty = {name: ssim(found, 0 * found) for name, found in trained.items()}
    parts = []
    for stage, randomised in cascade(batch.clap, batch.seed):
        if stages is not None and stage not in stages:
            continue
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


def verdict(ssim: pd.DataFrame, method: str) -> str:
    """Whether `PAPER_CLAIM` holds for a method in a table of `randomise`.

    Compared are means over clips: the SSIM with all stages at random with that of each
    other method, and with that of an empty mask.
    """
    means = ssim.groupby(["method", "stage"], sort=False).mean(numeric_only=True)
    last = means.groupby(level="method", sort=False).tail(1).droplevel("stage")
    own = last.loc[method]
    less = [name for name in last.index.drop(method) if last.ssim[name] < own.ssim]
    found = (
        f"Here the mean SSIM of {method} is {own.ssim:.2f} with all stages at random, "
        f"and would be {own['empty']:.2f} with an empty mask"
    )
    if not less:
        return f"{found}: the claim holds."
    others = " and ".join(f"that of {name} ({last.ssim[name]:.2f})" for name in less)
    return (
        f"{found}; it is higher than {others}, which contradicts the claim. SSIM is "
        f"high where both masks are empty; the masks' overlap is {own.overlap:.2f}."
    )


def randomisation_page(ssim: pd.DataFrame, method: str) -> str:
    """Markdown of a table of `randomise`: the paper's claim, and what was found.

    `method` is the one that the claim is about.
    """
    means = ssim.groupby(["method", "stage"], sort=False)
    columns = ["ssim", "overlap", "empty"]
    rows = [
        [*map(str, place), *(f"{figures[name]:.2f}" for name in columns)]
        for place, figures in means[columns].mean().iterrows()
    ]
    header = ["method", "randomised down to", "SSIM", "overlap"]
    clips = ssim["clip"].nunique()
    return (
        "# Cascading randomisation\n\n"
        f"{PAPER_CLAIM}\n\n{verdict(ssim, method)}\n\n"
        + markdown.table([*header, "SSIM with an empty mask"], rows)
        + f"\nMeans over {clips} clips, of each mask and that of the trained model; "
        "overlap is intersection over union.\n"
    )
