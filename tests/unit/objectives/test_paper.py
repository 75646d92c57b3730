"""The papers' terms against slow loops over their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lmaczs.objectives.paper import (
    ObjectiveError,
    all_pairs_similarity_term,
    diversity,
    diversity_term,
    masked_in_term,
    masked_out_term,
    mean_where,
    pair_similarity,
    similarity_term,
    sparsity_term,
)
from lmaczs.objectives.terms import MaskedPairs


def mean(values: list[float]) -> float:
    """Mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def dot(a: Tensor, b: Tensor) -> float:
    """Sum of products, in plain Python."""
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def test_eq_5_is_a_loop_over_pairs(pairs: MaskedPairs) -> None:
    """A cosine for each prompt, with the clip or with the pair's masked clip."""
    of_clips = pair_similarity(pairs.text, pairs.embedding)
    of_masked = pair_similarity(pairs.text, pairs.masked_in)
    for row, prompts in enumerate(pairs.text):
        for column, text in enumerate(prompts):
            slow = dot(text, pairs.embedding[row])
            assert of_clips[row, column].item() == pytest.approx(slow, abs=1e-6)
            slow = dot(text, pairs.masked_in[row, column])
            assert of_masked[row, column].item() == pytest.approx(slow, abs=1e-6)


def test_eq_6_takes_all_pairs_alike(pairs: MaskedPairs) -> None:
    """Mean over the prompts of a clip, two-sided, whatever is present."""
    expected = []
    for row, prompts in enumerate(pairs.text):
        changes = [
            dot(text, pairs.embedding[row]) - dot(text, pairs.masked_in[row, column])
            for column, text in enumerate(prompts)
        ]
        expected.append(mean([abs(change) for change in changes]))
    actual = all_pairs_similarity_term(pairs.text, pairs.embedding, pairs.masked_in)
    torch.testing.assert_close(actual, torch.tensor(expected))


def test_eq_7_is_a_loop_over_the_other_prompts(pairs: MaskedPairs) -> None:
    """The sum over j != i, prompt i being the first one; its term is a P-th of it."""
    expected = []
    for text, sounds in zip(pairs.text, pairs.masked_in, strict=True):
        others = range(1, len(text))
        gaps = [dot(text[0], text[j]) - dot(sounds[0], sounds[j]) for j in others]
        expected.append(sum(abs(gap) for gap in gaps))
    expected = torch.tensor(expected)
    torch.testing.assert_close(diversity(pairs.text, pairs.masked_in), expected)
    term = diversity_term(pairs.text, pairs.masked_in)
    torch.testing.assert_close(term, expected / pairs.text.shape[1])


def test_eq_7_of_one_prompt_or_of_equal_ones_is_nothing(pairs: MaskedPairs) -> None:
    """Without another prompt there is none to differ from."""
    alone = diversity(pairs.text[:, :1], pairs.masked_in[:, :1])
    assert not alone.any()
    twins = diversity(*(x[:, [0, 0]] for x in (pairs.text, pairs.masked_in)))
    assert twins.abs().max() < 1e-6


@pytest.mark.parametrize("of_absent", ["one-sided", "two-sided"])
@pytest.mark.parametrize("of_present", ["one-sided", "two-sided"])
def test_similarity_is_a_loop_over_pairs(
    pairs: MaskedPairs, of_present: str, of_absent: str
) -> None:
    """One-sided: of a present prompt only loss counts, of an absent one only gain."""
    expected = []
    for row in range(len(pairs.text)):
        present, absent = [], []
        for column in range(pairs.text.shape[1]):
            text = pairs.text[row, column]
            change = dot(text, pairs.masked_in[row, column])
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


def test_similarity_by_default_is_strict_on_present_prompts() -> None:
    """Of a present prompt less and more cost; of an absent one less is free."""
    original = torch.tensor([[0.5, 0.5]])
    less, more = original - 0.2, original + 0.3
    absent, present = torch.tensor([[False, False]]), torch.tensor([[True, True]])
    assert similarity_term(less, original, absent).item() == 0
    assert similarity_term(more, original, absent).item() == pytest.approx(0.3)
    assert similarity_term(less, original, present).item() == pytest.approx(0.2)
    assert similarity_term(more, original, present).item() == pytest.approx(0.3)


def test_similarity_of_present_prompts_should_rise_by_the_margin() -> None:
    """Up to the margin a rise pays for a present prompt, never for an absent one."""
    original = torch.tensor([[0.5, 0.5]])
    absent, present = torch.tensor([[False, False]]), torch.tensor([[True, True]])

    def cost(change: float, there: Tensor) -> float:
        one_sided = "one-sided", "one-sided", 0.1
        return similarity_term(original + change, original, there, *one_sided).item()

    assert cost(0.0, present) == pytest.approx(0.1)
    assert cost(0.04, present) == pytest.approx(0.06)
    assert cost(0.2, present) == 0
    assert cost(0.0, absent) == 0
    with pytest.raises(ObjectiveError, match="margin is 0.1, but present_prompts"):
        similarity_term(original, original, present, margin=0.1)


@pytest.mark.parametrize("option", ["absent_prompts", "present_prompts"])
def test_misspelt_sides_are_refused(option: str) -> None:
    """The sentence names the option and what it may be."""
    cosines = torch.zeros(1, 2)
    with pytest.raises(ObjectiveError, match=f"{option} is 'one sided', not one of"):
        similarity_term(cosines, cosines, cosines > 0, **{option: "one sided"})


def test_sparsity_is_the_mean_of_a_clips_masks(pairs: MaskedPairs) -> None:
    """A mask of ones costs one, a mask of zeros nothing."""
    expected = [mean(clip.flatten().tolist()) for clip in pairs.masks]
    assert torch.allclose(sparsity_term(pairs.masks), torch.tensor(expected))
    assert (sparsity_term(torch.ones(2, 1, 3, 3)) == 1).all()
    assert (sparsity_term(torch.zeros(2, 1, 3, 3)) == 0).all()


def test_lmac_terms_are_an_explicit_softmax(pairs: MaskedPairs) -> None:
    """Minus and plus the log-probability of the class predicted without a mask."""
    logits = pairs.class_logits(pairs.masked_in[:, 0])
    expected = []
    for row, clip in enumerate(pairs.embedding):
        scores = [10.0 * dot(one, pairs.masked_in[row, 0]) for one in pairs.classes]
        predicted = max(range(len(scores)), key=lambda k: dot(pairs.classes[k], clip))
        total = sum(math.exp(score) for score in scores)
        expected.append(-math.log(math.exp(scores[predicted]) / total))
    expected = torch.tensor(expected)
    actual = masked_in_term(logits, pairs.predicted)
    assert torch.allclose(actual, expected, atol=1e-5)
    actual = masked_out_term(logits, pairs.predicted)
    assert torch.allclose(actual, -expected, atol=1e-5)


def test_mean_where_is_a_loop_over_rows() -> None:
    """Of the chosen columns alone; 0 where none is chosen."""
    values = torch.tensor([[1.0, 2.0, 6.0], [1.0, 2.0, 3.0]])
    where = torch.tensor([[True, False, True], [False, False, False]])
    assert mean_where(values, where).tolist() == [3.5, 0]
