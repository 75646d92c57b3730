"""The registry of terms: what each gives, reads and states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from lmaczs.objectives.guidance import LogMagnitude
from lmaczs.objectives.objective import OBJECTIVES
from lmaczs.objectives.paper import ObjectiveError
from lmaczs.objectives.source_power import SourcePower
from lmaczs.objectives.terms import TERMS, MaskedPairs, TermOptions

COSINES = {"absent_presence": 0.9, "same_prompt_cosine": 0.8}
OPTIONS = TermOptions(**COSINES, crosscor_threshold=0.83, binarise_level=0.35)
OPTIONAL = {"masked_out", "power", "sources", "magnitude", "presence"}


def without(pairs: MaskedPairs, names: set[str]) -> MaskedPairs:
    """The batch without some of its optional fields."""
    return replace(pairs, **dict.fromkeys(names))


@pytest.mark.parametrize("name", TERMS)
def test_a_term_is_one_cost_a_clip(pairs: MaskedPairs, name: str) -> None:
    """[B], finite and differentiable through what the decoder changes."""
    masks = pairs.masks.clone().requires_grad_()
    sound = masks.mean((-2, -1))[..., None]
    masked = replace(
        pairs,
        masks=masks,
        masked_in=torch.nn.functional.normalize(pairs.masked_in + sound, dim=-1),
        masked_out=torch.nn.functional.normalize(
            pairs.masked_out - sound[:, 0], dim=-1
        ),
    )
    found = TERMS[name].function(masked, OPTIONS)
    assert found.shape == (len(pairs.masks),)
    found.sum().backward()
    assert found.isfinite().all()
    assert masks.grad is not None and masks.grad.abs().sum() > 0


@pytest.mark.parametrize("name", TERMS)
def test_a_term_reads_no_optional_field_but_the_stated_ones(
    pairs: MaskedPairs, name: str
) -> None:
    """It is the same without every other one: a Brain need not compute them."""
    term = TERMS[name]
    expected = term.function(pairs, OPTIONS)
    spared = without(pairs, OPTIONAL - set(term.needs))
    torch.testing.assert_close(term.function(spared, OPTIONS), expected)


@pytest.mark.parametrize("name", TERMS)
def test_a_clip_pays_for_itself(pairs: MaskedPairs, name: str) -> None:
    """No clip's cost depends on the others of its batch."""
    whole = TERMS[name].function(pairs, OPTIONS)
    for row in range(len(whole)):
        names = ("text", "present", "masks", "embedding", "masked_in", "masked_out")
        part = slice(row, row + 1)
        parts = {
            one: getattr(pairs, one)[part] for one in (*names, "power", "presence")
        }
        assert pairs.sources is not None
        sources = SourcePower(*(one[part] for one in pairs.sources))
        assert pairs.magnitude is not None
        magnitude = LogMagnitude(*(one[part] for one in pairs.magnitude))
        alone = replace(pairs, sources=sources, magnitude=magnitude, **parts)
        found = TERMS[name].function(alone, OPTIONS)
        torch.testing.assert_close(found, whole[part])


@pytest.mark.parametrize("name", [n for n, t in TERMS.items() if "sources" in t.needs])
def test_clips_of_unknown_sources_pay_nothing(pairs: MaskedPairs, name: str) -> None:
    """Zeros, so that a batch without a mixture trains like any other."""
    found = TERMS[name].function(without(pairs, {"sources"}), OPTIONS)
    assert found.tolist() == [0.0] * len(pairs.masks)


def test_every_term_is_used_and_states_where_it_is_from() -> None:
    """No entry is left over; each has a source and a meaning for the model card."""
    assert set(TERMS) == {name for names in OBJECTIVES.values() for name in names}
    assert all(term.source and term.meaning for term in TERMS.values())
    assert {name for term in TERMS.values() for name in term.needs} == OPTIONAL


def test_similarities_and_logits_are_loops(pairs: MaskedPairs) -> None:
    """Scalar products of each clip with its own prompts, and with all classes."""
    for row in range(len(pairs.text)):
        for i in range(pairs.text.shape[1]):
            text = pairs.text[row, i]
            original = float(text @ pairs.embedding[row])
            masked = float(text @ pairs.masked_in[row, i])
            assert float(pairs.original_similarity[row, i]) == pytest.approx(
                original, abs=1e-6
            )
            assert float(pairs.masked_similarity[row, i]) == pytest.approx(
                masked, abs=1e-6
            )
        logits = [
            pairs.logit_scale * float(pairs.embedding[row] @ one)
            for one in pairs.classes
        ]
        found = pairs.class_logits(pairs.embedding)[row].tolist()
        assert found == pytest.approx(logits, abs=1e-5)
        assert int(pairs.predicted[row]) == logits.index(max(logits))


@pytest.mark.parametrize(
    "wrong",
    [{"absent_prompts": "none"}, {"present_prompts": "both"}, {"margin": -0.1}],
)
def test_options_that_no_term_knows_are_refused(wrong: dict[str, Any]) -> None:
    """At once, before any batch; the option is named."""
    with pytest.raises(ObjectiveError, match=next(iter(wrong))):
        replace(OPTIONS, **wrong)
