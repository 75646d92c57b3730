"""Presence: ranks among reference prompts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaczs.clap import FrozenClap
from lmaczs.hub import default_source
from lmaczs.presence import (
    ABSENT,
    PRESENT,
    asked_of,
    presence,
    presence_in,
    reference_names,
    reference_text,
    share_reference_text,
)

COSINES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=9)


def test_reference_prompts_are_audiosets_classes() -> None:
    """521 different names, in the order of YAMNet's scores."""
    names = reference_names()
    assert len(names) == len(set(names)) == 521
    assert names[0] == "Speech"
    assert "Dog" in names


def test_reference_text_has_a_row_a_name(tiny_clap: FrozenClap, tmp_path: Path) -> None:
    """In the template that is given."""
    found = reference_text(tiny_clap, "I hear {}", tmp_path)
    assert found.shape == (521, tiny_clap.embedding_dim)
    some = [0, 7, 520]
    names = [f"I hear {reference_names()[place]}" for place in some]
    assert torch.allclose(found[some], tiny_clap.encode_text(names), atol=1e-5)


def test_reference_text_is_cached_by_checkpoint(
    make_clap_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Another process finds it, another template or checkpoint does not."""
    folder = make_clap_folder()
    first = reference_text(FrozenClap.from_pretrained(folder), folder=tmp_path)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    again = FrozenClap.from_pretrained(folder)
    assert torch.equal(reference_text(again, folder=tmp_path), first)
    assert file.stat().st_mtime_ns == written
    assert not torch.equal(reference_text(again, "{}", tmp_path), first)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cache_that_cannot_be_written_does_no_harm(
    make_clap_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """A file in its place: the embeddings are computed."""
    clap = FrozenClap.from_pretrained(make_clap_folder())
    (tmp_path / "file").write_text("taken")
    found = reference_text(clap, folder=tmp_path / "file")
    assert torch.equal(found, reference_text(clap, folder=tmp_path))


def test_a_copy_of_a_model_can_use_its_embeddings(
    tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """Without a file of its own, though its fingerprint may differ."""
    own, copied = copy.deepcopy(tiny_clap), copy.deepcopy(tiny_clap)
    found = reference_text(own, folder=tmp_path / "own")
    share_reference_text(own, copied)
    assert torch.equal(reference_text(copied, folder=tmp_path / "copy"), found)
    assert not (tmp_path / "copy").exists()


def test_absent_prompts_ask_for_nothing() -> None:
    """The weights are those of the verdict: 0 for what is not recognised."""
    presences = torch.tensor([0.0, 0.5, ABSENT, 0.949, PRESENT, 1.0])
    assert asked_of(presences).tolist() == [0, 0, 0, 0, 1, 1]


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


def test_references_of_the_embedded_clap_are_shipped() -> None:
    """Beside its weights, of these weights, and no other: no run computes them.

    If it fails: remove the old file and write a new one,
    ``reference_text(clap, folder="pretrained/clap_small")``.
    """
    folder = default_source().with_name("clap_small")
    (path,) = folder.glob("references-*.pt")
    clap = FrozenClap.from_pretrained(folder)
    before = path.read_bytes()
    found = reference_text(clap, folder="a folder that is not there")
    assert not Path("a folder that is not there").exists()
    assert path.read_bytes() == before
    some = [0, 200, 520]
    sentences = [f"This is a sound of {reference_names()[i]}." for i in some]
    torch.testing.assert_close(
        found[some], clap.encode_text(sentences), atol=1e-5, rtol=0
    )


@given(st.integers(0, 9999), st.integers(3, 8))
def test_presences_of_embeddings(seed: int, count: int) -> None:
    """Of texts, and of recordings by the three reference prompts nearest to each."""
    rng = torch.Generator().manual_seed(seed)
    text, sounds, references = (
        torch.nn.functional.normalize(torch.randn(n, 5, generator=rng), dim=1)
        for n in (2, 3, count)
    )
    prompts = text.expand(3, -1, -1)
    found = presence_in(prompts, sounds, references)
    recorded = presence_in(prompts, sounds, references, recorded=True)
    for place, sound in enumerate(sounds):
        cosines = [float(sound @ one) for one in references]
        for number, prompt in enumerate(text):
            own = float(sound @ prompt)
            below = sum(cosine < own - 1e-5 for cosine in cosines)
            assert found[place, number].item() == pytest.approx(below / count)
            near = sorted(range(count), key=lambda k: -float(prompt @ references[k]))[
                :3
            ]
            ranks = [sum(c < cosines[k] - 1e-5 for c in cosines) / count for k in near]
            mean = sum(ranks) / 3
            assert recorded[place, number].item() == pytest.approx(mean, abs=1e-5)
        assert torch.allclose(presence_in(text, sound, references), found[place])


def test_a_prompt_is_not_ahead_of_itself() -> None:
    """Encoded twice, its cosines differ in their last digits."""
    rng = torch.Generator().manual_seed(0)
    references = torch.nn.functional.normalize(torch.randn(9, 5, generator=rng), dim=1)
    sound = references[4]
    again = references[[4]] * (1 + 2e-6)  # a cosine of 1.000002
    assert presence_in(again, sound, references).item() == pytest.approx(8 / 9)
