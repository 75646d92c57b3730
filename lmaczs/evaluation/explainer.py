"""Contract of explainers: a batch of clips in, masks out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Generator, Tensor

from lmaczs.clap import FrozenClap
from lmaczs.frontend import Domain, cell_power
from lmaczs.utils.seeds import seed_of


@dataclass(frozen=True)
class ExplainerInput:
    """A batch of clips on the encoder's input grid, with a prompt for each.

    Attributes
    ----------
    clap : FrozenClap
        The model that is explained.
    spectrum : Tensor [B, F, T], complex64
        STFT.
    log_mel : Tensor [B, C, T, n_mels]
        The encoder's input.
    text : Tensor [B, D]
        Embedding of each clip's prompt.
    samples : Tensor [B]
        Length of the clips before they were fitted to the encoder's.
    domain : {"mel", "stft", "waveform"}
        Where masks are applied.
    seed : int
        Of the explainer's random draws.
    ids : sequence of str
        Names of the clips, of which their own draws depend; default: their numbers.
    reference : Tensor [B, F, T] (or [B, n_mels, T]), optional
        Masks of the first decoder: baselines keep as much as these.
    classes : Tensor [K, D], optional
        Embeddings of the prompts among which the model chooses.
    """

    clap: FrozenClap
    spectrum: Tensor
    log_mel: Tensor
    text: Tensor
    samples: Tensor
    domain: Domain = "stft"
    seed: int = 0
    reference: Tensor | None = None
    classes: Tensor | None = None
    ids: Sequence[str] = ()

    @cached_property
    def cells(self) -> Tensor:
        """Power on the masks' grid: [B, F, T], or [B, n_mels, T] in the mel domain."""
        return cell_power(self.clap.front_end, self.spectrum, self.domain)

    @property
    def like(self) -> Tensor:
        """The reference masks; ValueError without them."""
        if self.reference is None:
            raise ValueError("this explainer needs the masks of a decoder as reference")
        return self.reference

    def rng(self) -> Generator:
        """Random generator (on the CPU) that depends on the seed alone.

        For what is drawn once for all clips; see `clip_rngs`.
        """
        return torch.Generator().manual_seed(self.seed)

    def clip_rngs(self) -> list[Generator]:
        """Random generators, one a clip, that depend on the seed and the clip's id.

        So a clip has the same draws in every batch.
        """
        seeds = [seed_of(self.seed, name) for name in self._names()]
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    def _names(self) -> Sequence[str]:
        return self.ids or [str(row) for row in range(len(self.text))]

    def tiled(self, masks: Tensor) -> Tensor:
        """Repeat masks with clips that are shorter than the encoder's input."""
        return self.clap.front_end.tile_mask(masks, self.samples)

    def take(self, rows: Sequence[int]) -> ExplainerInput:
        """Some clips of the batch, by number; the batch itself for all in order."""
        if list(rows) == list(range(len(self.text))):
            return self
        chosen = list(rows)
        return replace(
            self,
            spectrum=self.spectrum[chosen],
            log_mel=self.log_mel[chosen],
            text=self.text[chosen],
            samples=self.samples[chosen],
            reference=None if self.reference is None else self.reference[chosen],
            ids=[self._names()[row] for row in chosen],
        )

    def with_prompts(self, row: int, text: Tensor) -> ExplainerInput:
        """One clip of the batch, once for each prompt of `text` [P, D]."""
        return replace(
            self,
            spectrum=self.spectrum[row].expand(len(text), -1, -1),
            log_mel=self.log_mel[row].expand(len(text), -1, -1, -1),
            text=text,
            samples=self.samples[row].expand(len(text)),
            reference=None,
            ids=[self._names()[row]] * len(text),
        )


class Explainer(Protocol):
    """A method that explains the similarity of each clip and its prompt by a mask."""

    def __call__(self, batch: ExplainerInput) -> Tensor:
        """Explain a batch.

        Parameters
        ----------
        batch : ExplainerInput
            Clips and prompts.

        Returns
        -------
        Tensor [B, F, T], or [B, n_mels, T] in the mel domain
            Masks in [0, 1], without a gradient. No clip's mask depends on the others.
        """
        ...
