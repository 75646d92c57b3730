"""The explainers of a comparison, on the same clips.

Decoders come first, then the entries of `EXPLAINERS`. All masks are on the same grid
and are scored by the same code.

LMAC-ZS+ is LMAC-ZS with an objective and a decoder of ours, see `Objective` and
`MaskDecoder`; LMAC-ZS is a decoder of the paper's own objective.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.decoder import Decoder
from lmaczs.evaluation import (
    agreement,
    attention,
    attribution,
    baselines,
    bottleneck,
    kernel_shap,
    perturbation,
    refined,
    score_cam,
)
from lmaczs.evaluation.attribution import (
    Attribution,
    carry,
    gradient_explainer,
    normalise_attribution,
)
from lmaczs.evaluation.explainer import Explainer, ExplainerInput
from lmaczs.frontend import Domain
from lmaczs.utils.errors import InputError, nearest

MAIN = "LMAC-ZS+"
REFINED = f"{MAIN} refined"
KEEP_ALL = "keep-all"


@dataclass(frozen=True)
class Explained:
    """What a method makes of a batch.

    Attributes
    ----------
    masks : Tensor [B, F, T], or [B, n_mels, T] in the mel domain
        In [0, 1].
    ranking : Tensor, shaped as the masks
        The map that the masks were made of, on their grid, with its signs; the masks
        themselves where there is none.
    seconds : float
        For one clip, from log-mel to mask.
    """

    masks: Tensor
    ranking: Tensor
    seconds: float

    def take(self, rows: Sequence[int]) -> Explained:
        """Some clips of the batch, by number."""
        chosen = list(rows)
        return replace(self, masks=self.masks[chosen], ranking=self.ranking[chosen])


@dataclass(frozen=True)
class Method:
    """An explainer and its name in tables and figures.

    `needs_gradient`: it differentiates the model. `source`: where the literature
    defines it. `passes`: encoder passes for one clip, each forward and each backward
    pass of one input counted as one. `attribution`: the map from which
    `normalise_attribution` makes its masks, where there is one; equal areas are cut
    from it. `ranked`: the masks of `explain` and a map that orders the cells,
    [B, 2, ...].
    """

    name: str
    explain: Explainer
    needs_gradient: bool = False
    source: str = ""
    passes: int = 0
    attribution: Attribution | None = None
    ranked: Callable[[ExplainerInput], Tensor] | None = None

    def __call__(self, batch: ExplainerInput) -> Tensor:
        """Explain a batch, see `Explainer`."""
        with torch.set_grad_enabled(self.needs_gradient):
            return self.explain(batch).detach()

    def explained(self, batch: ExplainerInput) -> Explained:
        """Masks, and the map that they are made of, which is computed once."""
        if self.ranked is not None:
            both, seconds = timed(self.ranked, batch)
            return Explained(both[:, 0], both[:, 1], seconds)
        if self.attribution is None:
            masks, seconds = timed(self, batch)
            return Explained(masks, masks, seconds)
        front_end, mel = batch.clap.front_end, batch.domain == "mel"
        with torch.set_grad_enabled(self.needs_gradient):
            found, seconds = timed(self.attribution, batch)
        found = found.detach()

        def normalised(batch: ExplainerInput) -> Tensor:
            return batch.tiled(normalise_attribution(found, front_end, mel))

        masks, more = timed(normalised, batch)
        ranking = batch.tiled(carry(found, front_end, mel))
        return Explained(masks, ranking, seconds + more)


def attribution_method(
    name: str, attribution: Attribution, needs_gradient: bool, passes: int, source: str
) -> Method:
    """Method whose masks are a normalised attribution, see `normalise_attribution`."""
    explain = gradient_explainer(attribution)
    return Method(name, explain, needs_gradient, source, passes, attribution)


def ranked_method(
    name: str, ranked: Callable[[ExplainerInput], Tensor], passes: int, source: str
) -> Method:
    """Method that gives its masks and their order of the cells [B, 2, ...] at once."""

    def explain(batch: ExplainerInput) -> Tensor:
        return ranked(batch)[:, 0]

    return Method(name, explain, source=source, passes=passes, ranked=ranked)


EXPLAINERS: dict[str, Method] = {
    method.name: method
    for method in (
        attribution_method(
            "Grad-CAM",
            attribution.grad_cam,
            needs_gradient=True,
            passes=2,
            source='Selvaraju et al., "Grad-CAM", ICCV 2017',
        ),
        attribution_method(
            "Grad-CAM++",
            attribution.grad_cam_pp,
            needs_gradient=True,
            passes=2,
            source='Chattopadhay et al., "Grad-CAM++", WACV 2018',
        ),
        attribution_method(
            "SmoothGrad",
            attribution.smooth_grad,
            needs_gradient=True,
            passes=100,
            source='Smilkov et al., "SmoothGrad", arXiv 1706.03825, 2017',
        ),
        attribution_method(
            "Integrated Gradients",
            attribution.integrated_gradients,
            needs_gradient=True,
            passes=100,
            source='Sundararajan et al., "Axiomatic Attribution for Deep Networks", '
            "ICML 2017",
        ),
        attribution_method(
            "agreement",
            agreement.agreement,
            needs_gradient=False,
            passes=1,
            source='after Zhou et al., "Extract Free Dense Labels from CLIP", '
            "ECCV 2022",
        ),
        attribution_method(
            "agreement less class mean",
            agreement.agreement_less_class_mean,
            needs_gradient=False,
            passes=1,
            source='after Li et al., "CLIP Surgery", arXiv 2304.05653, 2023',
        ),
        attribution_method(
            "LeGrad",
            attention.legrad,
            needs_gradient=True,
            passes=2,
            source='Bousselham et al., "LeGrad", ICCV 2025',
        ),
        attribution_method(
            "Grad-ECLIP",
            attention.grad_eclip,
            needs_gradient=True,
            passes=2,
            source='Zhao et al., "Gradient-based Visual Explanation for '
            'Transformer-based CLIP", ICML 2024',
        ),
        attribution_method(
            "attention relevance",
            attention.attention_relevance,
            needs_gradient=True,
            passes=2,
            source='Chefer et al., "Generic Attention-model Explainability", ICCV 2021',
        ),
        attribution_method(
            "M2IB",
            bottleneck.m2ib,
            needs_gradient=True,
            passes=1 + 2 * bottleneck.STEPS * bottleneck.SAMPLES,
            source='Wang et al., "Visual Explanations of Image-Text Representations '
            'via Multi-Modal Information Bottleneck Attribution", NeurIPS 2023',
        ),
        attribution_method(
            "RISE",
            perturbation.rise,
            needs_gradient=False,
            passes=150,
            source='Petsiuk et al., "RISE", BMVC 2018',
        ),
        attribution_method(
            "occlusion",
            perturbation.occlusion,
            needs_gradient=False,
            passes=129,
            source='Zeiler & Fergus, "Visualizing and Understanding Convolutional '
            'Networks", ECCV 2014',
        ),
        attribution_method(
            "Score-CAM",
            score_cam.score_cam,
            needs_gradient=False,
            passes=257,  # all maps of the embedded CLAP's last stage
            source='Wang et al., "Score-CAM", CVPR Workshops 2020',
        ),
        attribution_method(
            "gScoreCAM",
            score_cam.gscore_cam,
            needs_gradient=True,
            passes=66,
            source='Chen et al., "gScoreCAM: What objects is CLIP looking at?", '
            "ACCV 2022",
        ),
        attribution_method(
            "KernelSHAP",
            kernel_shap.kernel_shap,
            needs_gradient=False,
            passes=150,
            source='Lundberg & Lee, "A Unified Approach to Interpreting Model '
            'Predictions", NeurIPS 2017',
        ),
        ranked_method(
            REFINED,
            refined.refined,
            refined.PASSES,
            "ours: LMAC-ZS+, then gradient steps on the mask, see refinement.py",
        ),
        ranked_method(
            "fitted",
            refined.fitted,
            refined.PASSES,
            "ours: gradient steps from the agreement, without a decoder; cf. "
            'Zhang et al., "Opti-CAM", arXiv 2301.07002, 2023',
        ),
        Method("random patches", baselines.random_patches),
        Method("random bins", baselines.random_bins),
        Method("energy", baselines.energy),
        Method(KEEP_ALL, baselines.keep_all),
    )
}
"""The one place where an explainer is added: evaluation, tables and figures follow."""


def chosen(names: Sequence[str], option: str = "explainers") -> dict[str, Method]:
    """Entries of `EXPLAINERS`; InputError names one that does not exist."""
    for name in names:
        require_name(name, EXPLAINERS, option)
    return {name: EXPLAINERS[name] for name in names}


def require_name(name: str, known: Collection[str], option: str) -> None:
    """Raise InputError, with the nearest name, for one that is not known."""
    if name not in known:
        fix = nearest(name, known) or f": there are {', '.join(known)}"
        raise InputError(f"{option} names {name!r}{fix}")


def choose_methods(
    known: Sequence[str], methods: Sequence[str] | None, without: Sequence[str] = ()
) -> list[str]:
    """Names of `known` to compute, in its order: all, or `methods`, less `without`.

    The first one is among them, whose masks give others their area. InputError for a
    name that is not known, or to leave out the first one.
    """
    for option, names in (("methods", methods or ()), ("without", without)):
        for name in names:
            require_name(name, known, option)
    if known[0] in without:
        raise InputError(
            f"without names {known[0]}, whose masks give the area of others: leave it "
            "out of --without"
        )
    wanted = {known[0], *(known if methods is None else methods)} - set(without)
    return [name for name in known if name in wanted]


class ExplainerSuite:
    """The explainers of one comparison.

    Parameters
    ----------
    clap : FrozenClap
        The model that is explained.
    decoders : mapping of str to Decoder
        Trained for it; the baselines' masks have the first one's mean.
    domain : {"mel", "stft", "waveform"}
        Where masks are applied. In ``mel`` they are [B, n_mels, T].
    explainers : mapping of str to Method, optional
        To compare the decoders with; default: `EXPLAINERS`.

    Attributes
    ----------
    names : list of str
        Of decoders and explainers, in the order of the tables.
    reference : Decoder or None
        The first decoder, whose masks are those of `with_reference`.

    Raises
    ------
    InputError
        If a decoder's masks are of another domain.
    """

    def __init__(
        self,
        clap: FrozenClap,
        decoders: Mapping[str, Decoder],
        domain: Domain = "stft",
        explainers: Mapping[str, Method] | None = None,
    ) -> None:
        for name, decoder in decoders.items():
            if (decoder.domain == "mel") != (domain == "mel"):
                raise InputError(
                    f"{name} draws masks for the domain {decoder.domain}, "
                    f"and domain is {domain}"
                )
        self.clap, self.domain, self.decoders = clap, domain, dict(decoders)
        self.methods = {name: decoder_method(name, d) for name, d in decoders.items()}
        self.methods.update(EXPLAINERS if explainers is None else explainers)
        self.names = list(self.methods)
        self.reference = next(iter(decoders.values()), None)

    def with_reference(self, batch: ExplainerInput) -> ExplainerInput:
        """Add the first decoder's masks to a batch; as it is if there is none."""
        if self.reference is None:
            return batch
        masks = decoder_method("reference", self.reference)(batch)
        return replace(batch, reference=masks)

    def explain(self, name: str, batch: ExplainerInput) -> Explained:
        """Explain a batch `with_reference` by one of `names`."""
        return self.methods[name].explained(batch)


def timed(
    method: Callable[[ExplainerInput], Tensor], batch: ExplainerInput
) -> tuple[Tensor, float]:
    """What is computed of a batch, and the seconds for one clip."""
    start = time.perf_counter()
    found = method(batch)
    if found.is_cuda:
        torch.cuda.synchronize()
    return found, (time.perf_counter() - start) / len(found)


def decoder_method(name: str, decoder: Decoder) -> Method:
    """Method of a trained decoder."""

    def explain(batch: ExplainerInput) -> Tensor:
        features = batch.clap.audio_features(batch.log_mel).features
        masks = decoder(batch.text[:, None], features, batch.log_mel)
        return batch.tiled(masks[:, 0])

    return Method(name, explain, passes=1)
