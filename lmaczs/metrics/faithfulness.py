"""How faithful and compact an explanation is: one value per clip.

Every function is pure and vectorised over the batch; no clip's value depends on the
others'. Probabilities are p = softmax(logit_scale * similarities to the label prompts),
and of the class that the model predicts on the input, ŷ = argmax p,

    c   is p[ŷ] on the input,
    o   is p[ŷ] on the masked-in signal,
    r   is p[ŷ] on the masked-out signal.

Masks that are zero or constant, certain predictions and silence have the values stated
below; finite arguments never give NaN.

To add a metric, add it to `METRICS`: results.csv, per_clip.csv, the printed tables, the
metrics of validation and test, and model cards follow it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu

from lmaczs.metrics.classification import top_k_hits
from lmaczs.metrics.metric import (
    Metric,
    by_name,
    ratio_or_zero,
    require_equal_shapes,
    values_of,
)


@dataclass(frozen=True)
class MaskedPredictions:
    """Predictions of a batch, with and without its masks.

    Attributes
    ----------
    input : Tensor [B, K]
        Class probabilities on the input.
    masked_in : Tensor [B, K]
        On the masked-in signals.
    masked_out : Tensor [B, K]
        On the masked-out signals.
    masks : Tensor [B, F, T]
        In [0, 1].
    labels : Tensor [B], optional
        True classes, integer in [0, K).

    Raises
    ------
    ValueError
        If the numbers of clips or classes differ.
    """

    input: Tensor
    masked_in: Tensor
    masked_out: Tensor
    masks: Tensor
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        require_equal_shapes(self.input, self.masked_in, self.masked_out)
        require_equal_shapes(self.input[:, 0], self.masks[:, 0, 0], self.labels)

    @property
    def c(self) -> Tensor:
        """Probability [B] of the predicted class on the input."""
        return self._predicted(self.input)

    @property
    def o(self) -> Tensor:
        """Probability [B] of the same class on the masked-in signals."""
        return self._predicted(self.masked_in)

    @property
    def r(self) -> Tensor:
        """Probability [B] of the same class on the masked-out signals."""
        return self._predicted(self.masked_out)

    def _predicted(self, probs: Tensor) -> Tensor:
        return probs.gather(1, self.input.argmax(1, keepdim=True)).squeeze(1)


def class_probabilities(
    audio_embeddings: Tensor, text_embeddings: Tensor, logit_scale: float | Tensor
) -> Tensor:
    """Probabilities of the zero-shot classifier.

    LMAC-ZS, eq. 9, writes the softmax without a factor. CLAP was trained with one, and
    AD, AG and FF change by an order of magnitude with it.

    Parameters
    ----------
    audio_embeddings : Tensor [B, D]
        Unit norm.
    text_embeddings : Tensor [K, D]
        Of the label prompts, unit norm.
    logit_scale : float | Tensor
        The checkpoint's factor on cosine similarities (already exponentiated).

    Returns
    -------
    Tensor [B, K]
        softmax(logit_scale * similarity).
    """
    return torch.softmax(logit_scale * audio_embeddings @ text_embeddings.T, dim=1)


def average_increase(c: Tensor, o: Tensor) -> Tensor:
    """AI, 100 [o > c]: whether the masked-in signal raises the probability. [B], %."""
    return 100.0 * (o > c).to(c.dtype)


def average_drop(c: Tensor, o: Tensor) -> Tensor:
    """AD, 100 relu(c - o) / c: fraction of the probability that is lost. [B], %.

    0 where c = 0.
    """
    return 100.0 * ratio_or_zero(relu(c - o), c)


def average_drop_speechbrain(input_probs: Tensor, masked_probs: Tensor) -> Tensor:
    """AD_sb, the drop as SpeechBrain's L-MAC recipe computes it. [B], %.

    The recipe (``compute_AD`` in recipes/ESC50/interpret/interpreter_brain.py) puts
    probabilities through a second softmax, q = softmax(p), and returns
    100 relu(q[ŷ] - q'[ŷ]) / q[ŷ]. That flattens them: losing all of a certain class
    gives 100 (1 - 1/e) = 63.2 instead of 100. Only for comparison with such tables.
    """
    flat_input, flat_masked = input_probs.softmax(1), masked_probs.softmax(1)
    # Its argmax comes after the second softmax, which may round two classes together.
    predicted = flat_input.argmax(1, keepdim=True)
    c, o = (flat.gather(1, predicted)[:, 0] for flat in (flat_input, flat_masked))
    return 100.0 * relu(c - o) / (c + 1e-10)


def average_gain(c: Tensor, o: Tensor) -> Tensor:
    """AG, 100 relu(o - c) / (1 - c): fraction of the missing probability won. [B], %.

    0 where c = 1.
    """
    return 100.0 * ratio_or_zero(relu(o - c), 1.0 - c)


def faithfulness(c: Tensor, r: Tensor) -> Tensor:
    """FF, c - r: drop of the probability without the explanation. [B], -1 to 1."""
    return c - r


def input_fidelity(input_probs: Tensor, masked_probs: Tensor) -> Tensor:
    """Fid-In, [argmax under the mask = ŷ]: whether the prediction stays. [B]."""
    return (masked_probs.argmax(1) == input_probs.argmax(1)).to(input_probs.dtype)


def sparseness(mask: Tensor) -> Tensor:
    """SPS, the Gini index of a mask [B, F, T]: whether few cells hold most of it. [B].

    With the n cells in ascending order, sum_i (2 i - n - 1) m_(i) / (n sum m). A
    constant mask, the all-zero one included, has 0, as in quantus. Unlike there, no
    other clip's scale enters (quantus divides by the batch maximum).
    """
    cells = mask.flatten(1).float().sort(dim=1).values
    n = cells.shape[1]
    # (2 i - n - 1) / n, which is antisymmetric: rounding cannot favour either end.
    ranks = torch.linspace(1.0 / n - 1.0, 1.0 - 1.0 / n, n, device=mask.device)
    return ratio_or_zero((ranks * cells).sum(1).clamp(min=0), cells.sum(1)).to(
        mask.dtype
    )


def complexity(mask: Tensor) -> Tensor:
    """COMP, the entropy of a mask [B, F, T] as a distribution, in nats. [B].

    -sum q ln q with q = m / sum m: how far the mask spreads. quantus has NaN for the
    all-zero mask; here it has ln n, the value of every constant mask, so that a mask
    that collapses is neither dropped from an average nor rewarded.
    """
    cells = mask.flatten(1).float()
    cells = torch.where(cells.any(1, keepdim=True), cells, torch.ones_like(cells))
    share = cells / cells.sum(1, keepdim=True)
    return torch.special.entr(share).sum(1).to(mask.dtype)


def mask_mean(mask: Tensor) -> Tensor:
    """MM, the mean of a mask [B, F, T]: how much it keeps. [B]."""
    return mask.mean((1, 2))


def _accuracy(batch: MaskedPredictions) -> Tensor:
    assert batch.labels is not None, "needs_labels"
    return top_k_hits(batch.input, batch.labels)


_LMAC = "Paissan et al., L-MAC, ICML 2024, arXiv 2403.13086"
_GRAD_CAM_PP = 'Chattopadhay et al., "Grad-CAM++", WACV 2018'

METRICS: dict[str, Metric[MaskedPredictions]] = by_name(
    # a property of the model, not of the explanation
    Metric(
        "accuracy",
        _accuracy,
        digits=3,
        limits=(0, 1),
        needs_labels=True,
        printed=False,
        meaning="how often the predicted class is the clip's",
    ),
    Metric(
        "AI",
        lambda x: average_increase(x.c, x.o),
        better="higher",
        digits=1,
        source=_GRAD_CAM_PP,
        meaning="clips whose predicted class is more probable under the mask, %",
        limits=(0, 100),
    ),
    Metric(
        "AD",
        lambda x: average_drop(x.c, x.o),
        better="lower",
        digits=1,
        source=_GRAD_CAM_PP,
        meaning="drop of the predicted class's probability under the mask, % of it",
        limits=(0, 100),
    ),
    Metric(
        "AD_sb",
        lambda x: average_drop_speechbrain(x.input, x.masked_in),
        better="lower",
        digits=1,
        source="SpeechBrain, recipes/ESC50/interpret",
        meaning="the same as SpeechBrain computes it, with a second softmax",
        limits=(0, 63.3),
        printed=False,
    ),
    Metric(
        "AG",
        lambda x: average_gain(x.c, x.o),
        better="higher",
        digits=1,
        source='Zhang et al., "Opti-CAM", arXiv 2301.07002, 2023',
        meaning="gain of that probability, % of what is left to 1",
        limits=(0, 100),
    ),
    Metric(
        "FF",
        lambda x: faithfulness(x.c, x.r),
        better="higher",
        digits=3,
        source=_LMAC,
        meaning="drop of that probability on what the mask leaves out",
        limits=(-1, 1),
    ),
    Metric(
        "Fid-In",
        lambda x: input_fidelity(x.input, x.masked_in),
        better="higher",
        digits=3,
        source=_LMAC,
        meaning="how often the predicted class stays under the mask",
        limits=(0, 1),
    ),
    Metric(
        "SPS",
        lambda x: sparseness(x.masks),
        better="higher",
        digits=3,
        source='Chalasani et al., "Concise Explanations of Neural Networks using '
        'Adversarial Training", ICML 2020',
        meaning="sparseness of the mask, its Gini index",
        limits=(0, 1),
    ),
    Metric(
        "COMP",
        lambda x: complexity(x.masks),
        better="lower",
        source='Bhatt et al., "Evaluating and Aggregating Feature-based Model '
        'Explanations", IJCAI 2020',
        meaning="complexity of the mask, its entropy",
        limits=(0, torch.inf),
    ),
    Metric(
        "MM",
        lambda x: mask_mean(x.masks),
        digits=3,
        source="Paissan et al., LMAC-ZS, NeurIPS 2024, arXiv 2405.17615",
        meaning="mean of the mask",
        limits=(0, 1),
    ),
)
"""Columns of results.csv, in its order."""
MEANINGS = {
    **{
        name: one.meaning + (f" ({one.better} is better)" if one.better else "")
        for name, one in METRICS.items()
    },
    "MM_absent": "mean of the mask for a prompt that is absent",
    "loss": "the objective (lower is better)",
}
"""What figures of a training and of an evaluation mean, for `legend`."""


def faithfulness_table(
    input_probs: Tensor,
    masked_in: Tensor,
    masked_out: Tensor,
    masks: Tensor,
    labels: Tensor | None = None,
) -> dict[str, Tensor]:
    """Every metric [B] of `METRICS`, of the parts of a `MaskedPredictions`.

    Without labels there is no accuracy.
    """
    batch = MaskedPredictions(input_probs, masked_in, masked_out, masks, labels)
    known = {
        n: m for n, m in METRICS.items() if not m.needs_labels or labels is not None
    }
    return values_of(known, batch)
