"""Properties of the teacher and of the space of its embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from lmaczs.distillation.target_space import (
    DiscriminantProjection,
    RidgeProjection,
    SentenceEncoder,
)
from lmaczs.distillation.text_tower import mean_off_diagonal


def _names_in_templates(names: int = 40, templates: int = 5, dim: int = 32) -> Tensor:
    """Narrow cone: a common direction, a name, a strong template, some noise."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    offset, name, template = draw(1, 1, dim), draw(names, 1, dim), draw(templates, dim)
    noise = draw(names, templates, dim)
    data = 4 * offset + name + 2 * template + 0.1 * noise
    return torch.nn.functional.normalize(data, dim=-1)


def test_teacher_embedding_is_the_masked_mean(teacher: SentenceEncoder) -> None:
    """Batched, sorted, padded embeddings equal those of a text alone."""
    texts = ["dog barking rain a", "rain", "a dog"]
    embedded = teacher.embed(texts * 50).view(50, 3, -1)  # in two batches
    torch.testing.assert_close(embedded, embedded[:1].expand(50, -1, -1))
    for text, row in zip(texts, embedded[-1], strict=True):
        ids = torch.tensor([teacher.tokenizer(text).input_ids])
        mean = teacher.model(ids).last_hidden_state[0].mean(0)
        torch.testing.assert_close(row, mean / mean.norm(), atol=1e-5, rtol=0)


def test_projection_spreads_names_and_ignores_templates() -> None:
    """In a cone with strong templates: names apart, one name's templates together."""
    data = _names_in_templates()
    space = DiscriminantProjection.fit(data, 16, 0.1)
    mapped = space(data)
    assert mean_off_diagonal(data[:, 1]) > 0.5
    assert abs(mean_off_diagonal(mapped[:, 1])) < 0.05
    assert (mapped[:, 0] * mapped[:, 1]).sum(-1).mean() > 0.9
    torch.testing.assert_close(mapped.norm(dim=-1), torch.ones(40, 5))


def test_projection_whitens_what_it_keeps() -> None:
    """Scatter of names plus shrunk scatter within names is the identity (oracle)."""
    data, shrinkage = _names_in_templates().double(), 0.3
    space = DiscriminantProjection.fit(data, 8, shrinkage)
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


def test_projection_of_fewer_dimensions_is_a_prefix() -> None:
    """Directions are ranked: the first rows do not depend on how many are kept."""
    data = _names_in_templates()
    small, large = (
        DiscriminantProjection.fit(data, 4, 0.5),
        DiscriminantProjection.fit(data, 12, 0.5),
    )
    torch.testing.assert_close(small.matrix, large.matrix[:4])


def test_ridge_projection_is_ridge_regression() -> None:
    """On standardised features, as least squares with rows for the penalty."""
    rng = torch.Generator().manual_seed(0)
    features = 3 + 2 * torch.randn(30, 8, generator=rng)
    text = torch.randn(30, 4, generator=rng)
    x = (features - features.mean(0)) / (features.std(0) + 1e-3)
    rows = torch.cat([x, (0.5 * 30) ** 0.5 * torch.eye(8)])
    targets = torch.cat([text, torch.zeros(8, 4)])
    weights = torch.linalg.lstsq(rows, targets).solution
    new = 3 + 2 * torch.randn(5, 8, generator=rng)
    expected = ((new - features.mean(0)) / (features.std(0) + 1e-3)) @ weights
    expected = expected / expected.norm(dim=1, keepdim=True)
    found = RidgeProjection(features, text)(new)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
