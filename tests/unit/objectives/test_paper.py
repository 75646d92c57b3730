"""Every term against a slow loop over its definition, and the two objectives."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn

from lmaczs.objectives.extensions import (
    ALIKE,
    absent_term,
    contrast_term,
    interference_term,
    leakage_term,
    omission_term,
    removed_term,
    residual_term,
    share_of_whole,
    shares_of_power,
)
from lmaczs.objectives.objective import (
    LmacObjective,
    LmacZsObjective,
    Pairs,
    ask_predicted,
    make_objective,
)
from lmaczs.objectives.paper import (
    diversity_term,
    masked_in_term,
    masked_out_term,
    similarity_term,
    sparsity_term,
    weighted_sum,
)

BATCH, PROMPTS, DIM, CLASSES, FREQ, TIME = 5, 3, 8, 4, 6, 7
LMACZS_WEIGHTS = {
    "similarity": 1.0,
    "sparsity": 0.3,
    "diversity": 0.1,
    "removed": 0.2,
    "absent": 0.4,
    "leakage": 0.5,
    "interference": 0.6,
    "omission": 0.8,
    "residual": 0.2,
    "contrast": 0.7,
}
LMAC_WEIGHTS = {"masked_in": 1.0, "masked_out": 0.2, "sparsity": 0.4}


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Draw normal values of a fixed seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Draw unit vectors."""
    return nn.functional.normalize(draw(*shape, seed=seed), dim=-1)


@pytest.fixture
def pairs() -> Pairs:
    """Five clips with three prompts each; the first is present, others now and then."""
    present = draw(BATCH, PROMPTS, seed=9) > 0.3
    present[:, 0] = True
    return Pairs(
        text=unit(BATCH, PROMPTS, DIM, seed=1),
        present=present,
        masks=draw(BATCH, PROMPTS, FREQ, TIME, seed=2).sigmoid(),
        power=share_of_whole(draw(BATCH, FREQ, TIME, seed=9).square()),
        own=draw(BATCH, PROMPTS, FREQ, TIME, seed=8).square() / 1000,
        others=draw(BATCH, PROMPTS, FREQ, TIME, seed=7).square() / 1000,
        embedding=unit(BATCH, DIM, seed=3),
        masked=unit(BATCH, PROMPTS, DIM, seed=4),
        removed=unit(BATCH, DIM, seed=5),
        classes=unit(CLASSES, DIM, seed=6),
        logit_scale=10.0,
    )


def twice(pairs: Pairs) -> Pairs:
    """The batch, and every clip of it once more."""
    per_clip = [
        f.name for f in fields(Pairs) if f.name not in ("classes", "logit_scale")
    ]
    doubled = {n: torch.cat([getattr(pairs, n)] * 2) for n in per_clip}
    return replace(pairs, **doubled)


def mean(values: list[float]) -> float:
    """Mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def dot(a: Tensor, b: Tensor) -> float:
    """Sum of products, in plain Python."""
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine in plain Python."""
    a, b = a.flatten(), b.flatten()
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


# --- terms --------------------------------------------------------------------------


@pytest.mark.parametrize("of_absent", ["one-sided", "two-sided"])
@pytest.mark.parametrize("of_present", ["one-sided", "two-sided"])
def test_similarity_is_a_loop_over_pairs(
    pairs: Pairs, of_present: str, of_absent: str
) -> None:
    """One-sided: of a present prompt only loss counts, of an absent one only gain."""
    expected = []
    for row in range(BATCH):
        present, absent = [], []
        for column in range(PROMPTS):
            text = pairs.text[row, column]
            change = dot(text, pairs.masked[row, column])
            change -= dot(text, pairs.embedding[row])
            if pairs.present[row, column]:
                two_sided = of_present == "two-sided"
                present.append(abs(change) if two_sided else max(-change, 0.0))
            else:
                two_sided = of_absent == "two-sided"
                absent.append(abs(change) if two_sided else max(change, 0.0))
        expected.append(mean(present) + mean(absent))
    actual = similarity_term(
        pairs.masked_similarity,
        pairs.original_similarity,
        pairs.present,
        absent_prompts=of_absent,
        present_prompts=of_present,
    )
    assert torch.allclose(actual, torch.tensor(expected), atol=1e-6)


def test_similarity_by_default_is_strict_on_what_is_present() -> None:
    """Of a present prompt less and more cost; of an absent one less is free."""
    original = torch.tensor([[0.5, 0.5]])
    less, more = original - 0.2, original + 0.3
    absent, present = torch.tensor([[False, False]]), torch.tensor([[True, True]])
    assert similarity_term(less, original, absent).item() == 0
    assert similarity_term(more, original, absent).item() == pytest.approx(0.3)
    assert similarity_term(less, original, present).item() == pytest.approx(0.2)
    assert similarity_term(more, original, present).item() == pytest.approx(0.3)


def test_similarity_of_what_is_present_should_rise_by_the_margin() -> None:
    """Up to the margin a rise is asked for; an absent prompt's never is."""
    original = torch.tensor([[0.5, 0.5]])
    absent, present = torch.tensor([[False, False]]), torch.tensor([[True, True]])

    def cost(change: float, there: Tensor) -> float:
        one_sided = "one-sided", "one-sided", 0.1
        return similarity_term(original + change, original, there, *one_sided).item()

    assert cost(0.0, present) == pytest.approx(0.1)
    assert cost(0.04, present) == pytest.approx(0.06)
    assert cost(0.2, present) == 0
    assert cost(0.0, absent) == 0
    with pytest.raises(ValueError, match="margin is 0.1, but present_prompts"):
        similarity_term(original, original, present, margin=0.1)


@pytest.mark.parametrize("option", ["absent_prompts", "present_prompts"])
def test_misspelt_sides_are_refused(pairs: Pairs, option: str) -> None:
    """The sentence names the option and what it may be, from the objective too."""
    cosines = torch.zeros(1, 2)
    with pytest.raises(ValueError, match=f"{option} is 'one sided', not one of"):
        similarity_term(cosines, cosines, cosines > 0, **{option: "one sided"})
    weights = {"lmaczs": LMACZS_WEIGHTS}
    with pytest.raises(ValueError, match=f"{option} is 'both'"):
        make_objective("lmaczs", weights, **{option: "both"})(pairs)


def test_sparsity_is_the_mean_of_a_clips_masks(pairs: Pairs) -> None:
    """Everything kept costs one, nothing kept nothing."""
    expected = [mean(clip.flatten().tolist()) for clip in pairs.masks]
    assert torch.allclose(sparsity_term(pairs.masks), torch.tensor(expected))
    assert (sparsity_term(torch.ones(2, 1, 3, 3)) == 1).all()
    assert (sparsity_term(torch.zeros(2, 1, 3, 3)) == 0).all()


def test_absent_is_a_loop_over_absent_prompts(pairs: Pairs) -> None:
    """Masks of prompts that are not there, the less the model agrees with them."""
    original = pairs.original_similarity
    expected = []
    for row in range(BATCH):
        costs = []
        for i in range(PROMPTS):
            mask = pairs.masks[row, i].flatten()
            unheard = max(0.0, 1 - max(0.0, float(original[row, i])) / 0.3)
            heard = dot(mask, pairs.power[row].flatten())
            if not pairs.present[row, i]:
                costs.append(unheard * (mean(mask.tolist()) + heard) / 2)
        expected.append(mean(costs) if costs else 0.0)
    actual = absent_term(pairs.masks, pairs.power, pairs.present, original)
    assert torch.allclose(actual, torch.tensor(expected), atol=1e-6)
    assert len(set(expected)) > 2


@pytest.mark.parametrize(
    ("similarity", "cost"),
    [(-1.0, 1.0), (0.0, 1.0), (0.06, 0.8), (0.3, 0.0), (0.9, 0.0)],
)
def test_absent_prompts_that_the_model_hears_cost_less(
    similarity: float, cost: float
) -> None:
    """Nothing from a cosine of 0.3 on; nothing where all prompts are there."""
    masks, original = torch.ones(1, 2, 3, 3), torch.full((1, 2), similarity)
    nobody = torch.zeros(1, 2, dtype=torch.bool)
    power = torch.full((1, 3, 3), 1 / 9)
    assert absent_term(masks, power, nobody, original).item() == pytest.approx(cost)
    assert absent_term(masks, power, ~nobody, original).item() == 0


def test_absent_prompts_are_to_be_quiet_as_well_as_small() -> None:
    """One cell in nine costs little to see, and all that it holds to hear."""
    masks, power = torch.zeros(1, 1, 3, 3), torch.zeros(1, 3, 3)
    masks[..., 1, 2], power[..., 1, 2] = 1, 1
    nobody, unlike = torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1, 1)
    found = absent_term(masks, power, nobody, unlike).item()
    assert found == pytest.approx((1 / 9 + 1) / 2)
    silence = share_of_whole(torch.zeros(1, 3, 3))
    found = absent_term(masks, silence, nobody, unlike).item()
    assert found == pytest.approx(1 / 18)


def test_share_of_whole_is_a_division() -> None:
    """Of each clip by its own sum; silence has no shares."""
    power = draw(3, FREQ, TIME).square()
    power[1] = 0
    shares = share_of_whole(power)
    for row in (0, 2):
        whole = sum(power[row].flatten().tolist())
        torch.testing.assert_close(shares[row], power[row] / whole)
    assert not shares[1].any()


def test_diversity_is_a_loop_over_pairs_of_prompts(pairs: Pairs) -> None:
    """Only the excess of the masks' cosine over the prompts' costs."""
    expected = []
    for masks, text in zip(pairs.masks, pairs.text, strict=True):
        excess = [
            max(0.0, cosine(masks[i], masks[k]) - max(0.0, dot(text[i], text[k])))
            for i in range(PROMPTS)
            for k in range(i + 1, PROMPTS)
        ]
        expected.append(mean(excess))
    actual = diversity_term(pairs.masks, pairs.text)
    assert torch.allclose(actual, torch.tensor(expected), atol=1e-6)


def test_diversity_at_its_ends() -> None:
    """Same prompt: free. Disjoint masks: free. One prompt: nothing to compare."""
    mask = torch.rand(1, 1, 4, 4)
    prompt, other = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    same = torch.cat([mask, mask], 1)
    assert diversity_term(same, torch.cat([prompt, prompt], 1)).item() == (
        pytest.approx(0, abs=1e-6)
    )
    assert diversity_term(same, torch.cat([prompt, other], 1)).item() == (
        pytest.approx(1, abs=1e-6)
    )
    apart = torch.eye(2).view(1, 2, 1, 2)
    assert diversity_term(apart, torch.cat([prompt, other], 1)).item() == 0
    assert diversity_term(mask, prompt).tolist() == [0]


def test_diversity_of_empty_masks_has_finite_gradients() -> None:
    """A mask that is zero everywhere has no direction; it must not make NaN."""
    masks = torch.zeros(2, 2, 3, 3, requires_grad=True)
    diversity_term(masks, unit(2, 2, DIM)).sum().backward()
    assert masks.grad.isfinite().all()


def test_what_is_removed_costs_what_it_carries() -> None:
    """Similarity above zero, as it is."""
    removed = removed_term(torch.tensor([-0.5, 0.0, 0.25]))
    assert removed.tolist() == [0, 0, 0.25]


def test_leakage_is_a_loop_over_pairs_of_present_prompts(pairs: Pairs) -> None:
    """What the mask of one carries of another, beyond what the texts share."""
    expected = []
    for row in range(BATCH):
        there = [i for i in range(PROMPTS) if pairs.present[row, i]]
        text, masked = pairs.text[row], pairs.masked[row]
        excess = [
            max(0.0, dot(text[k], masked[i]) - max(0.0, dot(text[i], text[k])))
            for i in there
            for k in there
            if i != k
        ]
        expected.append(mean(excess))
    actual = leakage_term(pairs.masked, pairs.text, pairs.present)
    assert max(expected) > 0.05
    assert torch.allclose(actual, torch.tensor(expected), atol=1e-6)
    alone = torch.tensor([[True, False, False]]).expand(BATCH, -1)
    assert leakage_term(pairs.masked, pairs.text, alone).tolist() == [0] * BATCH


def test_known_sounds_are_a_loop_over_cells(pairs: Pairs) -> None:
    """Shares of power: what a mask keeps of others, and omits of the prompt's own."""
    own, others = (draw(BATCH, PROMPTS, FREQ, TIME, seed=s).square() for s in (11, 12))
    others[1], own[2], others[3], own[3] = 0, 0, 0, 0
    shares = shares_of_power(own, others)
    expected: list[tuple[float, float]] = []
    for row in range(BATCH):
        kept, omitted = [], []
        for i in range(PROMPTS):
            mask = pairs.masks[row, i].flatten()
            mine, beside = own[row, i].flatten(), others[row, i].flatten()
            whole = float(mine.sum() + beside.sum())
            if pairs.present[row, i]:
                kept.append(dot(mask, beside) / whole if whole else 0.0)
                omitted.append(dot(1 - mask, mine) / whole if beside.any() else 0.0)
        expected.append((mean(omitted), mean(kept)))
    omission = omission_term(pairs.masks, shares[0], pairs.present)
    interference = interference_term(pairs.masks, shares[1], pairs.present)
    found = torch.stack([omission, interference], 1)
    torch.testing.assert_close(found, torch.tensor(expected))
    assert found[1].tolist() == found[3].tolist() == [0, 0]
    assert found[2, 0] == 0
    assert float(
        (shares[0] + shares[1])[[0, 2, 4]].sum((2, 3)).mean()
    ) == pytest.approx(1)
    nothing = torch.zeros_like(pairs.masks)
    assert not interference_term(nothing, shares[1], pairs.present).any()
    assert not omission_term(nothing + 1, shares[0], pairs.present).any()


def test_contrast_is_a_loop_over_classes(pairs: Pairs) -> None:
    """Minus the log-probability of a prompt among classes that say something else."""
    classes = torch.cat([pairs.classes, pairs.text[:2, 0], 0.9 * pairs.text[2:3, 0]])
    expected = []
    for row in range(BATCH):
        costs = []
        for i in range(PROMPTS):
            if not pairs.present[row, i]:
                continue
            text, masked = pairs.text[row, i], pairs.masked[row, i]
            own = math.exp(10 * dot(text, masked))
            others = [c for c in classes if dot(c, text) <= ALIKE]
            total = own + sum(math.exp(10 * dot(c, masked)) for c in others)
            costs.append(-math.log(own / total))
        expected.append(mean(costs))
    actual = contrast_term(pairs.masked, pairs.text, pairs.present, classes, 10.0)
    torch.testing.assert_close(actual, torch.tensor(expected))
    nobody = torch.zeros_like(pairs.present)
    assert not contrast_term(pairs.masked, pairs.text, nobody, classes, 10.0).any()


def test_residual_is_a_loop_over_classes(pairs: Pairs) -> None:
    """Minus the log-probability of any class that says something else."""
    classes = torch.cat([pairs.classes, pairs.text[:2, 0], 0.9 * pairs.text[2:3, 0]])
    expected = []
    for row in range(BATCH):
        text, removed = pairs.text[row, 0], pairs.removed[row]
        own = math.exp(10 * dot(text, removed))
        others = [c for c in classes if dot(c, text) <= ALIKE]
        rest = sum(math.exp(10 * dot(c, removed)) for c in others)
        expected.append(-math.log(rest / (own + rest)))
    actual = residual_term(pairs.removed, pairs.text[:, 0], classes, 10.0)
    torch.testing.assert_close(actual, torch.tensor(expected))
    assert max(expected) > 1


def test_residual_with_oneself_costs_nothing(pairs: Pairs) -> None:
    """Where there is no other class nothing can be told, without NaN."""
    removed = pairs.removed.clone().requires_grad_()
    same = pairs.text[:1, 0]
    cost = residual_term(removed, same.expand(BATCH, -1), same, 10.0)
    assert cost.tolist() == [0] * BATCH
    cost.sum().backward()
    assert torch.isfinite(removed.grad).all()


def test_contrast_with_oneself_costs_nothing(pairs: Pairs) -> None:
    """A prompt that every class says over again is not told from them, without NaN."""
    text = pairs.text[:, :1].clone().requires_grad_()
    classes = pairs.text[:1, 0]
    same = text[:1].expand(2, 1, -1)
    cost = contrast_term(
        pairs.masked[:2, :1], same, torch.ones(2, 1).bool(), classes, 10.0
    )
    assert cost.tolist() == [0, 0]
    cost.sum().backward()
    assert torch.isfinite(text.grad).all()


def test_what_the_model_hears_is_asked_for() -> None:
    """In place of the first prompt; whatever says the same is present, then."""
    one, other, third, heard = torch.eye(4)
    rows = [[one, heard], [other, third], [one, one], [other, third]]
    text = torch.stack([torch.stack(row) for row in rows])
    present = torch.tensor([[True, False]] * 4)
    asked = torch.tensor([True, True, False, False])
    found, there, as_before = ask_predicted(text, present, asked, heard.expand(4, -1))
    assert torch.equal(found[:, 1], text[:, 1])
    assert torch.equal(found[:, 0], torch.stack([heard, heard, one, other]))
    assert there.tolist() == [[True, True], [True, False], [True, False], [True, False]]
    assert as_before.tolist() == [False, False, True, True]
    *_, as_before = ask_predicted(text, present, asked, text[:, 0])
    assert as_before.all()


def test_lmac_terms_are_an_explicit_softmax(pairs: Pairs) -> None:
    """Minus and plus the log-probability of the class predicted without a mask."""
    logits = pairs.class_logits(pairs.masked[:, 0])
    predicted = pairs.class_logits(pairs.embedding).argmax(-1)
    expected = []
    for row in range(BATCH):
        scores = [
            10.0 * dot(pairs.classes[k], pairs.masked[row, 0]) for k in range(CLASSES)
        ]
        total = sum(math.exp(score) for score in scores)
        expected.append(-math.log(math.exp(scores[predicted[row]]) / total))
    expected = torch.tensor(expected)
    assert torch.allclose(masked_in_term(logits, predicted), expected, atol=1e-5)
    assert torch.allclose(masked_out_term(logits, predicted), -expected, atol=1e-5)


# --- sums ---------------------------------------------------------------------------


def test_weighted_sum_logs_every_term_and_weighs_some() -> None:
    """Terms without a weight are logged, not added."""
    terms = {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([10.0, 20.0])}
    assert weighted_sum(terms, {"a": 0.5}) == {"a": 2.0, "b": 15.0, "loss": 1.0}
    assert weighted_sum(terms, {"a": 0.5, "b": 2})["loss"] == 31.0


def test_unknown_weights_are_refused() -> None:
    """A misspelt weight names itself and the terms there are."""
    with pytest.raises(ValueError, match=r"\['sparse'\].*\['sparsity'\]"):
        weighted_sum({"sparsity": torch.ones(2)}, {"sparse": 1.0})


def test_lmaczs_adds_its_terms(pairs: Pairs) -> None:
    """Each term under its name; the loss is their weighted sum."""
    terms = LmacZsObjective(LMACZS_WEIGHTS)(pairs)
    assert terms.keys() == {*LMACZS_WEIGHTS, "loss"}
    expected = sum(w * terms[name] for name, w in LMACZS_WEIGHTS.items())
    assert torch.allclose(terms["loss"], expected)
    left = [
        max(0.0, dot(t, r))
        for t, r in zip(pairs.text[:, 0], pairs.removed, strict=True)
    ]
    assert terms["removed"].item() == pytest.approx(mean(left), abs=1e-6)
    two_sided = LmacZsObjective(LMACZS_WEIGHTS, "two-sided")(pairs)
    assert two_sided["similarity"] > terms["similarity"]


def test_lmac_explains_the_class_that_is_predicted(pairs: Pairs) -> None:
    """The target is the argmax on the input, whatever the mask makes of it."""
    terms = LmacObjective(LMAC_WEIGHTS)(pairs)
    predicted = [
        max(range(CLASSES), key=lambda k: dot(pairs.classes[k], clip))
        for clip in pairs.embedding
    ]
    target = torch.tensor(predicted)
    inside = pairs.class_logits(pairs.masked[:, 0]).log_softmax(-1)
    outside = pairs.class_logits(pairs.removed).log_softmax(-1)
    rows = torch.arange(BATCH)
    assert torch.allclose(terms["masked_in"], -inside[rows, target].mean())
    assert torch.allclose(terms["masked_out"], outside[rows, target].mean())
    expected = sum(w * terms[name] for name, w in LMAC_WEIGHTS.items())
    assert torch.allclose(terms["loss"], expected)


@pytest.mark.parametrize("name", ["lmaczs", "lmac"])
def test_objectives_do_not_grow_with_the_batch(pairs: Pairs, name: str) -> None:
    """Every clip twice: every term and the loss stay as they are."""
    weights = {"lmaczs": LMACZS_WEIGHTS, "lmac": LMAC_WEIGHTS}
    objective = make_objective(name, weights)
    once, doubled = objective(pairs), objective(twice(pairs))
    for term, value in once.items():
        assert torch.allclose(value, doubled[term], atol=1e-6), term


@pytest.mark.parametrize("name", ["lmaczs", "lmac"])
def test_losses_pull_at_the_masks_and_at_what_they_make(
    pairs: Pairs, name: str
) -> None:
    """Gradients are finite and reach the masks, the masked and the removed."""
    leaves = {
        part: getattr(pairs, part).clone().requires_grad_()
        for part in ("masks", "masked", "removed")
    }
    weights = {"lmaczs": LMACZS_WEIGHTS, "lmac": LMAC_WEIGHTS}
    make_objective(name, weights)(replace(pairs, **leaves))["loss"].backward()
    for part, leaf in leaves.items():
        assert leaf.grad.isfinite().all(), part
        assert leaf.grad.abs().max() > 0, part


def test_objectives_are_chosen_by_name() -> None:
    """An unknown name is refused with the names there are."""
    weights = {"lmaczs": LMACZS_WEIGHTS, "lmac": LMAC_WEIGHTS}
    one = make_objective("lmaczs", weights, "two-sided")
    assert isinstance(one, LmacZsObjective)
    assert one.absent_prompts == "two-sided"
    assert isinstance(make_objective("lmac", weights), LmacObjective)
    with pytest.raises(ValueError, match="'l2i', not lmaczs or lmac"):
        make_objective("l2i", weights)
