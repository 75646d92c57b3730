"""Our terms against slow loops over their definitions."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lmaczs.objectives.extensions import (
    absent_term,
    interference_term,
    leakage_term,
    mask_diversity_term,
    masked_in_contrast_term,
    masked_out_contrast_term,
    masked_out_similarity_term,
    omission_term,
)
from lmaczs.objectives.source_power import relative_power
from lmaczs.objectives.terms import MaskedPairs

SAME = 0.8


def mean(values: list[float]) -> float:
    """Mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def dot(a: Tensor, b: Tensor) -> float:
    """Sum of products, in plain Python."""
    pairs = zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
    return sum(x * y for x, y in pairs)


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine in plain Python."""
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


@pytest.mark.parametrize("rejected_up_to", [0.0, 0.9])
def test_absent_is_a_loop_over_absent_prompts(
    pairs: MaskedPairs, rejected_up_to: float
) -> None:
    """Area and power of absent prompts' masks, the less the higher they rank."""
    expected = []
    for row in range(len(pairs.presence)):
        costs = []
        for i in range(pairs.presence.shape[1]):
            mask = pairs.masks[row, i]
            beyond = (1 - float(pairs.presence[row, i])) / (1 - rejected_up_to)
            kept = mean(mask.flatten().tolist()) + dot(mask, pairs.power[row])
            if not pairs.present[row, i]:
                costs.append(min(1.0, beyond) * kept / 2)
        expected.append(mean(costs))
    given = pairs.masks, pairs.power, pairs.present, pairs.presence, rejected_up_to
    assert torch.allclose(absent_term(*given), torch.tensor(expected), atol=1e-6)
    assert len(set(expected)) > 2


@pytest.mark.parametrize(
    ("presence", "cost"), [(0.0, 1.0), (0.9, 1.0), (0.92, 0.8), (0.95, 0.5), (1.0, 0.0)]
)
def test_absent_prompts_that_the_model_accepts_cost_less(
    presence: float, cost: float
) -> None:
    """All up to the given rank, nothing at the first; nothing where all are present."""
    masks, ranks = torch.ones(1, 2, 3, 3), torch.full((1, 2), presence)
    absent = torch.zeros(1, 2, dtype=torch.bool)
    power = torch.full((1, 3, 3), 1 / 9)
    found = absent_term(masks, power, absent, ranks, 0.9).item()
    assert found == pytest.approx(cost, abs=1e-6)
    assert absent_term(masks, power, ~absent, ranks, 0.9).item() == 0


def test_absent_prompts_pay_for_power_as_well_as_for_area() -> None:
    """One cell in nine costs a ninth of the area and all of the power in it."""
    masks, power = torch.zeros(1, 1, 3, 3), torch.zeros(1, 3, 3)
    masks[..., 1, 2], power[..., 1, 2] = 1, 1
    absent, last = torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1, 1)
    found = absent_term(masks, power, absent, last, 0.9).item()
    assert found == pytest.approx((1 / 9 + 1) / 2)
    silence = relative_power(torch.zeros(1, 3, 3))
    found = absent_term(masks, silence, absent, last, 0.9).item()
    assert found == pytest.approx(1 / 18)


def test_mask_diversity_is_a_loop_over_pairs_of_prompts(pairs: MaskedPairs) -> None:
    """Only the excess of the masks' cosine over the prompts' costs."""
    expected = []
    for masks, text in zip(pairs.masks, pairs.text, strict=True):
        excess = [
            max(0.0, cosine(masks[i], masks[k]) - max(0.0, dot(text[i], text[k])))
            for i in range(len(text))
            for k in range(i + 1, len(text))
        ]
        expected.append(mean(excess))
    actual = mask_diversity_term(pairs.masks, pairs.text)
    assert torch.allclose(actual, torch.tensor(expected), atol=1e-6)


def test_mask_diversity_at_its_ends() -> None:
    """Same prompt: free. Disjoint masks: free. One prompt: nothing to compare."""
    mask = torch.rand(1, 1, 4, 4)
    prompt, other = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    same = torch.cat([mask, mask], 1)
    twice, both = torch.cat([prompt, prompt], 1), torch.cat([prompt, other], 1)
    assert mask_diversity_term(same, twice).item() == pytest.approx(0, abs=1e-6)
    assert mask_diversity_term(same, both).item() == pytest.approx(1, abs=1e-6)
    disjoint = torch.eye(2).view(1, 2, 1, 2)
    assert mask_diversity_term(disjoint, both).item() == 0
    assert mask_diversity_term(mask, prompt).tolist() == [0]


def test_mask_diversity_of_empty_masks_has_finite_gradients(
    unit: Callable[..., Tensor],
) -> None:
    """A mask that is zero everywhere has no direction; it must not make NaN."""
    masks = torch.zeros(2, 2, 3, 3, requires_grad=True)
    mask_diversity_term(masks, unit(2, 2, 8)).sum().backward()
    assert masks.grad.isfinite().all()


def test_masked_out_similarity_is_the_cosine_above_zero(pairs: MaskedPairs) -> None:
    """Of the first prompt and the masked-out signal; a negative one is free."""
    text = pairs.text[:, 0]
    expected = [
        max(0.0, dot(t, r)) for t, r in zip(text, pairs.masked_out, strict=True)
    ]
    found = masked_out_similarity_term(pairs.masked_out, text)
    torch.testing.assert_close(found, torch.tensor(expected))
    assert min(expected) == 0 < max(expected)


def test_leakage_is_a_loop_over_pairs_of_present_prompts(pairs: MaskedPairs) -> None:
    """What the mask of one carries of another, beyond the texts' own cosine."""
    expected = []
    for row, present in enumerate(pairs.present):
        there = [i for i, one in enumerate(present) if one]
        text, masked = pairs.text[row], pairs.masked_in[row]
        excess = [
            max(0.0, dot(text[k], masked[i]) - max(0.0, dot(text[i], text[k])))
            for i in there
            for k in there
            if i != k
        ]
        expected.append(mean(excess))
    actual = leakage_term(pairs.masked_in, pairs.text, pairs.present)
    assert max(expected) > 0.05
    assert torch.allclose(actual, torch.tensor(expected), atol=1e-6)
    alone = torch.tensor([[True, False, False]]).expand(len(expected), -1)
    assert not leakage_term(pairs.masked_in, pairs.text, alone).any()


def test_interference_and_omission_are_loops_over_cells(pairs: MaskedPairs) -> None:
    """Power of the rest that a mask keeps, power of the target that it leaves out."""
    expected: list[tuple[float, float]] = []
    for row, present in enumerate(pairs.present):
        there = [i for i, one in enumerate(present) if one]
        masks, target = pairs.masks[row], pairs.sources.target[row]
        rest = pairs.sources.interference[row]
        kept = [dot(masks[i], rest[i]) for i in there]
        omitted = [dot(1 - masks[i], target[i]) for i in there]
        expected.append((mean(kept), mean(omitted)))
    given = pairs.masks, pairs.sources.interference, pairs.present
    interference = interference_term(*given)
    omission = omission_term(pairs.masks, pairs.sources.target, pairs.present)
    found = torch.stack([interference, omission], 1)
    torch.testing.assert_close(found, torch.tensor(expected))
    nothing = torch.zeros_like(pairs.masks)
    assert not interference_term(nothing, *given[1:]).any()
    assert not omission_term(nothing + 1, pairs.sources.target, pairs.present).any()


def with_similar_classes(pairs: MaskedPairs) -> Tensor:
    """Classes of which some mean the same as a prompt."""
    same = [pairs.text[:2, 0], 0.9 * pairs.text[2:3, 0]]
    return torch.cat([pairs.classes, *same])


def test_masked_in_contrast_is_a_loop_over_classes(pairs: MaskedPairs) -> None:
    """Minus the log-probability of a prompt among classes that mean something else."""
    classes = with_similar_classes(pairs)
    expected = []
    for row, present in enumerate(pairs.present):
        costs = []
        for i in [i for i, one in enumerate(present) if one]:
            text, masked = pairs.text[row, i], pairs.masked_in[row, i]
            own = math.exp(10 * dot(text, masked))
            others = [c for c in classes if dot(c, text) <= SAME]
            total = own + sum(math.exp(10 * dot(c, masked)) for c in others)
            costs.append(-math.log(own / total))
        expected.append(mean(costs))
    given = pairs.masked_in, pairs.text
    found = masked_in_contrast_term(*given, pairs.present, classes, 10.0, SAME)
    torch.testing.assert_close(found, torch.tensor(expected))
    nobody = torch.zeros_like(pairs.present)
    assert not masked_in_contrast_term(*given, nobody, classes, 10.0, SAME).any()


def test_masked_out_contrast_is_a_loop_over_classes(pairs: MaskedPairs) -> None:
    """Minus the log-probability of any class that means something else."""
    classes = with_similar_classes(pairs)
    expected = []
    for text, masked in zip(pairs.text[:, 0], pairs.masked_out, strict=True):
        own = math.exp(10 * dot(text, masked))
        others = [c for c in classes if dot(c, text) <= SAME]
        rest = sum(math.exp(10 * dot(c, masked)) for c in others)
        expected.append(-math.log(rest / (own + rest)))
    given = pairs.masked_out, pairs.text[:, 0], classes, 10.0, SAME
    torch.testing.assert_close(masked_out_contrast_term(*given), torch.tensor(expected))
    assert max(expected) > 1


def test_which_classes_mean_the_same_is_a_given_cosine(pairs: MaskedPairs) -> None:
    """Above -1.1 every class does: nothing is left to contrast with."""
    text, there = pairs.text, torch.ones_like(pairs.present)
    classes = pairs.classes
    every = masked_in_contrast_term(pairs.masked_in, text, there, classes, 10.0, -1.1)
    assert not every.any()
    none = masked_in_contrast_term(pairs.masked_in, text, there, classes, 10.0, 1.1)
    assert (none > 0).all()


def test_masked_out_contrast_without_other_classes_is_free(pairs: MaskedPairs) -> None:
    """And has finite gradients."""
    masked_out = pairs.masked_out.clone().requires_grad_()
    same = pairs.text[:1, 0]
    text = same.expand(len(masked_out), -1)
    cost = masked_out_contrast_term(masked_out, text, same, 10.0, SAME)
    assert not cost.any()
    cost.sum().backward()
    assert torch.isfinite(masked_out.grad).all()


def test_masked_in_contrast_without_other_classes_is_free(pairs: MaskedPairs) -> None:
    """And has finite gradients."""
    text = pairs.text[:, :1].clone().requires_grad_()
    same, there = text[:1].expand(2, 1, -1), torch.ones(2, 1).bool()
    masked, classes = pairs.masked_in[:2, :1], pairs.text[:1, 0]
    cost = masked_in_contrast_term(masked, same, there, classes, 10.0, SAME)
    assert cost.tolist() == [0, 0]
    cost.sum().backward()
    assert torch.isfinite(text.grad).all()
