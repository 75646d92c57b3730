"""A sentence encoder, and projections of the teachers' embeddings to one space.

A sentence encoder's space is narrow for sounds: all texts "the sound of ..." are alike.
After `DiscriminantProjection` names of different sounds are nearly orthogonal.
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


@dataclass(frozen=True)
class SentenceEncoder:
    """A BERT: mean of the last hidden states over the tokens, scaled to unit norm."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def from_pretrained(cls, source: str | Path) -> SentenceEncoder:
        """Load a sentence encoder from a folder or a Hub id."""
        options = {"trust_remote_code": False}  # or transformers asks on stdin
        model = AutoModel.from_pretrained(source, **options).eval()
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        return cls(model.requires_grad_(False), tokenizer)

    @torch.no_grad()
    def embed(self, texts: Sequence[str], batch_size: int = 128) -> Tensor:
        """Embed N texts: [N, D] float32, unit norm.

        The shortest come first, so that little padding is computed.
        """
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        result = torch.empty(len(texts), self.model.config.hidden_size)
        for start in range(0, len(texts), batch_size):
            rows = order[start : start + batch_size]
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
        """Fit the projection in which names of sounds spread and templates vanish.

        Fisher's discriminant directions with shrinkage: a name is a class, its
        templates are its members. Directions are ranked by the scatter between the
        names' means over the scatter within names (which holds what a template adds),
        and along each the whole scatter is whitened, so different names are nearly
        orthogonal.

        Parameters
        ----------
        embeddings : Tensor
            [names, templates, D], sentence embeddings of each name in each template.
        dim : int
            Number of dimensions to keep, at most D.
        shrinkage : float
            Multiple of the mean variance between names that is added to the scatter
            within names; the larger, the nearer to plain PCA without whitening.

        Returns
        -------
        DiscriminantProjection

        References
        ----------
        Friedman, "Regularized Discriminant Analysis", JASA 1989.
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

    Parameters
    ----------
    features : Tensor [N, F]
        Summaries of the tagger's embeddings of N labelled clips.
    text : Tensor [N, D]
        Embeddings of their labels.
    penalty : float
        On the squared weights, for each clip; features are standardised.
    """

    def __init__(self, features: Tensor, text: Tensor, penalty: float = 0.5) -> None:
        self.mean, self.deviation = features.mean(0), features.std(0) + 1e-3
        x = self._standardised(features)
        ridge = penalty * len(x) * torch.eye(x.shape[1])
        self.weights = torch.linalg.solve(x.T @ x + ridge, x.T @ text)

    def __call__(self, features: Tensor) -> Tensor:
        """Project [N, F] to [N, D] of unit norm."""
        projected = self._standardised(features) @ self.weights
        return nn.functional.normalize(projected, dim=-1)

    def _standardised(self, features: Tensor) -> Tensor:
        return (features.float() - self.mean) / self.deviation
