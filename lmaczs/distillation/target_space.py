"""A sentence encoder, and projections of the teachers' embeddings to one space.

In a sentence encoder's space all texts "the sound of ..." are similar; after
`DiscriminantProjection` names of different sounds are nearly orthogonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

PENALTY = 0.5  # of ridge regression, on the squared weights, for each clip


@dataclass(frozen=True)
class SentenceEncoder:
    """A BERT; its last hidden states are averaged over the tokens, to unit norm."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def from_pretrained(cls, source: str | Path) -> SentenceEncoder:
        """Load from a folder or a Hub id."""
        options = {"trust_remote_code": False}  # or transformers asks on stdin
        model = AutoModel.from_pretrained(source, **options).eval()
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        return cls(model.requires_grad_(False), tokenizer)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Embed N texts, by length to save padding: [N, D] float32, unit norm."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        result = torch.empty(len(texts), self.model.config.hidden_size)
        for start in range(0, len(texts), 128):
            rows = order[start : start + 128]
            result[rows] = self._embed_batch([texts[row] for row in rows]).cpu()
        return result

    def _embed_batch(self, texts: list[str]) -> Tensor:
        batch = self.tokenizer(
            texts, padding=True, truncation=True, max_length=64, return_tensors="pt"
        ).to(self.model.device)
        mask = batch["attention_mask"].unsqueeze(-1)
        hidden = self.model(**batch).last_hidden_state
        return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


@dataclass(frozen=True)
class DiscriminantProjection:
    """An affine projection of sentence embeddings: z = normalise(A (e - mean))."""

    mean: Tensor  # [D], over the names of sounds
    matrix: Tensor  # [d, D], A

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Project sentence embeddings [..., D] to targets [..., d] of unit norm."""
        return nn.functional.normalize((embeddings - self.mean) @ self.matrix.T, dim=-1)

    @classmethod
    def fit(
        cls, embeddings: Tensor, dim: int, shrinkage: float
    ) -> DiscriminantProjection:
        """Fit the projection that spreads names of sounds and removes templates.

        Fisher's discriminant directions with shrinkage (Friedman, "Regularized
        Discriminant Analysis", JASA 1989). In `embeddings` [names, templates, D] a name
        is a class and its templates are members. Directions are ranked by the scatter
        between names over the scatter within them, and whitened by the whole scatter,
        so that different names are nearly orthogonal; the first `dim` are kept.

        To the scatter within names `shrinkage` times the mean variance between names is
        added: the larger it is, the nearer to plain PCA without whitening.
        """
        data = embeddings.double()
        means = data.mean(1)
        mean = means.mean(0)
        within = (data - means.unsqueeze(1)).flatten(0, 1)
        within = within.T @ within / len(within)
        between = (means - mean).T @ (means - mean) / len(means)
        size = len(mean)
        within = within + shrinkage * between.trace() / size * torch.eye(size).double()
        inverse = torch.linalg.inv(torch.linalg.cholesky(within))
        ratios, directions = torch.linalg.eigh(inverse @ between @ inverse.T)
        ratios, directions = ratios.flip(0)[:dim], directions.flip(1)[:, :dim]
        matrix = (directions / (1 + ratios).sqrt()).T @ inverse
        return cls(mean.float(), matrix.float())


class RidgeProjection:
    """Projects an audio tagger's embeddings to the text space by ridge regression.

    Fitted on standardised summaries [N, F] of labelled clips and their labels'
    embeddings `text` [N, D], with `PENALTY`.
    """

    def __init__(self, features: Tensor, text: Tensor) -> None:
        self.mean, self.deviation = features.mean(0), features.std(0) + 1e-3
        x = self._standardised(features)
        ridge = PENALTY * len(x) * torch.eye(x.shape[1])
        self.weights = torch.linalg.solve(x.T @ x + ridge, x.T @ text)

    def __call__(self, features: Tensor) -> Tensor:
        """Project [N, F] to [N, D], unit norm."""
        projected = self._standardised(features) @ self.weights
        return nn.functional.normalize(projected, dim=-1)

    def _standardised(self, features: Tensor) -> Tensor:
        return (features.float() - self.mean) / self.deviation
