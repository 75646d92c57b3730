"""Score explanations: every explainer on the same clips, by the same code.

All explainers explain a batch at once, and every table reads from that. The unmasked
clip is encoded once, the masked-in and masked-out ones once for each explainer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.explainers import ExplainerSuite, Timed
from lmaczs.frontend import Domain
from lmaczs.metrics.faithfulness import class_probabilities, faithfulness_table


@dataclass(frozen=True)
class Explained:
    """A batch of clips and the masks of every explainer for the predicted classes.

    Attributes
    ----------
    clips : mapping
        id and, where they have one, label (lists of B).
    batch : ExplainerInput
        The clips with the prompts of their predicted classes.
    class_text : Tensor [K, D]
        Embeddings of the class prompts.
    unmasked : Tensor [B, K]
        Probabilities of the classes.
    masks : dict of str to tuple
        By explainer, see `ExplainerSuite`.
    """

    clips: Mapping[str, Any]
    batch: ExplainerInput
    class_text: Tensor
    unmasked: Tensor
    masks: dict[str, Timed]

    def probabilities(self, masks: Tensor) -> Tensor:
        """Probabilities [B, K] of the classes under masks of the batch."""
        front_end = self.batch.clap.front_end
        masked = front_end.input_tf(self.batch.spectrum, masks, self.batch.domain)
        return _probabilities(self.batch.clap, masked, self.class_text)


def _probabilities(clap: FrozenClap, log_mel: Tensor, class_text: Tensor) -> Tensor:
    embedding = clap.audio_embedding(log_mel)
    return class_probabilities(embedding, class_text, clap.logit_scale)


@torch.no_grad()
def explain_predicted(
    suite: ExplainerSuite, class_text: Tensor, clips: Mapping[str, Any], seed: int
) -> Explained:
    """Classify a batch and explain the predicted classes with every explainer.

    `clips` has wav [B, samples], samples [B], id and label (lists of B); `class_text`
    [K, D] embeds the class prompts. Explainers draw with `seed`.
    """
    class_text = class_text.to(suite.clap.device)
    options = (suite.domain, seed)
    batch, unmasked = predicted_batch(suite.clap, class_text, clips, *options)
    return Explained(clips, batch, class_text, unmasked, suite(batch))


@torch.no_grad()
def predicted_batch(
    clap: FrozenClap,
    class_text: Tensor,
    clips: Mapping[str, Any],
    domain: Domain = "stft",
    seed: int = 0,
) -> tuple[ExplainerInput, Tensor]:
    """Clips with the prompts of their predicted classes, and probabilities [B, K]."""
    front_end = clap.front_end
    spectrum = front_end.stft(clips["wav"].to(clap.device))[..., : front_end.n_frames]
    log_mel = front_end.stft_to_log_mel(spectrum)
    unmasked = _probabilities(clap, log_mel, class_text)
    grid = spectrum, log_mel, class_text[unmasked.argmax(1)], clips["samples"]
    return ExplainerInput(clap, *grid, domain, seed, classes=class_text), unmasked


@torch.no_grad()
def score_batch(explained: Explained, labels: Sequence[str]) -> pd.DataFrame:
    """Score the masks of a batch: id, method, the metrics and seconds.

    A row for each clip and method; `labels` are the K classes.
    """
    ids, unmasked = explained.clips["id"], explained.unmasked
    indices = [labels.index(label) for label in explained.clips["label"]]
    target = torch.tensor(indices, device=unmasked.device)
    parts = []
    for name, (masks, seconds) in explained.masks.items():
        masked_in, masked_out = map(explained.probabilities, (masks, 1 - masks))
        table = faithfulness_table(unmasked, masked_in, masked_out, masks, target)
        parts.append(method_rows(name, {"id": ids}, table, seconds))
    return pd.concat(parts, ignore_index=True)


def method_rows(
    method: str, clips: Mapping[str, Any], table: Mapping[str, Tensor], seconds: float
) -> pd.DataFrame:
    """Rows of one method: the clips' columns, method, its figures, seconds."""
    figures = {name: values.tolist() for name, values in table.items()}
    return pd.DataFrame({**clips, "method": method, **figures, "seconds": seconds})
