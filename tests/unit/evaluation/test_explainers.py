"""Explainers: what each makes of a batch, on the same grid and under the same seed."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.evaluation import explainers
from lmaczs.evaluation.attribution import (
    carry,
    gradient_explainer,
    normalise_attribution,
)
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.explainers import (
    EXPLAINERS,
    KEEP_ALL,
    MAIN,
    Explained,
    ExplainerSuite,
    Method,
    attribution_method,
    choose_methods,
    chosen,
    decoder_method,
    ranked_method,
)
from lmaczs.evaluation.refined import fitted, refined
from lmaczs.frontend import DOMAINS, Domain, power
from lmaczs.refinement import RefinementOptions
from lmaczs.utils.errors import InputError

RATE, SIZE = 32000, 160000  # of the tiny CLAP
PROMPTS = ["a tone", "white noise", "a click"]
OTHER = "L-MAC"
RANDOM = ("random patches", "random bins")
BASELINES = (*RANDOM, "energy", KEEP_ALL)
REFINED = {f"{MAIN} refined": refined, "fitted": fitted}
Found = dict[str, Explained]


def decoder_of(clap: FrozenClap, domain: Domain = "stft", seed: int = 0) -> MaskDecoder:
    """Make a random decoder whose masks are neither faint nor full."""
    torch.manual_seed(seed)
    decoder = MaskDecoder(clap, domain, width=8)
    with torch.no_grad():
        decoder.draw.weight.mul_(2)
        decoder.draw.bias.fill_(-0.5 - seed)
    return decoder.eval()


def batch_of(clap: FrozenClap, wavs: Tensor, domain: Domain = "stft") -> ExplainerInput:
    """Give each of some clips a prompt of its own."""
    front_end = clap.front_end
    spectrum = front_end.stft(front_end.fit_length(wavs))
    return ExplainerInput(
        clap=clap,
        spectrum=spectrum,
        log_mel=front_end.stft_to_log_mel(spectrum),
        text=clap.encode_text(PROMPTS[: len(wavs)]),
        samples=torch.full((len(wavs),), wavs.shape[-1]),
        domain=domain,
        seed=3,
    )


def sounds(samples: int = SIZE) -> Tensor:
    """Make a tone that comes and goes, noise, and noise that fades."""
    time = torch.arange(samples) / RATE
    noise = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    tone = 0.3 * torch.sin(2 * torch.pi * 1500 * time) * (time % 1 < 0.5)
    return torch.stack([tone, noise[0], noise[1] * 10**-time])


def suite_of(clap: FrozenClap, domain: Domain) -> ExplainerSuite:
    """Two decoders and one gradient method."""
    own = "mel" if domain == "mel" else "stft"
    decoders = {MAIN: decoder_of(clap, own), OTHER: decoder_of(clap, own, 1)}
    return ExplainerSuite(clap, decoders, domain, chosen(["Grad-CAM", *BASELINES]))


def found_by(suite: ExplainerSuite, batch: ExplainerInput) -> dict[str, Explained]:
    """What every method of a suite makes of a batch."""
    batch = suite.with_reference(batch)
    return {name: suite.explain(name, batch) for name in suite.names}


@pytest.fixture(scope="module")
def batch(tiny_clap: FrozenClap) -> ExplainerInput:
    """Three clips as long as the encoder's input."""
    return batch_of(tiny_clap, sounds())


@pytest.fixture(scope="module")
def every(tiny_clap: FrozenClap, batch: ExplainerInput) -> dict[str, Found]:
    """What the explainers of each domain make of them."""
    return {
        domain: found_by(suite_of(tiny_clap, domain), replace(batch, domain=domain))
        for domain in DOMAINS
    }


# --- names --------------------------------------------------------------------------


def test_names_are_in_the_order_of_the_tables(
    tiny_clap: FrozenClap, every: dict[str, Found]
) -> None:
    """Decoders as given, then the registry; masks have the same order."""
    names = [MAIN, OTHER, "Grad-CAM", "random patches", "random bins", "energy"]
    for domain, found in every.items():
        assert suite_of(tiny_clap, domain).names == [*names, "keep-all"]
        assert list(found) == [*names, "keep-all"]


def test_explainers_are_all_there_or_as_chosen(tiny_clap: FrozenClap) -> None:
    """The registry by default, none of an empty choice; a misspelt one is named."""
    decoders = {MAIN: decoder_of(tiny_clap)}
    gradient = ["Grad-CAM", "Grad-CAM++", "SmoothGrad", "Integrated Gradients"]
    inside = ["LeGrad", "Grad-ECLIP", "attention relevance", "M2IB", "gScoreCAM"]
    perturbing = ["RISE", "occlusion", "Score-CAM", "KernelSHAP"]
    other = ["agreement", "agreement less class mean", *perturbing]
    ours = [f"{MAIN} refined", "fitted"]
    every = [*gradient, *inside, *other, *ours, *BASELINES]
    assert sorted(EXPLAINERS) == sorted(every)
    differentiating = {n for n, m in EXPLAINERS.items() if m.needs_gradient}
    assert differentiating == {*gradient, *inside}
    assert ExplainerSuite(tiny_clap, decoders).names == [MAIN, *EXPLAINERS]
    assert ExplainerSuite(tiny_clap, decoders, explainers={}).names == [MAIN]
    with pytest.raises(
        ValueError, match="^explainers names 'GradCAM': did you mean 'Grad-CAM'"
    ):
        chosen(["energy", "GradCAM"])
    with pytest.raises(InputError, match="methods names 'GradCAM'"):
        chosen(["GradCAM"], "methods")


def test_methods_are_chosen_by_name() -> None:
    """All, some or all but some, in the order of the tables; the first one stays."""
    known = [MAIN, "Grad-CAM", "RISE", "energy"]
    assert choose_methods(known, None) == known
    assert choose_methods(known, ["RISE", "Grad-CAM"]) == known[:3]
    assert choose_methods(known, [], []) == [MAIN]
    assert choose_methods(known, None, ["RISE"]) == [MAIN, "Grad-CAM", "energy"]
    assert choose_methods(known, ["RISE"], ["RISE"]) == [MAIN]


@pytest.mark.parametrize(
    ("methods", "without", "message"),
    [
        (["rise"], [], "methods names 'rise': did you mean 'RISE'?"),
        (None, ["gradcam"], "without names 'gradcam': did you mean 'Grad-CAM'?"),
        (["xyz"], [], "methods names 'xyz': there are LMAC-ZS+, Grad-CAM, RISE"),
        (None, [MAIN], "without names LMAC-ZS+, whose masks give the area of others"),
    ],
)
def test_mistyped_methods_are_refused(
    methods: list[str] | None, without: list[str], message: str
) -> None:
    """With the nearest name, or with all where none is near."""
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        choose_methods([MAIN, "Grad-CAM", "RISE"], methods, without)


def test_a_map_is_computed_once(batch: ExplainerInput) -> None:
    """Masks are those of the method; areas are cut from the map, with its signs."""
    grid = torch.randn(3, 8, 32, generator=torch.Generator().manual_seed(0))
    calls = []

    def attribution(given: ExplainerInput) -> Tensor:
        calls.append(given)
        return grid

    method = attribution_method("own", attribution, True, 1, "")
    found = method.explained(batch)
    assert calls == [batch]
    assert torch.equal(found.masks, method(batch))
    assert torch.equal(found.ranking, carry(grid, batch.clap.front_end))
    assert found.ranking.min() < 0
    some = found.take([2])
    assert torch.equal(some.masks, found.masks[2:])
    assert torch.equal(some.ranking, found.ranking[2:])


def test_masks_without_a_map_rank_themselves(every: dict[str, Found]) -> None:
    """Of a decoder, and of baselines."""
    for name in (MAIN, *BASELINES):
        found = every["stft"][name]
        assert torch.equal(found.ranking, found.masks)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPLAINERS)
def test_no_clip_depends_on_the_others(
    tiny_clap: FrozenClap, batch: ExplainerInput, name: str
) -> None:
    """A clip of a batch has the mask and the map that it has alone."""
    suite = suite_of(tiny_clap, "stft")
    given = suite.with_reference(batch)
    given = replace(given, classes=given.text, ids=["a", "b", "c"])
    method = EXPLAINERS[name]
    if name in REFINED:
        # the steps amplify what a batch's size rounds off, here where all is random
        one_by_one = partial(REFINED[name], options=RefinementOptions(batch_size=1))
        method = ranked_method(name, one_by_one, 0, "")
    beside, alone = (
        method.explained(one) for one in (given.take([0, 2]), given.take([2]))
    )
    for part in ("masks", "ranking"):
        one, other = getattr(beside, part)[1], getattr(alone, part)[0]
        spread = float(other.amax() - other.amin())
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3 * spread)
    assert torch.equal(method(given.take([2])), alone.masks)


def test_an_explainer_is_one_entry(
    tiny_clap: FrozenClap, batch: ExplainerInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is added to the registry explains with the others, from the same batch."""
    toy = Method("toy", lambda given: 0.5 * given.like)
    monkeypatch.setitem(EXPLAINERS, "toy", toy)
    suite = ExplainerSuite(
        tiny_clap, {MAIN: decoder_of(tiny_clap)}, explainers=chosen(["toy"])
    )
    found = found_by(suite, batch)
    assert list(found) == suite.names == [MAIN, "toy"]
    assert torch.equal(found["toy"].masks, 0.5 * found[MAIN].masks)
    assert ExplainerSuite(tiny_clap, {}).names[-1] == "toy"


def test_baselines_need_a_decoder(batch: ExplainerInput) -> None:
    """Without masks to be like there is nothing to keep as much as."""
    for name in BASELINES:
        with pytest.raises(ValueError, match="needs the masks of a decoder"):
            EXPLAINERS[name](batch)


@pytest.mark.parametrize("domain", DOMAINS)
def test_decoder_of_another_domain_is_refused(
    tiny_clap: FrozenClap, domain: Domain
) -> None:
    """Mel masks do not fit an STFT; those of STFT and waveform are the same."""
    for own in DOMAINS:
        decoders = {MAIN: decoder_of(tiny_clap), OTHER: decoder_of(tiny_clap, own)}
        if domain == "mel":
            decoders[MAIN] = decoder_of(tiny_clap, "mel")
        if (own == "mel") == (domain == "mel"):
            assert ExplainerSuite(tiny_clap, decoders, domain).domain == domain
            continue
        message = f"^L-MAC draws masks for the domain {own}, and domain is {domain}$"
        with pytest.raises(ValueError, match=message):
            ExplainerSuite(tiny_clap, decoders, domain)


# --- masks --------------------------------------------------------------------------


@pytest.mark.parametrize("domain", DOMAINS)
def test_masks_are_on_the_grid_of_the_domain(
    tiny_clap: FrozenClap, every: dict[str, Found], domain: Domain
) -> None:
    """Every method's masks are in [0, 1], on mel bands or on the STFT's bins."""
    front_end = tiny_clap.front_end
    bins = front_end.n_mels if domain == "mel" else front_end.n_freqs
    for name, found in every[domain].items():
        mask = found.masks
        assert found.ranking.shape == mask.shape, name
        assert mask.shape == (3, bins, front_end.n_frames), name
        assert mask.min() >= 0 and mask.max() <= 1, name
        assert not mask.requires_grad, name


@pytest.mark.parametrize("domain", DOMAINS)
def test_random_masks_have_the_values_of_the_first_decoder(
    every: dict[str, Found], domain: Domain
) -> None:
    """So it has its mean, clip by clip; the second decoder has another one."""
    masks = {name: found.masks for name, found in every[domain].items()}
    means = masks[MAIN].mean((1, 2))
    assert (masks[OTHER].mean((1, 2)) - means).abs().min() > 0.02
    assert (means[:, None] - means).abs().sum() > 0.02
    for name in RANDOM:
        assert not torch.equal(masks[name], masks[MAIN])
        for clip, given in zip(masks[name], masks[MAIN], strict=True):
            assert torch.equal(clip.flatten().sort()[0], given.flatten().sort()[0])


@pytest.mark.parametrize("domain", DOMAINS)
def test_energy_keeps_the_loudest_cells(
    tiny_clap: FrozenClap,
    batch: ExplainerInput,
    every: dict[str, Found],
    domain: Domain,
) -> None:
    """Zeros and ones with the first decoder's mean; no cell left out is louder."""
    cells = power(batch.spectrum)
    if domain == "mel":
        cells = tiny_clap.front_end.mel_power(cells)
    given, kept = (every[domain][name].masks for name in (MAIN, "energy"))
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    for cell, mask, like in zip(cells, kept, given, strict=True):
        assert abs(float(mask.sum()) - float(like.double().sum())) < 1
        assert cell[mask == 1].min() >= cell[mask == 0].max()


def test_keep_all_keeps_all(every: dict[str, Found]) -> None:
    """Its masks are ones."""
    assert all((found[KEEP_ALL].masks == 1).all() for found in every.values())


@pytest.mark.parametrize("domain", ["mel", "stft"])
def test_decoders_mask_is_that_of_the_clip_alone(
    tiny_clap: FrozenClap,
    batch: ExplainerInput,
    every: dict[str, Found],
    domain: Domain,
) -> None:
    """Each decoder is given the clip's features, log-mel and prompt."""
    for name, seed in ((MAIN, 0), (OTHER, 1)):
        decoder = decoder_of(tiny_clap, domain, seed)
        for row, mask in enumerate(every[domain][name].masks):
            log_mel = batch.log_mel[row : row + 1]
            features = tiny_clap.audio_features(log_mel).features
            with torch.no_grad():
                alone = decoder(batch.text[None, row : row + 1], features, log_mel)
            torch.testing.assert_close(mask, alone[0, 0], atol=1e-4, rtol=0)


def test_mask_of_a_short_clip_is_repeated_with_it(tiny_clap: FrozenClap) -> None:
    """Two seconds of the mask, the same again, and then its last column."""
    batch = batch_of(tiny_clap, sounds(2 * RATE))
    decoder = decoder_of(tiny_clap)
    mask = decoder_method(MAIN, decoder)(batch)
    whole = replace(batch, samples=torch.full((3,), SIZE))
    explained = decoder_method(MAIN, decoder)(whole)
    assert torch.equal(mask[..., :101], explained[..., :101])  # of 640 samples each
    assert not torch.equal(mask[..., 101:], explained[..., 101:])
    torch.testing.assert_close(mask[..., 101:200], mask[..., 1:100])
    torch.testing.assert_close(mask[..., 200:], mask[..., 100:101].expand(-1, -1, 51))


@pytest.mark.parametrize("domain", ["stft", "mel"])
def test_gradient_explainer_makes_a_mask_of_an_attribution(
    tiny_clap: FrozenClap, batch: ExplainerInput, domain: Domain
) -> None:
    """It is computed from the batch; `normalise_attribution` does the rest."""
    grid = torch.randn(3, 8, 32, generator=torch.Generator().manual_seed(0))
    calls = []

    def attribution(given: ExplainerInput) -> Tensor:
        calls.append((given, torch.is_grad_enabled()))
        return grid

    method = Method("own", gradient_explainer(attribution), needs_gradient=True)
    batch = replace(batch, domain=domain)
    with torch.no_grad():
        found = method(batch)
    expected = normalise_attribution(grid, tiny_clap.front_end, domain == "mel")
    assert torch.equal(found, expected)
    assert calls == [(batch, True)]


# --- seeds and seconds --------------------------------------------------------------


def test_seed_decides_what_is_drawn(
    tiny_clap: FrozenClap, batch: ExplainerInput
) -> None:
    """The same seed gives the same masks, another one other random masks alone."""
    batch = replace(batch, domain="mel")
    decoders = {MAIN: decoder_of(tiny_clap, "mel")}
    suite = ExplainerSuite(tiny_clap, decoders, "mel", chosen(BASELINES))
    state = torch.random.get_rng_state()
    first, again = found_by(suite, batch), found_by(suite, batch)
    assert torch.equal(torch.random.get_rng_state(), state)
    other = found_by(suite, replace(batch, seed=4))
    for name in suite.names:
        assert torch.equal(first[name].masks, again[name].masks), name
        same = torch.equal(first[name].masks, other[name].masks)
        assert same == (name not in RANDOM), name


def test_seconds_are_of_one_clip(
    tiny_clap: FrozenClap, batch: ExplainerInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a batch of three took is divided by three, for every method by itself."""
    ticks = itertools.accumulate(itertools.count())  # 0, 1, 3, 6, 10, ...
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(explainers, "time", clock)
    decoders = {MAIN: decoder_of(tiny_clap, "mel")}
    suite = ExplainerSuite(tiny_clap, decoders, "mel", chosen(BASELINES))
    found = found_by(suite, replace(batch, domain="mel"))
    seconds = [one.seconds for one in found.values()]
    assert seconds == pytest.approx([1 / 3, 3 / 3, 5 / 3, 7 / 3, 9 / 3])


def test_one_clip_with_several_prompts(batch: ExplainerInput) -> None:
    """As many copies of the clip, each with its prompt."""
    text = batch.text.flip(0)[:2]
    several = batch.with_prompts(1, text)
    for name in ("spectrum", "log_mel", "samples"):
        assert torch.equal(getattr(several, name), getattr(batch, name)[[1, 1]]), name
    assert torch.equal(several.text, text)
    assert (several.seed, several.domain) == (batch.seed, batch.domain)
