"""Presence: ranks among reference prompts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaczs.clap import FrozenClap
from lmaczs.presence import presence, reference_names, reference_text

COSINES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=9)


def test_reference_prompts_are_audiosets_classes() -> None:
    """521 different names, in the order of YAMNet's scores."""
    names = reference_names()
    assert len(names) == len(set(names)) == 521
    assert names[0] == "Speech"
    assert "Dog" in names


def test_reference_text_has_a_row_a_name(tiny_clap: FrozenClap) -> None:
    """In the template that is given."""
    found = reference_text(tiny_clap, "I hear {}")
    assert found.shape == (521, tiny_clap.embedding_dim)
    (first,) = tiny_clap.encode_text(["I hear Speech"])
    assert torch.equal(found[0], first)


@settings(max_examples=50)
@given(COSINES, COSINES)
def test_presence_counts_the_less_similar(
    prompts: list[float], references: list[float]
) -> None:
    """The fraction of reference prompts below each prompt, ties not counted."""
    found = presence(torch.tensor(prompts), torch.tensor(references))
    for value, cosine in zip(found.tolist(), prompts, strict=True):
        below = sum(one < cosine for one in references) / len(references)
        assert value == pytest.approx(below)


def test_each_clip_has_its_own_ranks() -> None:
    """Clips along the first axis."""
    similarity = torch.tensor([[0.5, 0.0], [0.5, 0.9]])
    reference = torch.tensor([[0.1, 0.2, 0.6, 0.7], [0.8, 0.8, 0.8, 0.8]])
    assert presence(similarity, reference).tolist() == [[0.5, 0.0], [0.0, 1.0]]
