"""Every method of the comparison as one kind of function: a batch in, masks out.

LMAC-ZS+ and L-MAC decode, gradient methods make masks of a saliency, and chance and
energy are given as much of the spectrogram as LMAC-ZS+ takes. All masks are on the same
grid and are scored by the same code.

LMAC-ZS+ is LMAC-ZS with an objective and a decoder of ours, see `LmacZsObjective` and
`MaskDecoder`; a row of the paper's own objective would be called LMAC-ZS.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.evaluation.attribution import (
    SALIENCIES,
    Saliency,
    keep_all,
    loudest_bins,
    mask_of,
    shuffled_bins,
    shuffled_patches,
)
from lmaczs.frontend import Domain, cell_power

MAIN = "LMAC-ZS+"
KEEP_ALL = "keep-all"


@dataclass(frozen=True)
class Asked:
    """A batch of clips on the encoder's input grid, and what is asked of each.

    Attributes
    ----------
    spectrum : Tensor [B, F, T], complex64
        STFT.
    log_mel : Tensor [B, C, T, n_mels]
        The encoder's input.
    text : Tensor [B, D]
        Embedding of each clip's prompt.
    samples : Tensor [B]
        Length of the clips themselves.
    seed : int
        Of what a method draws.
    """

    spectrum: Tensor
    log_mel: Tensor
    text: Tensor
    samples: Tensor
    seed: int = 0


Explainer = Callable[[FrozenClap, Tensor, Tensor, int], Tensor]
"""Of a model, log-mels [B, C, T, n_mels], prompts [B, D], a seed: masks [B, F, T]."""


class Methods:
    """The methods of one comparison.

    Parameters
    ----------
    clap : FrozenClap
        The model that is explained.
    decoders : mapping of str to MaskDecoder
        Trained for it; the first one gives chance and energy their mean.
    domain : {"mel", "stft", "waveform"}
        Where masks are applied. In ``mel`` they are [B, n_mels, T].
    saliencies : mapping of str to Saliency
        Gradient methods.

    Attributes
    ----------
    names : list of str
        In the order of the tables.

    Raises
    ------
    ValueError
        If a decoder draws masks of another domain.
    """

    def __init__(
        self,
        clap: FrozenClap,
        decoders: Mapping[str, MaskDecoder],
        domain: Domain = "stft",
        saliencies: Mapping[str, Saliency] = SALIENCIES,
    ) -> None:
        for name, decoder in decoders.items():
            if (decoder.domain == "mel") != (domain == "mel"):
                raise ValueError(
                    f"{name} draws masks for the domain {decoder.domain}, "
                    f"and domain is {domain}"
                )
        self.clap, self.domain = clap, domain
        self.direct = {name: by_decoder(d) for name, d in decoders.items()}
        for name, saliency in saliencies.items():
            self.direct[name] = by_saliency(saliency, domain == "mel")
        self.main = next(iter(decoders))
        self.names = [*self.direct, *CHANCE, "energy", KEEP_ALL]

    def __call__(self, asked: Asked) -> dict[str, tuple[Tensor, float]]:
        """Masks of every method, and what they took.

        Parameters
        ----------
        asked : Asked
            A batch.

        Returns
        -------
        dict
            Of each method its masks [B, F, T] (or [B, n_mels, T]) and seconds for one
            clip, from log-mel to mask.
        """
        given = (self.clap, asked.log_mel, asked.text, asked.seed)
        found = {}
        for name, explain in self.direct.items():
            masks, seconds = timed(lambda e=explain: e(*given))
            tiled = self.clap.front_end.tile_mask(masks, asked.samples)
            found[name] = tiled, seconds
        like = found[self.main][0]
        cells = cell_power(self.clap.front_end, asked.spectrum, self.domain)
        for name, shuffle in CHANCE.items():
            rng = torch.Generator().manual_seed(asked.seed)
            found[name] = timed(lambda s=shuffle, r=rng: s(like, r))
        found["energy"] = timed(lambda: loudest_bins(cells, like))
        found[KEEP_ALL] = timed(lambda: keep_all(like))
        return found


def timed(method: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Masks, and what they took.

    Parameters
    ----------
    method : callable
        Returns masks [B, F, T].

    Returns
    -------
    tuple
        The masks, and seconds for one of them.
    """
    start = time.perf_counter()
    masks = method()
    if masks.is_cuda:
        torch.cuda.synchronize()
    return masks, (time.perf_counter() - start) / len(masks)


CHANCE: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "random patches": shuffled_patches,
    "random bins": shuffled_bins,
}


def by_decoder(decoder: MaskDecoder) -> Explainer:
    """Explain with a decoder.

    Parameters
    ----------
    decoder : MaskDecoder
        Trained.

    Returns
    -------
    Explainer
    """

    @torch.inference_mode()
    def explain(clap: FrozenClap, log_mel: Tensor, text: Tensor, seed: int) -> Tensor:
        features = clap.audio_features(log_mel).features
        return decoder(text[:, None], features, log_mel)[:, 0]

    return explain


def by_saliency(saliency: Saliency, mel: bool = False) -> Explainer:
    """Explain with a gradient method.

    Parameters
    ----------
    saliency : Saliency
        The method.
    mel : bool
        Whether masks are for the mel domain.

    Returns
    -------
    Explainer
    """

    def explain(clap: FrozenClap, log_mel: Tensor, text: Tensor, seed: int) -> Tensor:
        return mask_of(saliency(clap, log_mel, text, seed), clap.front_end, mel)

    return explain
