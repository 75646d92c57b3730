"""Refinement against brute force: what it promises of the masks, whatever the clips."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lmaczs.clap import AudioEncoding, FrozenClap
from lmaczs.frontend import DOMAINS, Domain
from lmaczs.refinement import (
    MaskedSound,
    PromptLead,
    Refined,
    RefinementOptions,
    Target,
    agreement_logits,
    refine,
    total_variation,
)

RATE, SIZE = 32000, 160000  # of the tiny CLAP
PROMPTS = ["a tone", "white noise", "a click"]
REFERENCES = [f"the sound of {thing}" for thing in ("rain", "a dog", "piano", "bells")]


def clips(samples: int = SIZE) -> Tensor:
    """Make a tone that comes and goes, noise, and noise that fades."""
    time = torch.arange(samples) / RATE
    noise = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    tone = 0.3 * torch.sin(2 * torch.pi * 1500 * time) * (time % 1 < 0.5)
    return torch.stack([tone + 0.1 * noise[0], noise[0], noise[1] * 10**-time])


class Case:
    """Clips of a CLAP, with what `refine` takes."""

    def __init__(self, clap: FrozenClap, wavs: Tensor, domain: Domain = "stft") -> None:
        front_end = clap.front_end
        self.clap, self.domain = clap, domain
        self.spectrum = front_end.stft(front_end.fit_length(wavs))
        self.spectrum = self.spectrum[..., : front_end.n_frames]
        with torch.no_grad():
            log_mel = front_end.stft_to_log_mel(self.spectrum)
            self.encoding = clap.audio_features(log_mel)
        self.text = clap.encode_text(PROMPTS[: len(wavs)])
        self.references = clap.encode_text(REFERENCES)
        self.samples = torch.full((len(wavs),), wavs.shape[-1])

    def start(self, seed: int = 0) -> Tensor:
        """Random smooth masks, rounded as a decoder's."""
        front_end = self.clap.front_end
        rng = torch.Generator().manual_seed(seed)
        coarse = torch.randn(len(self.text), 1, 8, 16, generator=rng)
        size = front_end.n_mels, front_end.n_frames
        bands = torch.nn.functional.interpolate(coarse, size, mode="bilinear")
        bands = bands[:, 0].mul(3).sigmoid()
        bands = front_end.tile_mask(bands.where(bands <= 0.5, 1.0), self.samples)
        return bands if self.domain == "mel" else front_end.expand_mask(bands)

    def refine(
        self,
        start: Tensor | None = None,
        rows: slice = slice(None),
        asked: Tensor | None = None,
        **options: float,
    ) -> Refined:
        """Refine these rows of the clips."""
        encoding = AudioEncoding(
            self.encoding.embedding[rows],
            tuple(maps[rows] for maps in self.encoding.features),
            self.encoding.last[rows],
        )
        return refine(
            self.clap,
            self.spectrum[rows],
            encoding,
            self.text[rows],
            self.references,
            self.samples[rows],
            None if start is None else start[rows],
            asked,
            self.domain,
            RefinementOptions(**options),  # type: ignore[arg-type]
        )

    @torch.no_grad()
    def judged(self, masks: Tensor, **options: float) -> tuple[Tensor, Tensor]:
        """Objective and whether the target is met, clip by clip, by the definition."""
        chosen = RefinementOptions(**options)  # type: ignore[arg-type]
        objectives, met = [], []
        for row in range(len(masks)):
            one = slice(row, row + 1)
            lead = PromptLead.of(
                self.text[one], self.references, self.clap.logit_scale, chosen.alike
            )
            target = Target.of(lead, self.encoding.embedding[one], chosen)
            leads = [
                lead(
                    self.clap.audio_embedding(
                        self.clap.front_end.input_tf(
                            self.spectrum[one], mask, self.domain
                        )
                    )
                )
                for mask in (masks[one], 1 - masks[one])
            ]
            sound = MaskedSound.of(
                self.clap.front_end,
                self.spectrum[one],
                self.samples[one],
                self.domain,
            )
            bands = sound.bands_of(masks[one])
            size = bands.mean((1, 2)) + chosen.variation * total_variation(bands)
            objectives.append(size + chosen.faithfulness * target.lacking(*leads))
            met.append(target.met(*leads))
        return torch.cat(objectives), torch.cat(met)


@pytest.fixture(params=DOMAINS)
def case(request: pytest.FixtureRequest, tiny_clap: FrozenClap) -> Case:
    """Three clips in each domain."""
    return Case(tiny_clap, clips(), request.param)


# --- what it promises ---------------------------------------------------------------


@pytest.mark.parametrize("fit", [False, True])
def test_masks_are_on_the_grid_of_the_domain(case: Case, fit: bool) -> None:
    """Masks in [0, 1] without a gradient, from a start and without one."""
    found = case.refine(None if fit else case.start(), steps=2)
    front_end = case.clap.front_end
    bins = front_end.n_mels if case.domain == "mel" else front_end.n_freqs
    assert found.masks.shape == (3, bins, front_end.n_frames)
    assert 0 <= float(found.masks.min()) and float(found.masks.max()) <= 1
    assert not found.masks.requires_grad
    assert (found.steps <= 2).all()


def test_a_mask_is_never_worse_than_the_start(case: Case) -> None:
    """It meets the target, or its objective is at most the start's: by brute force."""
    options = {"steps": 3, "rate": 2.0}
    for seed in range(3):
        start = case.start(seed)
        found = case.refine(start, **options)
        before, _ = case.judged(start, **options)
        after, met = case.judged(found.masks, **options)
        # masks of bins are a little more than their means over bands say
        assert (met | (after <= before + 2e-3)).all()
        assert torch.equal(met, found.met)


def test_refinement_pays(tiny_clap: FrozenClap) -> None:
    """The objective of every clip falls, from a start and from nothing."""
    case = Case(tiny_clap, clips())
    before, _ = case.judged(case.start())
    assert (case.judged(case.refine(case.start()).masks)[0] < before).all()
    before, _ = case.judged(case.refine(steps=0).masks)
    assert (case.judged(case.refine().masks)[0] < before).all()


def test_masks_become_small_and_smooth(case: Case) -> None:
    """Their mean falls where it alone counts, and with a weight their variation."""
    front_end = case.clap.front_end
    start, alone = case.start(), {"faithfulness": 0.0, "steps": 3, "headroom": 9.0}
    sound = MaskedSound.of(front_end, case.spectrum, case.samples, case.domain)
    bands = sound.bands_of(start)
    small = sound.bands_of(case.refine(start, variation=0.0, **alone).masks)
    assert (small.mean((1, 2)) < bands.mean((1, 2)) - 0.01).all()
    smooth = sound.bands_of(case.refine(start, variation=50.0, **alone).masks)
    assert (total_variation(smooth) < total_variation(small)).all()


def test_no_step_leaves_the_start(case: Case) -> None:
    """Bit by bit, as it was given."""
    found = case.refine(case.start(), steps=0)
    assert torch.equal(found.masks, case.start())
    assert found.steps.tolist() == [0, 0, 0]


def test_what_meets_the_target_stays(case: Case) -> None:
    """A start that meets it costs no step, and beside it the others go on."""
    easy = {"margin": 0.0, "residue": 50.0}
    found = case.refine(case.start(), steps=6, **easy)
    assert found.met.any()
    again = case.refine(found.masks, steps=6, **easy)
    assert (again.steps[found.met] == 0).all()
    assert torch.equal(again.masks[found.met], found.masks[found.met])


def test_soft_masks_order_what_is_kept(case: Case) -> None:
    """Rounded on mel bands they are the masks; an empty mask has an empty order."""
    case.domain = "mel"
    start = case.start()
    for found in (case.refine(start, steps=2, margin=9.0), case.refine(steps=2)):
        rounded = found.soft.where(found.soft <= 0.5, 1.0)
        moved = found.steps > 0
        agree = ((rounded - found.masks).abs() < 0.1).float().mean((1, 2))
        assert moved.any() and (agree[moved] > 0.99).all()
        kept = found.soft[found.masks == 1]
        assert len(kept.unique()) > 100
    nothing = case.refine(start, asked=torch.zeros(3), steps=2)
    assert nothing.soft.abs().max() == 0


def test_absent_prompts_have_empty_masks(case: Case) -> None:
    """Where nothing is asked for, without a step; the other clips as before."""
    asked = torch.tensor([1.0, 0.0, 1.0])
    found = case.refine(case.start(), asked=asked, steps=2)
    assert found.masks[1].abs().max() == 0
    assert found.steps[1] == 0 and found.met[1]
    others = case.refine(case.start(), steps=2)
    for row in (0, 2):
        assert torch.allclose(found.masks[row], others.masks[row], atol=1e-3)
    nothing = case.refine(case.start(), asked=torch.zeros(3))
    assert nothing.masks.abs().max() == 0


# --- what it leaves alone -----------------------------------------------------------


def test_no_gradient_is_left_on_the_model(case: Case) -> None:
    """Neither requested nor stored, and the caller's tensors keep theirs."""
    case.refine(case.start(), steps=1)
    for weight in case.clap.parameters():
        assert weight.grad is None and not weight.requires_grad
    assert not case.text.requires_grad and not case.spectrum.requires_grad


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_callers_may_have_switched_gradients_off(
    tiny_clap: FrozenClap, context: Callable, request: pytest.FixtureRequest
) -> None:
    """In no_grad and inference_mode, with tensors made inside: the same masks."""
    outside = Case(tiny_clap, clips())
    with context():
        inside = Case(tiny_clap, clips())
        found = inside.refine(inside.start(), steps=2)
        fit = inside.refine(steps=2)
        assert not torch.is_grad_enabled()
    assert torch.equal(found.masks, outside.refine(outside.start(), steps=2).masks)
    assert torch.equal(fit.masks, outside.refine(steps=2).masks)


def test_it_is_deterministic(case: Case) -> None:
    """Twice the same, bit by bit, whatever the random state."""
    torch.manual_seed(1)
    first = case.refine(case.start(), steps=2)
    torch.manual_seed(2)
    assert torch.equal(first.masks, case.refine(case.start(), steps=2).masks)


@pytest.mark.parametrize("fit", [False, True])
def test_a_clip_does_not_depend_on_its_batch(case: Case, fit: bool) -> None:
    """Alone, in pairs or all at once: the same but for rounding."""
    start = None if fit else case.start()
    together = case.refine(start, steps=2)
    pairs = case.refine(start, steps=2, batch_size=2)
    # the ISTFT's rounding reaches what a mask silences, and the log's gradient there
    allowed = 0.1 if case.domain == "waveform" else 1e-3
    for row in range(3):
        alone = case.refine(start, slice(row, row + 1), steps=2)
        for other in (alone.masks[0], pairs.masks[row]):
            # a cell at the threshold may fall to either side
            differ = (together.masks[row] - other).abs() > 1e-3
            assert differ.float().mean() < allowed
        assert alone.steps[0] == together.steps[row]


# --- geometry -----------------------------------------------------------------------


def test_short_clips_have_one_mask(tiny_clap: FrozenClap) -> None:
    """It repeats with the clip, whatever the start does."""
    case = Case(tiny_clap, clips(50000))
    for found in (case.refine(case.start(), steps=2), case.refine(steps=2)):
        again = tiny_clap.front_end.tile_mask(found.masks, case.samples)
        assert torch.allclose(again, found.masks, atol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
def test_other_checkpoints_are_refined(
    make_clap_folder: Callable[..., Path], fused: bool
) -> None:
    """A CLAP of 10 s at 48 kHz, fused or not, and a grid that does not fill it."""
    clap = FrozenClap.from_pretrained(make_clap_folder("full", fused))
    case = Case(clap, clips(240000)[:1])
    before, _ = case.judged(case.refine(steps=0).masks)
    found = case.refine(steps=3, stride=5)
    assert (case.judged(found.masks)[0] <= before).all()


def test_bands_are_scored_as_the_masks_that_they_become(case: Case) -> None:
    """The short way on mel bands gives the encoder input of the expanded mask."""
    front_end = case.clap.front_end
    sound = MaskedSound.of(front_end, case.spectrum, case.samples, case.domain)
    bands = torch.rand(
        3,
        front_end.n_mels,
        front_end.n_frames,
        generator=torch.Generator().manual_seed(0),
    )
    short, whole = sound.log_mel(bands), sound.log_mel_under(sound.expanded(bands))
    assert torch.allclose(short, whole, atol=1e-3)


def test_bands_of_masks_are_weighted_means(case: Case) -> None:
    """Of a band's bins, by their weights in it; in the mel domain the masks."""
    front_end = case.clap.front_end
    sound = MaskedSound.of(front_end, case.spectrum, case.samples, case.domain)
    masks = case.start()
    found = sound.bands_of(masks)
    if case.domain == "mel":
        assert torch.equal(found, masks)
        return
    for band in (0, 7, front_end.n_mels - 1):
        weights = front_end.mel_filters[:, band].tolist()
        values = masks[0, :, 5].tolist()
        total = sum(w * value for w, value in zip(weights, values, strict=True))
        assert float(found[0, band, 5]) == pytest.approx(total / sum(weights), abs=1e-5)


def test_total_variation_is_a_loop_over_neighbours() -> None:
    """Mean absolute steps in time, and in frequency."""
    bands = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    for one, found in zip(bands.tolist(), total_variation(bands), strict=True):
        time = [abs(row[t + 1] - row[t]) for row in one for t in range(3)]
        steps = [abs(one[f + 1][t] - one[f][t]) for f in range(2) for t in range(4)]
        expected = sum(time) / len(time) + sum(steps) / len(steps)
        assert float(found) == pytest.approx(expected, abs=1e-6)


# --- steps --------------------------------------------------------------------------


def test_steps_have_a_length_and_a_momentum(tiny_clap: FrozenClap) -> None:
    """Of logits: a step is `rate` long, the next adds `momentum` of it."""
    case = Case(tiny_clap, clips(), "mel")
    options = {"stride": 1, "rate": 0.1, "momentum": 0.6, "margin": 9.0}
    zero, one, two = (
        case.refine(steps=steps, **options).soft.double().logit() for steps in range(3)
    )
    first, second = one - zero, two - one
    for length in (first, second - 0.6 * first):
        sizes = length.square().mean((1, 2)).sqrt()
        assert sizes.tolist() == pytest.approx([0.1] * 3, rel=1e-2)


def test_steps_after_the_target_is_met(case: Case) -> None:
    """None by default; all of them without `until_met`."""
    easy = {"margin": 0.0, "residue": 50.0, "steps": 4}
    met = case.refine(case.start(), **easy).steps < 4
    assert met.any()
    every = case.refine(case.start(), until_met=False, **easy)
    assert every.steps.tolist() == [4, 4, 4]


# --- leads and starts ---------------------------------------------------------------


def test_lead_is_that_of_its_definition() -> None:
    """Against a loop over prompts and references."""
    rng = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize
    text, sound = (unit(torch.randn(4, 8, generator=rng), dim=1) for _ in range(2))
    references = unit(torch.randn(10, 8, generator=rng), dim=1)
    found = PromptLead.of(text, references, 7.0, alike=0.2)(sound)
    for row in range(4):
        similar = [float(text[row] @ one) for one in references]
        competing = sorted(range(10), key=lambda place: similar[place])[:8]
        mean = sum(math.exp(7 * float(sound[row] @ references[k])) for k in competing)
        expected = 7 * float(sound[row] @ text[row]) - math.log(mean / 8)
        assert float(found[row]) == pytest.approx(expected, abs=1e-4)


def test_target_is_that_of_its_definition() -> None:
    """A clip near to its prompt and one far from it, number by number."""
    unit = torch.nn.functional.normalize
    lead = PromptLead.of(torch.eye(4)[:1].expand(2, -1), torch.eye(4), 5.0, alike=0.0)
    clips_of = unit(torch.tensor([[1.0, 0.1, 0, 0], [1.0, 0.9, 0, 0]]), dim=1)
    options = RefinementOptions(margin=0.4, headroom=0.5, residue=0.2)
    found = Target.of(lead, clips_of, options)
    unmasked, highest = lead(clips_of).tolist(), lead(lead.text).tolist()
    rises = [0.5 * (h - u) for h, u in zip(highest, unmasked, strict=True)]
    assert 0 < rises[0] < 0.4 < rises[1] and min(unmasked) > 0.4
    for row, rise in enumerate((rises[0], 0.4)):
        values = (found.masked, found.residual, found.enough, found.little)
        expected = (unmasked[row] + 0.4, 0.0, unmasked[row] + rise, 0.2 * unmasked[row])
        assert [float(one[row]) for one in values] == pytest.approx(expected, abs=1e-5)
    lacking = found.lacking(found.masked - 0.3, found.residual + 0.2)
    assert lacking.tolist() == pytest.approx([0.5, 0.5], abs=1e-5)
    more = found.masked + 1
    assert found.lacking(more, found.residual - 1).tolist() == [0, 0]
    assert found.met(found.enough, found.little).all()
    assert not found.met(found.enough - 0.01, found.little).any()
    assert not found.met(more, found.little + 0.01).any()


def test_a_clip_without_a_lead_has_to_be_left_with_less() -> None:
    """The objective asks for a margin below it, not for 0."""
    lead = PromptLead.of(torch.eye(4)[:1], torch.eye(4), 5.0, alike=0.0)
    found = Target.of(lead, torch.eye(4)[1:2], RefinementOptions(margin=0.5))
    unmasked = float(lead(torch.eye(4)[1:2]))
    assert unmasked < 0
    assert float(found.residual) == pytest.approx(unmasked - 0.5, abs=1e-5)


def test_a_prompt_does_not_compete_with_itself() -> None:
    """Among the references or not, it has the same lead."""
    eye = torch.eye(5)
    with_itself = PromptLead.of(eye[:1], eye, 5.0, alike=0.0)(eye[:1])
    without = PromptLead.of(eye[:1], eye[1:], 5.0, alike=0.0)(eye[:1])
    assert torch.allclose(with_itself, without)


def test_one_reference_is_not_enough() -> None:
    """There would be nothing to be ahead of."""
    with pytest.raises(ValueError, match="^1 reference prompts; give two or more$"):
        PromptLead.of(torch.eye(2), torch.eye(2)[:1], 1.0, 0.0)


def test_a_fit_starts_where_the_prompt_is_heard() -> None:
    """Places whose embedding is the prompt's have the highest logits."""
    eye = torch.eye(6)
    lead = PromptLead.of(eye[:1], eye[1:], 1.0, 0.0)
    places = eye[torch.tensor([[1, 2, 0], [3, 0, 4]])].movedim(-1, 0)[None]
    found = agreement_logits(lead, places)[0]
    assert found.shape == (2, 3)
    assert found[0, 2] == found[1, 1] == found.max() > 0
    assert (found < 0).sum() == 4
