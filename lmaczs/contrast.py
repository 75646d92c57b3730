"""Contrast: what in a recording raises a prompt above others.

The margin is the similarity of the prompt less that of the most similar of the others.
A free mask that is optimised for it reaches any margin with a cell here and a cell
there, which is no sound of its own. Here a mask is a sum of components of the
spectrogram instead, each a spectrum that comes and goes (non-negative matrix
factorisation), and a few gradient steps find the share of each component. Masks from
factorisations of several sizes are averaged: no one number of components is right.

Factorisation: Lee and Seung, "Algorithms for Non-negative Matrix Factorization", NIPS
2000; of spectrograms for explanations: Parekh et al., "Listen to Interpret", NeurIPS
2022, who decide from activations, not from the model's gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lmaczs.clap import AudioEncoding, FrozenClap
from lmaczs.frontend import Domain, power
from lmaczs.presence import TIE
from lmaczs.refinement import EDGE, MaskedSound, PromptLead


@dataclass(frozen=True)
class ContrastOptions:
    """Options of `contrast_masks`.

    Attributes
    ----------
    components : tuple of int
        Sizes of the factorisations whose masks are averaged.
    iterations : int
        Of each factorisation.
    steps : int
        Gradient steps for each.
    rate : float
        Length of a step: root mean square over the shares' logits.
    momentum : float
        Fraction of the step before that is added to each, in [0, 1).
    batch_size : int
        Most prompts at once.
    """

    components: tuple[int, ...] = (5, 7, 9, 11)
    iterations: int = 100
    steps: int = 8
    rate: float = 0.5
    momentum: float = 0.7
    batch_size: int = 4


def rivals_of(text: Tensor, contrast: Tensor) -> Tensor:
    """Which of K contrasts [K, D] compete with each prompt [..., D]: bool [..., K].

    All but those of the prompt's own embedding: a prompt has no margin above itself.
    """
    return text @ contrast.T < 1 - TIE


def margins(text: Tensor, contrast: Tensor, embedding: Tensor) -> Tensor:
    """Similarity less that of the most similar rival, of prompts [P, D]: [P].

    In a sound of an embedding [D]; infinite for a prompt without a rival.
    """
    others = (contrast @ embedding).expand(len(text), -1)
    others = others.masked_fill(~rivals_of(text, contrast), -torch.inf)
    return text @ embedding - others.amax(1)


def relative_masks(masks: Tensor, others: Tensor, rivals: Tensor) -> Tensor:
    """A decoder's masks of prompts, less where those of their rivals are as high.

    Masks [n, P, F, T] of prompts and [n, K, F, T] of contrasts, and `rivals_of`
    [n, P, K]: `m^2 / (m + o)` with the highest mask `o` of a rival.
    """
    against = [
        (others * chosen[..., None, None]).amax(1) for chosen in rivals.unbind(1)
    ]
    highest = torch.stack(against, 1)
    return masks.square() / (masks + highest).clamp_min(torch.finfo(masks.dtype).tiny)


def contrast_masks(
    clap: FrozenClap,
    spectrum: Tensor,
    encoding: AudioEncoding,
    text: Tensor,
    contrast: Tensor,
    samples: Tensor,
    start: Tensor | None = None,
    asked: Tensor | None = None,
    domain: Domain = "stft",
    options: ContrastOptions | None = None,
    clips: Tensor | None = None,
) -> Tensor:
    """Masks whose masked-in sound is ahead of the contrasts, and the rest behind.

    What is maximised is the prompt's lead over the contrasts (`PromptLead`) in the
    masked-in sound, less that in the masked-out sound. The best mask of each descent is
    taken, its start included.

    Parameters
    ----------
    clap : FrozenClap
        The model that is explained; no gradient is left on it.
    spectrum : Tensor [N, F, n_frames], complex64
        STFT of the clips, fitted to the encoder's length.
    encoding : AudioEncoding
        Of the N clips; without `start`, its last features are where the fit starts.
    text : Tensor [B, D]
        Embeddings of the prompts, each with a rival at least.
    contrast : Tensor [K, D]
        Those of the contrasts; one that is a prompt itself does not compete with it.
    samples : Tensor [N]
        Lengths of the clips before they were fitted: masks repeat with the clip.
    start : Tensor [B, F, n_frames], or [B, n_mels, n_frames] in the mel domain
        Masks to start from, e.g. `relative_masks` of a decoder. Default: where local
        embeddings agree with the prompt more than with the contrasts.
    asked : Tensor [B], optional
        Where it is 0 the mask is empty. Default: 1.
    domain : {"mel", "stft", "waveform"}
        Where masks are applied.
    options : ContrastOptions, optional
        Default: `ContrastOptions()`.
    clips : Tensor [B], int, optional
        The clip of each prompt. Default: N is B, and each clip has one.

    Returns
    -------
    Tensor [B, F, n_frames], or [B, n_mels, n_frames] in the mel domain
        In [0, 1], without a gradient.
    """
    options = options or ContrastOptions()
    rows = torch.arange(len(text), device=text.device)
    clips = rows if clips is None else clips.to(text.device)
    samples = samples.to(text.device)
    asked = text.new_ones(len(text)) if asked is None else asked.to(text)
    parts = []
    with torch.inference_mode(False):  # its tensors can have no gradient
        for part in rows.split(options.batch_size):
            of = clips[part]
            sound = MaskedSound.of(clap.front_end, spectrum[of], samples[of], domain)
            lead = _lead(clap, text[part].clone(), contrast.clone())
            if start is None:
                first = sound.resized(_agreement(lead, encoding.features[-1][of]))
            else:
                first = sound.bands_of(sound.tiled(start[part].clone()))
            bands = _separated(clap, sound, lead, first, options)
            parts.append(sound.expanded(bands * asked[part, None, None]))
    return torch.cat(parts)


def factorise(magnitude: Tensor, components: int, iterations: int) -> Tensor:
    """Components of spectrograms, as masks that sum to 1.

    Non-negative matrix factorisation for the Kullback-Leibler divergence, by
    multiplicative updates from the same random start for every spectrogram.

    Parameters
    ----------
    magnitude : Tensor [B, M, T]
        Not negative.
    components : int
        How many.
    iterations : int
        Updates of both factors.

    Returns
    -------
    Tensor [B, components, M, T]
        Each component's share of every cell.
    """
    _, rows, columns = magnitude.shape
    random = torch.Generator().manual_seed(components)
    spectra = torch.rand(rows, components, generator=random).to(magnitude) + 0.1
    courses = torch.rand(components, columns, generator=random).to(magnitude) + 0.1
    tiny = torch.finfo(magnitude.dtype).tiny
    # a floor far below the loudest cell, for cells of digital silence
    floor = 1e-8 * magnitude.amax((1, 2), keepdim=True) + 1e-20
    given = magnitude + floor
    spectra, courses = (one.expand(len(given), -1, -1) for one in (spectra, courses))
    for _ in range(iterations):
        ratio = given / (spectra @ courses).clamp_min(tiny)
        total = spectra.sum(1)[..., None].clamp_min(tiny)
        courses = courses * (spectra.mT @ ratio) / total
        ratio = given / (spectra @ courses).clamp_min(tiny)
        total = courses.sum(2)[:, None].clamp_min(tiny)
        spectra = spectra * (ratio @ courses.mT) / total
    parts = spectra.mT[..., None] * courses[:, :, None] + tiny
    return parts / parts.sum(1, keepdim=True)


def _lead(clap: FrozenClap, text: Tensor, contrast: Tensor) -> PromptLead:
    """Lead over the contrasts that compete."""
    rivals = rivals_of(text, contrast)
    weights = -rivals.sum(1, keepdim=True).to(text).log().expand(-1, len(contrast))
    weights = weights.masked_fill(~rivals, -torch.inf)
    return PromptLead(text, contrast, weights, clap.logit_scale)


def _agreement(lead: PromptLead, places: Tensor) -> Tensor:
    """Sigmoids [B, f, t] of where places [B, D, f, t] agree with prompts, not rivals.

    Of standardised differences: a cosine is a number of one checkpoint.
    """
    towards = lead.text - lead.log_weights.exp() @ lead.references
    agreement = (towards[:, None] @ places.flatten(2))[:, 0]
    mean, spread = agreement.mean(1, keepdim=True), agreement.std(1, keepdim=True)
    standard = (agreement - mean) / spread.clamp_min(1e-6)
    shares: Tensor = standard.sigmoid().unflatten(1, places.shape[2:])
    return shares


def _separated(
    clap: FrozenClap,
    sound: MaskedSound,
    lead: PromptLead,
    first: Tensor,
    options: ContrastOptions,
) -> Tensor:
    """Mean over factorisations of masks on mel bands."""
    magnitude = clap.front_end.mel_power(power(sound.spectrum)).sqrt()
    total = torch.zeros_like(magnitude)
    for count in options.components:
        parts = factorise(magnitude, count, options.iterations)
        weight = (parts * magnitude[:, None]).flatten(2)
        share = (weight @ first.flatten(1)[..., None])[..., 0]
        share = share / weight.sum(2).clamp_min(torch.finfo(share.dtype).tiny)
        logits = share.clamp(EDGE, 1 - EDGE).logit()
        total += _descended(clap, sound, lead, parts, logits, options)
    return sound.tiled(total / len(options.components))


def _descended(
    clap: FrozenClap,
    sound: MaskedSound,
    lead: PromptLead,
    parts: Tensor,
    logits: Tensor,
    options: ContrastOptions,
) -> Tensor:
    """Best masks [n, n_mels, n_frames] of a descent from logits [n, k] of shares.

    Every clip's gradient is scaled to the root mean square 1.
    """
    best = logits.new_full((len(logits),), -torch.inf)
    found = torch.zeros_like(parts[:, 0])
    velocity = torch.zeros_like(logits)
    for step in range(options.steps + 1):
        last = step == options.steps
        with torch.set_grad_enabled(not last):
            here = logits.detach().requires_grad_(not last)
            bands = sound.tiled((here.sigmoid()[..., None, None] * parts).sum(1))
            both = torch.cat([sound.log_mel(bands), sound.log_mel(1 - bands)])
            masked, left = lead(clap.audio_embedding(both).unflatten(0, (2, -1)))
            gain = masked - left
        better = gain.detach() > best
        best[better], found[better] = gain.detach()[better], bands.detach()[better]
        if not last:
            (gradient,) = torch.autograd.grad(gain.sum(), here)
            size = gradient.square().mean(1, keepdim=True).sqrt()
            gradient = gradient / size.clamp_min(torch.finfo(size.dtype).tiny)
            velocity = options.momentum * velocity + gradient
            logits = logits + options.rate * velocity
    return found
