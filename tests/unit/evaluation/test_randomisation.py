"""Cascading randomisation: what is drawn anew, what stays, and how masks compare."""

from __future__ import annotations

import copy
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.explainers import decoder_method
from lmaczs.evaluation.randomisation import (
    PAPER_CLAIM,
    cascade,
    draw_weights,
    randomisation_page,
    randomise,
    stages_from_the_top,
    verdict,
)
from lmaczs.metrics.similarity import soft_iou, ssim
from lmaczs.presence import reference_text

STAGES = ["stage 3", "stage 2", "stage 1", "patch embedding"]
ENCODER = "model.audio_model.audio_encoder"
OWNERS = {  # of the weights that a stage draws anew
    "stage 3": ("model.audio_projection.", f"{ENCODER}.norm.", f"{ENCODER}.layers.2."),
    "stage 2": (f"{ENCODER}.layers.1.",),
    "stage 1": (f"{ENCODER}.layers.0.",),
    "patch embedding": (f"{ENCODER}.patch_embed.",),
}


@pytest.fixture(scope="module")
def trained(tiny_clap: FrozenClap) -> FrozenClap:
    """The tiny CLAP with no weight as any rule would draw it, norms and biases too."""
    clap = copy.deepcopy(tiny_clap)
    rng = torch.Generator().manual_seed(0)
    for name, weight in clap.named_parameters():
        if "audio" in name:
            weight += 0.05 * torch.randn(weight.shape, generator=rng)
    return clap


def weights(clap: FrozenClap) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    return {name: value.clone() for name, value in clap.state_dict().items()}


def changed(clap: FrozenClap, before: dict[str, Tensor]) -> set[str]:
    """Names of the parameters and buffers that are not what they were."""
    after = clap.state_dict()
    assert after.keys() == before.keys()
    return {
        name for name, value in before.items() if not torch.equal(after[name], value)
    }


# --- the cascade --------------------------------------------------------------------


def test_stages_are_the_whole_audio_tower_but_its_input(tiny_clap: FrozenClap) -> None:
    """From the top down, each weight in one stage; the input's norm is in none."""
    stages = stages_from_the_top(tiny_clap)
    assert list(stages) == STAGES
    found = [
        id(weight)
        for modules in stages.values()
        for module in modules
        for weight in module.parameters()
    ]
    expected = {
        id(weight)
        for name, weight in tiny_clap.named_parameters()
        if "audio" in name and "batch_norm" not in name
    }
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_a_deeper_encoder_has_more_stages(laion_like_clap: FrozenClap) -> None:
    """Stages are numbered from the input, and there are as many as the model has."""
    names = [f"stage {number}" for number in (4, 3, 2, 1)]
    assert list(stages_from_the_top(laion_like_clap)) == [*names, "patch embedding"]


def test_cascade_draws_a_stage_more_each_time(trained: FrozenClap) -> None:
    """A stage's weights and those of all above differ; all others stay."""
    before, owners, seen = weights(trained), [], []
    for stage, randomised in cascade(trained):
        owners += OWNERS[stage]
        parameters = [name for name, _ in trained.named_parameters()]
        expected = {n for n in parameters if n.startswith(tuple(owners))}
        assert changed(randomised, before) == expected
        assert not changed(trained, before)
        assert not any(module.training for module in randomised.model.modules())
        assert not any(weight.requires_grad for weight in randomised.parameters())
        seen.append((stage, id(randomised)))
    assert [stage for stage, _ in seen] == STAGES
    assert len({model for _, model in seen}) == 1
    assert seen[0][1] != id(trained)


def test_what_was_drawn_stays_drawn(trained: FrozenClap) -> None:
    """A later stage does not draw an earlier one's weights again."""
    previous: dict[str, Tensor] = {}
    for stage, randomised in cascade(trained):
        if previous:
            names = changed(randomised, previous)
            assert names
            assert all(name.startswith(OWNERS[stage]) for name in names)
        previous = weights(randomised)


def test_input_normalisation_stays(trained: FrozenClap) -> None:
    """It is data: neither its statistics nor its weights are drawn."""
    norm = trained.model.audio_model.audio_encoder.batch_norm
    *_, (_, randomised) = cascade(trained)
    found = randomised.model.audio_model.audio_encoder.batch_norm
    assert found is not norm
    for name, value in norm.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    assert float(found.running_mean.mean()) == pytest.approx(-40)


def test_seed_decides_the_weights(trained: FrozenClap) -> None:
    """The same seed gives the same weights whatever was drawn before."""
    torch.manual_seed(1)
    *_, (_, first) = cascade(trained, seed=4)
    torch.manual_seed(2)
    *_, (_, again) = cascade(trained, seed=4)
    *_, (_, other) = cascade(trained, seed=5)
    assert not changed(again, weights(first))
    names = changed(other, weights(first))
    matrices = {n for n, w in first.named_parameters() if w.dim() > 1}
    for owners in OWNERS.values():
        assert names >= {name for name in matrices if name.startswith(owners)}


def test_cascade_leaves_global_chance_alone(trained: FrozenClap) -> None:
    """Once it is over, what comes next is drawn as if it had not been."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert len(list(cascade(trained, seed=9))) == len(STAGES)
    assert torch.equal(torch.rand(3), expected)


# --- weights ------------------------------------------------------------------------


def test_layers_are_drawn_by_their_own_rule() -> None:
    """A norm is the identity, a linear layer and a convolution as when new."""
    torch.manual_seed(0)
    linear, conv, norm = nn.Linear(64, 500), nn.Conv2d(3, 50, 4), nn.LayerNorm(8)
    for layer in (linear, conv, norm):
        for weight in layer.parameters():
            nn.init.constant_(weight, 9.0)
        draw_weights(layer)
    assert torch.equal(norm.weight, torch.ones(8))
    assert torch.equal(norm.bias, torch.zeros(8))
    for layer, inputs in ((linear, 64), (conv, 3 * 4 * 4)):
        bound = inputs**-0.5  # uniform, by fan-in
        for weight in layer.parameters():
            assert weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_tables_are_drawn_from_a_normal_distribution() -> None:
    """A module's own parameters have deviation 0.02; its parts' are not touched."""
    module = nn.Module()
    module.table = nn.Parameter(torch.full((100, 50), 7.0))
    module.part = nn.Linear(2, 2)
    part = module.part.weight.clone()
    torch.manual_seed(0)
    draw_weights(module)
    assert module.table.std().item() == pytest.approx(0.02, rel=0.05)
    assert module.table.mean().item() == pytest.approx(0, abs=2e-3)
    assert torch.equal(module.part.weight, part)


# --- a comparison -------------------------------------------------------------------


def mask_like(seed: int, *shape: int) -> Tensor:
    """Draw a mask in [0, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def fixed(batch: ExplainerInput) -> Tensor:
    """Explain without a look at the model, by the text and the seed alone."""
    mask = mask_like(batch.seed, 12, 15)
    return torch.stack([mask * row.square().sum() for row in batch.text])


@pytest.fixture(scope="module")
def batch(tiny_clap: FrozenClap) -> ExplainerInput:
    """Two clips, and a prompt for each."""
    wavs = 0.1 * torch.randn(2, 160000, generator=torch.Generator().manual_seed(0))
    wavs[1, :80000] = 0
    front_end = tiny_clap.front_end
    spectrum = front_end.stft(wavs)
    return ExplainerInput(
        tiny_clap,
        spectrum[..., : front_end.n_frames],
        front_end.stft_to_log_mel(spectrum),
        tiny_clap.encode_text(["a dog barking", "heavy rain"]),
        torch.tensor([160000, 160000]),
        seed=2,
    )


def test_randomise_compares_each_stage_with_the_trained_model(
    tiny_clap: FrozenClap, batch: ExplainerInput
) -> None:
    """A row a clip, method and stage; only what looks at the model changes with it."""
    torch.manual_seed(0)
    decoder = MaskDecoder(tiny_clap, "mel", width=8)
    with torch.no_grad():
        decoder.draw.weight.mul_(3)
        decoder.draw.bias.zero_()
    before = weights(tiny_clap)
    methods = {"decoder": decoder_method("decoder", decoder), "fixed": fixed}
    table, masks = randomise(methods, batch)
    assert not changed(tiny_clap, before)
    assert list(table) == ["clip", "method", "stage", "ssim", "overlap", "empty"]
    expected = [
        (clip, name, stage) for stage in STAGES for name in methods for clip in (0, 1)
    ]
    columns = (table["clip"], table["method"], table["stage"])
    assert list(zip(*columns, strict=True)) == expected
    assert masks.keys() == {(n, s) for n in methods for s in ("trained", *STAGES)}
    for name, explain in methods.items():
        assert torch.equal(masks[name, "trained"], explain(batch))
    for _, row in table.iterrows():
        one, other = (
            masks[row["method"], stage][row["clip"]][None]
            for stage in ("trained", row["stage"])
        )
        assert row["ssim"] == pytest.approx(float(ssim(one, other)), abs=1e-9)
        assert row["overlap"] == pytest.approx(float(soft_iou(one, other)), abs=1e-6)
        assert row["empty"] == pytest.approx(float(ssim(one, 0 * one)), abs=1e-9)
    assert table[table.method == "fixed"].ssim.tolist() == pytest.approx([1] * 8)
    assert table[table.method == "decoder"].ssim.max() < 0.999


def test_some_stages_have_the_rows_that_they_have_among_all(
    tiny_clap: FrozenClap, batch: ExplainerInput
) -> None:
    """The stages between are random nevertheless."""
    decoder = MaskDecoder(tiny_clap, "mel", width=8)
    methods = {"decoder": decoder_method("decoder", decoder)}
    every, _ = randomise(methods, batch)
    ends = STAGES[0], STAGES[-1]
    some, masks = randomise(methods, batch, ends)
    expected = every[every.stage.isin(ends)].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, expected)
    assert {stage for _, stage in masks} == {"trained", *ends}


def test_randomise_explains_the_models_of_the_cascade(
    trained: FrozenClap, batch: ExplainerInput
) -> None:
    """Masks of a stage are those of its weights, clip and seed."""

    def of_weights(given: ExplainerInput) -> Tensor:
        weight = given.clap.model.audio_model.audio_encoder.layers[1].blocks[0]
        cells = weight.intermediate.dense.weight[None, :20, :20]
        return cells.sigmoid() * (given.seed / 9)

    batch = replace(batch, clap=trained, seed=7)
    table, masks = randomise({"weights": of_weights}, batch)
    models = {stage: copy.deepcopy(clap) for stage, clap in cascade(trained, 7)}
    for stage, clap in {"trained": trained, **models}.items():
        expected = of_weights(replace(batch, clap=clap))
        assert torch.equal(masks["weights", stage], expected)
    found = table.ssim.tolist()
    assert found[0] == pytest.approx(1)  # the second stage is drawn after the third
    assert found[1] < 0.99
    assert found[1:] == pytest.approx([found[1]] * 3)


# --- the paper's claim --------------------------------------------------------------


def cascaded(**last: float) -> pd.DataFrame:
    """Two clips, two stages, with the SSIM of each method in the last one."""
    rows = [
        (clip, method, stage, value + shift, 0.25 + shift, 0.5 + shift)
        for clip, shift in ((0, -0.01), (1, 0.01))
        for stage in ("stage 2", "patch embedding")
        for method, value in last.items()
    ]
    columns = ["clip", "method", "stage", "ssim", "overlap", "empty"]
    return pd.DataFrame(rows, columns=columns)


def test_the_claim_is_stated_beside_what_was_found() -> None:
    """It holds where no other method changes more; else it is contradicted."""
    against = randomisation_page(cascaded(ours=0.63, cam=0.34), "ours")
    assert PAPER_CLAIM in against
    assert "mean SSIM of ours is 0.63" in against
    assert "higher than that of cam (0.34), which contradicts the claim" in against
    assert "and would be 0.50 with an empty" in against
    assert "overlap is 0.25" in against
    assert "| cam | patch embedding | 0.34 | 0.25 | 0.50 |" in against
    assert "Means over 2 clips" in against
    agrees = verdict(cascaded(ours=0.2, cam=0.34), "ours")
    assert agrees.endswith("the claim holds.")
    assert "contradicts" not in agrees


def test_random_models_share_the_reference_prompts(tiny_clap: FrozenClap) -> None:
    """Their text tower is the model's: nothing is embedded again."""
    text = reference_text(tiny_clap)
    for _, model in cascade(tiny_clap):
        assert reference_text(model) is text
