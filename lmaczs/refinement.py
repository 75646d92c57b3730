"""Test-time refinement: gradient steps on the mask of one clip and prompt.

A decoder's mask is a guess. The model that is explained can check it, and a few steps
down the gradient of an objective repair it; without a decoder they start from where the
model's own local embeddings agree with the prompt. No weight changes.

What is optimised is the lead of the prompt, see `PromptLead`: higher in the masked-in
sound and gone from the masked-out sound, under a small and smooth mask. Each step
scores the mask as it would be returned, rounded, at the encoder's input. A cosine is
not comparable across checkpoints: targets are relative to the unmasked clip, to what
an average reference prompt has, and to what the prompt can reach.

A mask that meets its target is left alone. Steps that go on to the smallest mask keep
the model convinced, but another model no longer hears the sound in it: what is left is
what the one model needs, not the sound (`lmaczs.evaluation.robustness` measures this).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lmaczs.clap import AudioEncoding, FrozenClap
from lmaczs.frontend import Domain, FrontEnd, power
from lmaczs.utils.errors import InputError

# Of a mask at the start: its largest logit, from which a few steps reach any other one,
# and the sigmoid of minus that.
REACH, EDGE = 3.5, 0.03
SPARING = 0.5  # standard deviations above the mean from which a fit keeps places


@dataclass(frozen=True)
class RefinementOptions:
    """Options of `refine`.

    Attributes
    ----------
    steps : int
        Most gradient steps.
    until_met : bool
        Whether a clip that meets its target takes no further step.
    rate : float
        Length of a step: root mean square over a mask's logits.
    momentum : float
        Fraction of the step before that is added to each, in [0, 1).
    margin : float
        Nats by which the objective raises the prompt's lead in the masked-in sound.
    headroom : float
        A clip is finished where the prompt's lead in the masked-in sound is above that
        in the clip by this fraction of the most that it could be, or by the margin if
        that is less, and the masked-out sound has little enough of it:
    residue : float
        At most this fraction of the clip's lead.
    faithfulness : float
        Weight of each nat that the leads lack, see `Target`.
    variation : float
        Weight of the mask's total variation over time and frequency; that of its mean
        is 1.
    alike : float
        Fraction of the reference prompts, those most similar to a prompt, that do not
        compete with it: they may mean the same.
    stride : int
        Mel bands, and frames, per logit; as `MaskDecoder.stride`.
    batch_size : int
        Most clips that are refined at once.
    """

    steps: int = 8
    until_met: bool = True
    rate: float = 0.5
    momentum: float = 0.7
    margin: float = 1.0
    headroom: float = 0.25
    residue: float = 0.1
    faithfulness: float = 4.0
    variation: float = 0.5
    alike: float = 0.02
    stride: int = 4
    batch_size: int = 4


@dataclass(frozen=True)
class Refined:
    """What `refine` found.

    Attributes
    ----------
    masks : Tensor [B, F, n_frames], or [B, n_mels, n_frames] in the mel domain
        In [0, 1], without a gradient.
    soft : Tensor, shaped as the masks
        Sigmoids of their logits, before rounding: an order of the cells that are kept.
    steps : Tensor [B], int64
        Gradient steps that were taken.
    met : Tensor [B], bool
        Whether the mask meets the target.
    """

    masks: Tensor
    soft: Tensor
    steps: Tensor
    met: Tensor


@dataclass(frozen=True)
class PromptLead:
    """How far prompts are ahead of an average reference prompt, in nats.

    ``s t . a - log mean_r exp(s t_r . a)`` with the logit scale `s`, the embedding `a`
    of a sound, and the references `r` that compete with the prompt `t`: 0 for a prompt
    that the sound resembles as much as it does those.

    Attributes
    ----------
    text : Tensor [B, D]
        Embeddings of the prompts, unit norm.
    references : Tensor [K, D]
        Those of the reference prompts.
    log_weights : Tensor [B, K]
        Logarithm of each reference's weight in the mean; minus infinity for those that
        do not compete.
    scale : float
        The checkpoint's logit scale.
    """

    text: Tensor
    references: Tensor
    log_weights: Tensor
    scale: float

    @classmethod
    def of(
        cls, text: Tensor, references: Tensor, scale: float, alike: float
    ) -> PromptLead:
        """Leave out, for each prompt, the fraction `alike` of the references.

        At least one, that most similar to it. InputError if there are fewer than two
        references.
        """
        count = len(references)
        if count < 2:
            raise InputError(f"{count} reference prompts; give two or more")
        left_out = min(max(1, round(alike * count)), count - 1)
        similar = text @ references.T
        weights = torch.full_like(similar, -math.log(count - left_out))
        nearest = similar.topk(left_out, dim=1).indices
        return cls(text, references, weights.scatter(1, nearest, -math.inf), scale)

    def rows(self, index: Tensor) -> PromptLead:
        """These rows of the batch."""
        weights = self.log_weights[index]
        return PromptLead(self.text[index], self.references, weights, self.scale)

    def __call__(self, embedding: Tensor) -> Tensor:
        """Lead [..., B] in sounds of embeddings [..., B, D]."""
        own = self.scale * (embedding * self.text).sum(-1)
        others = self.scale * embedding @ self.references.T + self.log_weights
        return own - others.logsumexp(-1)


@dataclass(frozen=True)
class MaskedSound:
    """Clips to which masks are applied, on mel bands where that is exact.

    Attributes
    ----------
    front_end : FrontEnd
        The checkpoint's.
    spectrum : Tensor [B, F, n_frames], complex64
        STFT.
    samples : Tensor [B]
        Lengths before they were fitted to the encoder's.
    domain : {"mel", "stft", "waveform"}
        Where masks are applied.
    response : Tensor
        Power as a function of a mask on mel bands.
    """

    front_end: FrontEnd
    spectrum: Tensor
    samples: Tensor
    domain: Domain
    response: Tensor

    @classmethod
    def of(
        cls, front_end: FrontEnd, spectrum: Tensor, samples: Tensor, domain: Domain
    ) -> MaskedSound:
        """Precompute the response."""
        cells = power(spectrum)
        found = {
            "mel": front_end.mel_power,
            "stft": front_end.mask_response,
            "waveform": lambda _: spectrum.new_zeros(len(spectrum)).real,
        }[domain](cells)
        return cls(front_end, spectrum, samples, domain, found)

    def rows(self, index: Tensor) -> MaskedSound:
        """These rows of the batch."""
        parts = self.spectrum[index], self.samples[index], self.domain
        return MaskedSound(self.front_end, *parts, self.response[index])

    def tiled(self, masks: Tensor) -> Tensor:
        """Repeat masks with clips that are shorter than the encoder's input."""
        return self.front_end.tile_mask(masks, self.samples)

    def expanded(self, bands: Tensor) -> Tensor:
        """Masks of the domain, from masks on mel bands."""
        return bands if self.domain == "mel" else self.front_end.expand_mask(bands)

    def bands_of(self, masks: Tensor) -> Tensor:
        """Masks on mel bands, from masks of the domain: means over each band."""
        if self.domain == "mel":
            return masks
        filters = self.front_end.mel_filters
        return (filters / filters.sum(0)).T @ masks

    def resized(self, maps: Tensor) -> Tensor:
        """Interpolate maps [B, f, t] to mel bands and frames."""
        size = self.front_end.n_mels, self.front_end.n_frames
        fine = nn.functional.interpolate(maps[:, None], size, mode="bilinear")
        return fine[:, 0]

    def log_mel(self, bands: Tensor) -> Tensor:
        """Encoder input under masks on mel bands [B, n_mels, n_frames]."""
        front_end = self.front_end
        if self.domain == "waveform":
            return self.log_mel_under(self.expanded(bands))
        if self.domain == "mel":
            return front_end.to_log_mel(bands.square() * self.response)
        return front_end.to_log_mel(front_end.masked_mel_power(self.response, bands))

    def log_mel_under(self, masks: Tensor) -> Tensor:
        """Encoder input under masks of the domain."""
        return self.front_end.input_tf(self.spectrum, masks, self.domain)


@dataclass(frozen=True)
class Target:
    """What the prompt's leads in masked-in and masked-out sound have to reach.

    The objective goes on beyond where a clip is finished, as far as a margin: where
    both were one, the mask's size would win before it.

    Attributes
    ----------
    masked, residual : Tensor [B]
        Leads at which the objective asks for no more.
    enough, little : Tensor [B]
        Those at which a clip is finished.
    """

    masked: Tensor
    residual: Tensor
    enough: Tensor
    little: Tensor

    @classmethod
    def of(
        cls, lead: PromptLead, embedding: Tensor, options: RefinementOptions
    ) -> Target:
        """Target for clips of embeddings [B, D]."""
        unmasked = lead(embedding)
        possible = (lead(lead.text) - unmasked).clamp_min(0)
        rise = (options.headroom * possible).clamp_max(options.margin)
        # where the clip itself has no lead, masked-out sound has to be below it
        gone = (unmasked - options.margin).clamp_max(0)
        enough, little = unmasked + rise, options.residue * unmasked
        return cls(unmasked + options.margin, gone, enough, little)

    def rows(self, index: Tensor) -> Target:
        """These rows of the batch."""
        return Target(*(value[index] for value in vars(self).values()))

    def lacking(self, masked: Tensor, residual: Tensor) -> Tensor:
        """Nats [B] that two leads [B] lack."""
        return (self.masked - masked).relu() + (residual - self.residual).relu()

    def met(self, masked: Tensor, residual: Tensor) -> Tensor:
        """Whether the clips are finished: [B], bool."""
        return (masked >= self.enough) & (residual <= self.little)


def refine(
    clap: FrozenClap,
    spectrum: Tensor,
    encoding: AudioEncoding,
    text: Tensor,
    references: Tensor,
    samples: Tensor,
    start: Tensor | None = None,
    asked: Tensor | None = None,
    domain: Domain = "stft",
    options: RefinementOptions | None = None,
    clips: Tensor | None = None,
) -> Refined:
    """Refine masks, or fit them from nothing; none depends on the others.

    Returned is the mask, the start included, of the lowest objective among those that
    meet the target (`Target`), else among all: never one that is worse than the start.

    Parameters
    ----------
    clap : FrozenClap
        The model that is explained; no gradient is left on it.
    spectrum : Tensor [N, F, n_frames], complex64
        STFT of the clips, fitted to the encoder's length.
    encoding : AudioEncoding
        Of the N clips; without `start`, its last features are where the fit starts.
    text : Tensor [B, D]
        Embeddings of the prompts.
    references : Tensor [K, D]
        Embeddings of the reference prompts.
    samples : Tensor [N]
        Lengths of the clips before they were fitted: masks repeat with the clip.
    start : Tensor [B, F, n_frames], or [B, n_mels, n_frames] in the mel domain
        Masks to start from, e.g. a decoder's. Default: `agreement_logits`.
    asked : Tensor [B], optional
        Weight of each mask's faithfulness, in [0, 1]; where it is 0 the mask is empty.
        Default: 1.
    domain : {"mel", "stft", "waveform"}
        Where masks are applied.
    options : RefinementOptions, optional
        Default: `RefinementOptions()`.
    clips : Tensor [B], int, optional
        The clip of each prompt. Default: N is B, and each clip has one.

    Returns
    -------
    Refined

    Raises
    ------
    InputError
        If there are fewer than two reference prompts.
    """
    options = options or RefinementOptions()
    asked = text.new_ones(len(text)) if asked is None else asked.to(text)
    samples = samples.to(text.device)
    parts = []
    with torch.inference_mode(False):  # its tensors can have no gradient
        references = references.clone()
        rows = torch.arange(len(text), device=text.device)
        clips = rows if clips is None else clips.to(text.device)
        for part in rows.split(options.batch_size):
            of = clips[part]
            lead = PromptLead.of(
                text[part], references, clap.logit_scale, options.alike
            )
            target = Target.of(lead, encoding.embedding[of], options)
            sound = MaskedSound.of(clap.front_end, spectrum[of], samples[of], domain)
            if start is None:
                first = None
                base = agreement_logits(lead, encoding.features[-1][of])
                base = sound.resized(base)
            else:
                first = sound.tiled(start[part].clone())
                base = sound.bands_of(first).logit(EDGE)
            problem = _Problem(clap, sound, lead, target, base, asked[part], options)
            parts.append(_descend(problem, first))
    return Refined(*(torch.cat(values) for values in zip(*parts, strict=True)))


@dataclass(frozen=True)
class _Problem:
    """What is minimised for a batch of clips.

    `base` has the logits [n, n_mels, n_frames] of the masks at the start.
    """

    clap: FrozenClap
    sound: MaskedSound
    lead: PromptLead
    target: Target
    base: Tensor
    asked: Tensor
    options: RefinementOptions

    def rows(self, index: Tensor) -> _Problem:
        return _Problem(
            self.clap,
            self.sound.rows(index),
            self.lead.rows(index),
            self.target.rows(index),
            self.base[index],
            self.asked[index],
            self.options,
        )

    def logits(self, change: Tensor) -> Tensor:
        """Logits [n, n_mels, n_frames] after a change [n, 1, f, t] on the grid."""
        stride, shape = self.options.stride, self.base.shape
        rows, columns = stride * change.shape[-2], stride * change.shape[-1]
        fine = nn.functional.interpolate(change, (rows, columns), mode="bilinear")
        return self.base + fine[:, 0, : shape[-2], : shape[-1]]

    def score(self, change: Tensor, start: Tensor | None) -> _Score:
        """Score the masks after a change; with `start`, that instead.

        The gradient in the change is that of its masks in both cases.
        """
        sound = self.sound
        bands = sound.tiled(rounded_mask(self.logits(change)))
        if start is None:
            parts = sound.log_mel(bands), sound.log_mel(1 - bands)
        else:
            masks = start + _gradient_alone(sound.expanded(bands))
            parts = sound.log_mel_under(masks), sound.log_mel_under(1 - masks)
            bands = sound.bands_of(start) + _gradient_alone(bands)
        both = self.clap.audio_embedding(torch.cat(parts)).unflatten(0, (2, -1))
        leads = self.lead(both)
        objective = bands.mean((1, 2)) + self.options.variation * total_variation(bands)
        weight = self.asked * self.options.faithfulness
        objective = objective + weight * self.target.lacking(*leads)
        return _Score(bands.detach(), objective, self.target.met(*leads))


@dataclass(frozen=True)
class _Score:
    bands: Tensor
    objective: Tensor
    met: Tensor


def _descend(problem: _Problem, start: Tensor | None) -> tuple[Tensor, ...]:
    """Fields of `Refined`, by normalised gradients.

    Every clip's gradient is scaled to the root mean square 1, as the objective's scale
    differs between clips by orders of magnitude; finished clips leave the batch.
    """
    options, base = problem.options, problem.base
    cells = [-(-size // options.stride) for size in base.shape[1:]]
    change = base.new_zeros(len(base), 1, *cells)
    velocity, bands = torch.zeros_like(change), torch.zeros_like(base)
    best_change = torch.zeros_like(change)
    asked = problem.asked > 0
    best = torch.full_like(problem.asked, math.inf)
    steps = torch.zeros_like(asked, dtype=torch.int64)
    met, kept_start = ~asked, asked & (start is not None)
    rows = asked.nonzero()[:, 0]
    active = problem.rows(rows)
    for step in range(options.steps + 1 if len(rows) else 0):
        last = step == options.steps
        with torch.set_grad_enabled(not last):
            here = change[rows].requires_grad_(not last)
            first = start[rows] if step == 0 and start is not None else None
            score = active.score(here, first)
        objective = score.objective.detach()
        better = (score.met & ~met[rows]) | (
            (score.met == met[rows]) & (objective < best[rows])
        )
        chosen = rows[better]
        best[chosen], bands[chosen] = objective[better], score.bands[better]
        met[chosen], steps[rows] = score.met[better], step
        best_change[chosen] = change[chosen]
        kept_start[chosen] &= step == 0
        left = ~(score.met & options.until_met)
        if last or not bool(left.any()):
            break
        (gradient,) = torch.autograd.grad(score.objective.sum(), here)
        rows, active = rows[left], active.rows(left.nonzero()[:, 0])
        velocity[rows] = options.momentum * velocity[rows] + _normalised(gradient[left])
        change[rows] -= options.rate * velocity[rows]
    sound = problem.sound
    masks = sound.expanded(bands)
    if start is not None:
        masks = torch.where(kept_start[:, None, None], start, masks)
    soft = problem.logits(best_change).sigmoid() * asked[:, None, None]
    return masks, sound.expanded(sound.tiled(soft)), steps, met


def rounded_mask(logits: Tensor) -> Tensor:
    """Masks of logits; 1 above 0.5, with the sigmoid's gradient as in `MaskDecoder`."""
    mask = logits.sigmoid()
    return mask + ((1 - mask) * (mask > 0.5)).detach()


def agreement_logits(lead: PromptLead, places: Tensor) -> Tensor:
    """Logits [B, f, t] that are high where a clip resembles the prompts.

    Similarity of a prompt, less the mean of the references, with the embedding of each
    place [B, D, f, t] (the last of `AudioEncoding.features`), standardised.
    """
    towards = lead.text - lead.references.mean(0)
    agreement = (towards[:, None] @ places.flatten(2))[:, 0]
    mean, spread = agreement.mean(1, keepdim=True), agreement.std(1, keepdim=True)
    standard = (agreement - mean) / spread.clamp_min(1e-6) - SPARING
    logits: Tensor = standard.clamp(-REACH, REACH).unflatten(1, places.shape[2:])
    return logits


def total_variation(bands: Tensor) -> Tensor:
    """Mean absolute difference of neighbours in time, and in frequency: [n]."""
    time: Tensor = bands.diff(dim=-1).abs().mean((1, 2))
    frequency: Tensor = bands.diff(dim=-2).abs().mean((1, 2))
    return time + frequency


def _gradient_alone(value: Tensor) -> Tensor:
    """Zero, with the gradient of `value`."""
    return value - value.detach()


def _normalised(gradient: Tensor) -> Tensor:
    size = gradient.square().mean((1, 2, 3), keepdim=True).sqrt()
    return gradient / size.clamp_min(torch.finfo(gradient.dtype).tiny)
