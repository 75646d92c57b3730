"""Properties of the teacher and of the space of its embeddings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
)

from lmaczs.distillation.target_space import Teacher, cached_embeddings, fit_sound_space
from lmaczs.distillation.text_corpus import Corpus
from lmaczs.distillation.text_tower import mean_off_diagonal

TEXTS = ["a dog barking", "This is the sound of church bells.", "Rain on a roof"]


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    """Random BERT of four layers."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "rain", "bark"]
    words += ["##ing", "a", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
    )
    vocab = {word: index for index, word in enumerate(words)}
    model = BertModel(config).eval().requires_grad_(False)
    return Teacher(model, BertTokenizer(vocab=vocab, model_max_length=40))


def _names_in_templates(names: int = 40, templates: int = 5, dim: int = 32) -> Tensor:
    """Narrow cone: a common direction, a name, a strong template, some noise."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    offset, name, template = draw(1, 1, dim), draw(names, 1, dim), draw(templates, dim)
    noise = draw(names, templates, dim)
    data = 4 * offset + name + 2 * template + 0.1 * noise
    return torch.nn.functional.normalize(data, dim=-1)


def test_teacher_embedding_is_the_masked_mean(teacher: Teacher) -> None:
    """Batched, sorted, padded embeddings equal those of a text alone."""
    texts = ["dog barking rain a", "rain", "a dog"]
    for text, row in zip(texts, teacher.embed(texts, batch_size=2), strict=True):
        ids = torch.tensor([teacher.tokenizer(text).input_ids])
        mean = teacher.model(ids).last_hidden_state[0].mean(0)
        torch.testing.assert_close(row, mean / mean.norm(), atol=1e-5, rtol=0)


def test_cached_embeddings_are_read_not_computed(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second call needs no teacher, and nothing partial is left beside."""
    corpus = Corpus(("a dog", "rain"), (True, True))
    first = cached_embeddings(teacher, corpus, tmp_path / "cache.npy")
    monkeypatch.setattr(Teacher, "embed", None)
    second = cached_embeddings(teacher, corpus, tmp_path / "cache.npy")
    assert torch.equal(first, second)
    assert [path.name for path in tmp_path.iterdir()] == ["cache.npy"]


def test_sound_space_spreads_names_and_ignores_templates() -> None:
    """In a cone with strong templates: names apart, one name's templates together."""
    data = _names_in_templates()
    space = fit_sound_space(data, 16, 0.1)
    mapped = space(data)
    assert mean_off_diagonal(data[:, 1]) > 0.5
    assert abs(mean_off_diagonal(mapped[:, 1])) < 0.05
    assert (mapped[:, 0] * mapped[:, 1]).sum(-1).mean() > 0.9
    torch.testing.assert_close(mapped.norm(dim=-1), torch.ones(40, 5))


def test_sound_space_whitens_what_it_keeps() -> None:
    """Scatter of names plus shrunk scatter within names is the identity (oracle)."""
    data, shrinkage = _names_in_templates().double(), 0.3
    space = fit_sound_space(data, 8, shrinkage)
    within, between = torch.zeros(32, 32).double(), torch.zeros(32, 32).double()
    mean = data.reshape(-1, 32).mean(0)
    for name in data:
        centre = name.mean(0)
        between += torch.outer(centre - mean, centre - mean) / len(data)
        for row in name:
            within += torch.outer(row - centre, row - centre) / data[..., 0].numel()
    within += shrinkage * between.diagonal().mean() * torch.eye(32)
    matrix = space.matrix.double()
    torch.testing.assert_close(
        matrix @ (within + between) @ matrix.T, torch.eye(8).double(), atol=1e-4, rtol=0
    )


def test_sound_space_of_fewer_dimensions_is_a_prefix() -> None:
    """Directions are ranked: the first rows do not depend on how many are kept."""
    data = _names_in_templates()
    small, large = fit_sound_space(data, 4, 0.5), fit_sound_space(data, 12, 0.5)
    torch.testing.assert_close(small.matrix, large.matrix[:4])
