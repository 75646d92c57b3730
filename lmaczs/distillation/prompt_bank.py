"""Embeddings of all texts that a small CLAP is trained on, in every template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.distillation.clip_cache import ClipFeatures
from lmaczs.prompts import require_templates


@dataclass(frozen=True)
class PromptBank:
    """Text embeddings of unit norm, in Z templates; the first one is for tests."""

    labels: Tensor  # [Z, L, D], labels and captions of the clips
    classes: Tensor  # [Z, K, D], the tagger's; an unused row without a tagger
    silence: Tensor  # [Z, D]

    def to(self, device: torch.device | str) -> PromptBank:
        """These embeddings, on a device."""
        return PromptBank(*(value.to(device) for value in vars(self).values()))


def embed_prompts(
    clap: FrozenClap, clips: ClipFeatures, templates: Sequence[str]
) -> PromptBank:
    """Embed labels, class names and "silence" in every template, captions in none."""

    def embed(texts: Sequence[str], captions: Sequence[bool]) -> Tensor:
        rows = [
            [
                text if caption else template.format(text.lower())
                for text, caption in zip(texts, captions, strict=True)
            ]
            for template in templates
        ]
        return torch.stack([clap.encode_text(row) for row in rows])

    require_templates(templates)
    classes = clips.class_names or ["sound"]
    return PromptBank(
        embed(clips.labels, clips.captions),
        embed(classes, [False] * len(classes)),
        embed(["silence"], [False])[:, 0],
    )
