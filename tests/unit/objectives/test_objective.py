"""Objectives: which terms are computed, how they add up, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lmaczs.objectives.extensions import masked_out_similarity_term
from lmaczs.objectives.guidance import LogMagnitude
from lmaczs.objectives.objective import (
    OBJECTIVES,
    Objective,
    make_objective,
    share_prompts,
    use_predicted_prompt,
)
from lmaczs.objectives.paper import (
    ObjectiveError,
    masked_in_term,
    masked_out_term,
    sparsity_term,
)
from lmaczs.objectives.source_power import SourcePower
from lmaczs.objectives.terms import MaskedPairs

OPTIONS = {
    **{"absent_presence": 0.9, "same_prompt_cosine": 0.8},
    **{"crosscor_threshold": 0.6, "binarise_level": 0.35},
}
WEIGHTS = {
    "lmaczs": {name: 0.1 * place for place, name in enumerate(OBJECTIVES["lmaczs"], 1)},
    "lmaczs_paper": {"all_pairs_similarity": 1.0, "sparsity": 0.3, "diversity": 0.1},
    "lmac": {
        **{"masked_in": 4.0, "masked_out": 0.2},
        **{"sparsity": 6.4, "total_variation": 0.5},
    },
    "lmac_finetuning": {
        **{"masked_in": 4.0, "masked_out": 0.2, "guidance": 4.0},
        **{"unguided_sparsity": 6.4, "unguided_total_variation": 0.5},
    },
}


def make(name: str, **changes: Any) -> Objective:
    """Make an objective with a weight for each of its terms."""
    return make_objective(name, **{"loss_weights": WEIGHTS, **OPTIONS, **changes})


def twice(pairs: MaskedPairs) -> MaskedPairs:
    """The batch, and every clip of it once more."""
    whole = {"classes", "logit_scale", "sources", "magnitude"}
    names = [f.name for f in fields(MaskedPairs) if f.name not in whole]
    doubled = {name: torch.cat([getattr(pairs, name)] * 2) for name in names}
    sources = SourcePower(*(torch.cat([one] * 2) for one in pairs.sources))
    magnitude = LogMagnitude(*(torch.cat([one] * 2) for one in pairs.magnitude))
    return replace(pairs, sources=sources, magnitude=magnitude, **doubled)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_is_the_weighted_sum(pairs: MaskedPairs, name: str) -> None:
    """Each term under its name; the loss is their weighted sum."""
    terms = make(name)(pairs)
    assert terms.keys() == {*WEIGHTS[name], "loss"}
    expected = sum(w * terms[term] for term, w in WEIGHTS[name].items())
    torch.testing.assert_close(terms["loss"], expected)


def test_terms_are_means_over_clips(pairs: MaskedPairs) -> None:
    """Of what the functions give for each clip."""
    terms = make("lmaczs")(pairs)
    expected = masked_out_similarity_term(pairs.masked_out, pairs.text[:, 0]).mean()
    torch.testing.assert_close(terms["masked_out_similarity"], expected)
    torch.testing.assert_close(terms["sparsity"], sparsity_term(pairs.masks).mean())


def test_options_reach_the_terms(pairs: MaskedPairs) -> None:
    """Sides and ranks are those that the objective was made with."""
    terms = make("lmaczs")(pairs)
    two_sided = make("lmaczs", absent_prompts="two-sided")(pairs)
    assert two_sided["similarity"] > terms["similarity"]
    assert make("lmaczs", absent_presence=0.0)(pairs)["absent"] < terms["absent"]
    every_class_is_the_same = make("lmaczs", same_prompt_cosine=-1.1)(pairs)
    for name in ("masked_in_contrast", "masked_out_contrast"):
        assert every_class_is_the_same[name] == 0 < terms[name]


def test_lmac_explains_the_class_that_is_predicted(pairs: MaskedPairs) -> None:
    """The target is the argmax on the input, whatever the mask makes of it."""
    terms = make("lmac")(pairs)
    target = (pairs.embedding @ pairs.classes.T).argmax(-1)
    inside = pairs.class_logits(pairs.masked_in[:, 0])
    outside = pairs.class_logits(pairs.masked_out)
    expected = masked_in_term(inside, target).mean()
    torch.testing.assert_close(terms["masked_in"], expected)
    expected = masked_out_term(outside, target).mean()
    torch.testing.assert_close(terms["masked_out"], expected)
    explaining = [name for name in OBJECTIVES if make(name).explains_prediction]
    assert explaining == ["lmac", "lmac_finetuning"]


def test_guided_clips_pay_for_guidance_and_the_others_for_area(
    pairs: MaskedPairs,
) -> None:
    """In the fine-tuning of L-MAC; by a threshold out of reach it is L-MAC."""
    weights, changes = WEIGHTS["lmac_finetuning"], {"crosscor_threshold": 1.1}
    plain, unguided = make("lmac")(pairs), make("lmac_finetuning", **changes)(pairs)
    assert unguided["guidance"] == 0
    torch.testing.assert_close(unguided["loss"], plain["loss"])
    every = make("lmac_finetuning", crosscor_threshold=0.0)(pairs)
    assert every["unguided_sparsity"] == every["unguided_total_variation"] == 0
    expected = sum(w * every[k] for k, w in weights.items() if "unguided" not in k)
    torch.testing.assert_close(every["loss"], expected)
    assert make("lmac_finetuning").needs == {"masked_out", "magnitude"}


def test_paper_objective_is_eq_6_by_the_number_of_pairs(
    unit: Callable[..., Tensor], pairs: MaskedPairs
) -> None:
    """Its sum over the batch; lambda_1 is a weight divided by the number of cells."""
    clips, cells = len(pairs.masks), pairs.masks[0, 0].numel()
    prompts = unit(clips, 8, seed=20)
    sounds = unit(clips, clips, 8, seed=21)  # of clip j under the mask for prompt i
    masks = pairs.masks[:, :1] * torch.linspace(0.1, 1, clips)[:, None, None]
    lambda_1, lambda_2 = 0.3 / cells, 0.1
    total = 0.0
    for j in range(clips):
        for i in range(clips):
            change = prompts[i] @ pairs.embedding[j] - prompts[i] @ sounds[j, i]
            total += float(change.abs() + lambda_1 * masks[j, i].abs().sum())
            if i != j:
                gap = prompts[j] @ prompts[i] - sounds[j, j] @ sounds[j, i]
                total += lambda_2 * float(gap.abs())
    text, present = share_prompts(prompts, 0, clips, 0.8)
    own_first = [[(j + k) % clips for k in range(clips)] for j in range(clips)]
    rows = torch.arange(clips)[:, None]
    batch = replace(
        pairs,
        text=text,
        present=present,
        masks=masks[rows, own_first],
        masked_in=sounds[rows, own_first],
    )
    loss = make("lmaczs_paper")(batch)["loss"]
    assert loss.item() * clips**2 == pytest.approx(total, rel=1e-5)
    assert make("lmaczs_paper").explains_batch
    assert not make("lmaczs").explains_batch


def test_share_prompts_gives_all_of_the_batch(unit: Callable[..., Tensor]) -> None:
    """A clip's own prompt first, then each other one once; parts are parts of it."""
    own = unit(4, 8)
    own[2] = own[0]
    text, present = share_prompts(own, 0, 4, 0.8)
    for row in range(4):
        assert torch.equal(text[row, 0], own[row])
        assert sorted(text[row].tolist()) == sorted(own.tolist())
    same = [[True, False, True, False], [True, False, False, False]]
    assert present.tolist() == [same[0], same[1], same[0], same[1]]
    part = share_prompts(own, 2, 2, 0.8)
    assert torch.equal(part[0], text[2:])
    assert torch.equal(part[1], present[2:])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_do_not_grow_with_the_batch(pairs: MaskedPairs, name: str) -> None:
    """Every clip twice: every term and the loss stay as they are."""
    once, doubled = make(name)(pairs), make(name)(twice(pairs))
    for term, value in once.items():
        assert torch.allclose(value, doubled[term], atol=1e-6), term


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_reach_masks_and_masked_sounds(pairs: MaskedPairs, name: str) -> None:
    """They are finite and not 0."""
    objective = make(name)
    parts = {"masks", "masked_in", *({"masked_out"} & objective.needs)}
    leaves = {part: getattr(pairs, part).clone().requires_grad_() for part in parts}
    objective(replace(pairs, **leaves))["loss"].backward()
    for part, leaf in leaves.items():
        assert leaf.grad.isfinite().all(), part
        assert leaf.grad.abs().max() > 0, part


@pytest.mark.parametrize(
    ("weights", "needs"),
    [
        ({"similarity": 1, "sparsity": 1, "absent": 0}, set()),
        ({"sparsity": 1, "absent": 1}, {"power", "presence"}),
        ({"omission": 1, "interference": 2}, {"sources"}),
        ({"masked_out_contrast": 1, "masked_out_similarity": 1}, {"masked_out"}),
    ],
)
def test_terms_without_weight_are_not_computed(
    pairs: MaskedPairs, weights: dict[str, float], needs: set[str]
) -> None:
    """What they alone would read need not be there, and they are not logged."""
    objective = make("lmaczs", loss_weights={"lmaczs": weights})
    assert objective.needs == needs
    fields_left_out = dict.fromkeys(
        {"power", "presence", "sources", "masked_out"} - needs
    )
    terms = objective(replace(pairs, **fields_left_out))
    assert terms.keys() == {name for name, w in weights.items() if w} | {"loss"}


def test_unknown_sources_cost_nothing(pairs: MaskedPairs) -> None:
    """Where no clip's sources are known, their terms are 0 for each clip."""
    terms = make("lmaczs")(replace(pairs, sources=None))
    assert terms["interference"] == terms["omission"] == 0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_weight_is_replaced_by_itself(name: str) -> None:
    """A weight beside the named blocks changes that of the chosen objective alone."""
    one = next(term for term in WEIGHTS[name] if "sparsity" in term)
    objective = make(name, loss_weights={**WEIGHTS, one: 3})
    assert objective.weights == {**WEIGHTS[name], one: 3}
    alone = make(name, loss_weights=WEIGHTS[name])
    assert alone.weights == WEIGHTS[name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "lmacs"}, "objective: there is no 'lmacs', do you mean lmac"),
        ({"objective": "gradcam"}, "no 'gradcam', it may be lmaczs, lmac"),
        ({"loss_weights": {"sparsty": 1}}, "no 'sparsty', do you mean sparsity"),
        ({"loss_weights": {"lmaczz": {}}}, "no 'lmaczz', do you mean lmaczs"),
        ({"loss_weights": {"masked_in": 1}}, "no 'masked_in', do you mean masked_"),
        ({"loss_weights": {"sparsity": "high"}}, "sparsity is 'high': give it a num"),
        ({"loss_weights": {"sparsity": 0}}, "has none for lmaczs"),
        ({"present_prompts": "both"}, "present_prompts is 'both', not one of"),
        ({"margin": 0.1}, "margin is 0.1, but present_prompts is 'two-sided'"),
    ],
)
def test_what_is_misspelt_is_refused(changes: dict[str, Any], message: str) -> None:
    """In one sentence, when the objective is made."""
    values = {"objective": "lmaczs", "loss_weights": WEIGHTS, **OPTIONS, **changes}
    with pytest.raises(ObjectiveError, match=message):
        make_objective(**values)


def test_predicted_prompt_replaces_the_first_one() -> None:
    """Of the chosen clips alone; prompts that mean the same are present, then."""
    one, other, third, predicted = torch.eye(4)
    rows = [[one, predicted], [other, third], [one, one], [other, third]]
    text = torch.stack([torch.stack(row) for row in rows])
    present = torch.tensor([[True, False]] * 4)
    given = text, present, torch.tensor([True, True, False, False])
    every = predicted.expand(4, -1)
    found, there, as_before = use_predicted_prompt(*given, every, 0.8)
    assert torch.equal(found[:, 1], text[:, 1])
    expected = torch.stack([predicted, predicted, one, other])
    assert torch.equal(found[:, 0], expected)
    assert there.tolist() == [[True, True], [True, False], [True, False], [True, False]]
    assert as_before.tolist() == [False, False, True, True]
    *_, as_before = use_predicted_prompt(*given, text[:, 0], 0.8)
    assert as_before.all()
