"""A sentence encoder as teacher, and the space of its embeddings that suits sounds.

The teacher's space is narrow for sounds: all texts "the sound of ..." are alike. In the
space of `fit_sound_space` names of different sounds are nearly orthogonal.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lmaczs.distillation.text_corpus import Corpus

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """A sentence encoder: mean of the last hidden states over the tokens, L2 norm 1."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Teacher:
        """Load a sentence encoder from a folder or a Hub id."""
        options = {"trust_remote_code": False}  # or transformers asks on stdin
        model = AutoModel.from_pretrained(source, **options).eval()
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        return cls(model.requires_grad_(False), tokenizer)

    @torch.no_grad()
    def embed(self, texts: Sequence[str], batch_size: int = 128) -> Tensor:
        """Embed texts, the shortest first so that little padding is computed.

        Parameters
        ----------
        texts : sequence of str
            N texts.
        batch_size : int
            Texts per forward pass.

        Returns
        -------
        Tensor
            [N, D] float32, unit norm.
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


def cached_embeddings(teacher: Teacher, corpus: Corpus, path: str | Path) -> Tensor:
    """Embed a corpus once; later calls read the file.

    Parameters
    ----------
    teacher : Teacher
        Sentence encoder.
    corpus : Corpus
        N texts.
    path : str or Path
        .npy file, float16; the caller puts the corpus's key into its name.

    Returns
    -------
    Tensor
        [N, D] float32, unit norm up to float16.
    """
    path = Path(path)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, teacher.embed(corpus.texts).half().numpy())
        os.replace(partial, path)
    return torch.from_numpy(np.load(path)).float()


@dataclass(frozen=True)
class SoundSpace:
    """An affine map of sentence embeddings and L2: z = norm(A (e - mu))."""

    mean: Tensor
    matrix: Tensor

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Map sentence embeddings [..., D] to targets [..., d] of unit norm."""
        return nn.functional.normalize((embeddings - self.mean) @ self.matrix.T, dim=-1)


def fit_sound_space(embeddings: Tensor, dim: int, shrinkage: float) -> SoundSpace:
    """Fit the map in which names of sounds spread and templates do not matter.

    Fisher's discriminant directions with shrinkage: a name is a class, its templates
    are its members. Directions are ranked by the scatter between the names' means
    over the scatter within names (which holds what a template adds), and along each
    the whole scatter is whitened, so different names are nearly orthogonal.

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
    SoundSpace
        mean [D] and matrix [dim, D].

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
    return SoundSpace(mean.float(), matrix.float())
