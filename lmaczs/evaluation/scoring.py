"""Score explanations: every explainer on the same clips, by the same code.

The unmasked clip is encoded once, the masked-in and masked-out ones once for each mask.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.explainers import Explained
from lmaczs.frontend import Domain
from lmaczs.metrics.faithfulness import METRICS, MaskedPredictions
from lmaczs.metrics.metric import values_of

UNSCALED = ("AI", "AD", "AG", "FF")
"""Metrics that depend on the logit scale: per_clip.csv has them at scale 1, too."""


def unscaled(name: str) -> str:
    """Column of a metric by eq. 9 of LMAC-ZS as it is written, at scale 1."""
    return f"{name}_unscaled"


@dataclass(frozen=True)
class PredictedClips:
    """A batch of clips with the prompts of their predicted classes.

    Attributes
    ----------
    clips : mapping
        id and, where they have one, label (lists of B).
    batch : ExplainerInput
        The clips and prompts.
    labels : sequence of str
        Of the K classes.
    cosines : Tensor [B, K]
        Similarity of the clips and the class prompts.
    """

    clips: Mapping[str, Any]
    batch: ExplainerInput
    labels: Sequence[str]
    cosines: Tensor

    def take(self, rows: Sequence[int]) -> PredictedClips:
        """Some clips of the batch, by number."""
        if list(rows) == list(range(len(self.cosines))):
            return self
        names = [name for name in ("id", "label") if name in self.clips]
        return replace(
            self,
            clips={name: [self.clips[name][row] for row in rows] for name in names},
            batch=self.batch.take(rows),
            cosines=self.cosines[list(rows)],
        )

    @property
    def target(self) -> Tensor:
        """Place [B] of the clips' labels among the classes' `labels`."""
        places = [self.labels.index(label) for label in self.clips["label"]]
        return torch.tensor(places, device=self.cosines.device)

    @cached_property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Probability [B] of the predicted class, of all and of nothing."""
        return self.certainties(torch.ones_like(self.batch.cells))

    def certainties(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Probability [B] of the predicted class, masked-in and masked-out."""
        found = self._predictions(masks, *self.masked_cosines(masks))
        return found.o, found.r

    def metrics(self, masks: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """Some of `METRICS` for masks of the batch, and `UNSCALED` ones at scale 1.

        Values [B] by column.
        """
        cosines = self.masked_cosines(masks)
        scaled = self._predictions(masks, *cosines)
        at_one = self._predictions(masks, *cosines, scale=1.0)
        known = {name: METRICS[name] for name in METRICS if name in names}
        again = {unscaled(n): m for n, m in known.items() if n in UNSCALED}
        return {**values_of(known, scaled), **values_of(again, at_one)}

    @torch.no_grad()
    def masked_cosines(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Similarities [B, K] of the masked-in and the masked-out clips."""
        batch, classes = self.batch, self.batch.classes
        assert classes is not None, "`predict` sets them"
        both = [
            batch.clap.front_end.input_tf(batch.spectrum, part, batch.domain)
            for part in (masks, 1 - masks)
        ]
        cosines = batch.clap.audio_embedding(torch.cat(both)) @ classes.T
        masked_in, masked_out = cosines.chunk(2)
        # the sums round otherwise in another batch, and AI would count it
        heard = (
            masks[:, batch.clap.front_end.visible] if batch.domain != "mel" else masks
        )
        whole = (heard == 1).all(2).all(1, keepdim=True)
        return torch.where(whole, self.cosines, masked_in), masked_out

    def _predictions(
        self,
        masks: Tensor,
        masked_in: Tensor,
        masked_out: Tensor,
        scale: float | None = None,
    ) -> MaskedPredictions:
        """Predictions from cosines, at the model's logit scale unless one is given."""
        scale = self.batch.clap.logit_scale if scale is None else scale
        parts = (self.cosines, masked_in, masked_out)
        given, kept, left = (torch.softmax(scale * cosines, 1) for cosines in parts)
        target = self.target if "label" in self.clips else None
        return MaskedPredictions(given, kept, left, masks, target)


@torch.no_grad()
def predict(
    clap: FrozenClap,
    prompts: Mapping[str, Tensor],
    clips: Mapping[str, Any],
    domain: Domain = "stft",
    seed: int = 0,
) -> PredictedClips:
    """Classify a batch; its prompts are those of the predicted classes.

    `clips` has wav [B, samples], samples [B], id and, for accuracy, label (lists of B).
    `prompts` has the embedding [D] of each label's prompt. Explainers draw with `seed`.
    """
    front_end = clap.front_end
    spectrum = front_end.stft(clips["wav"].to(clap.device))[..., : front_end.n_frames]
    log_mel = front_end.stft_to_log_mel(spectrum)
    class_text = torch.stack(list(prompts.values())).to(clap.device)
    cosines = clap.audio_embedding(log_mel) @ class_text.T
    grid = spectrum, log_mel, class_text[cosines.argmax(1)], clips["samples"]
    batch = ExplainerInput(
        clap, *grid, domain, seed, classes=class_text, ids=clips["id"]
    )
    return PredictedClips(clips, batch, list(prompts), cosines)


def score(predicted: PredictedClips, method: str, explained: Explained) -> pd.DataFrame:
    """Score the masks of a method, a row a clip.

    Columns: id, method, `METRICS`, `UNSCALED` at scale 1, seconds.
    """
    table = predicted.metrics(explained.masks, METRICS)
    return method_rows(method, {"id": predicted.clips["id"]}, table, explained.seconds)


def method_rows(
    method: str, clips: Mapping[str, Any], table: Mapping[str, Tensor], seconds: float
) -> pd.DataFrame:
    """Rows of one method: the clips' columns, method, its figures, seconds."""
    figures = {name: values.tolist() for name, values in table.items()}
    return pd.DataFrame({**clips, "method": method, **figures, "seconds": seconds})
