"""Sounds made of clips: every step by itself, and what a composite is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmaczs.audio.effects import equalise
from lmaczs.distillation.composites import (
    PEAK,
    Composer,
    cross,
    mask_at_random,
)

RATE = 16000
PLAIN = Composer(
    octaves=0.0,
    parts=(1.0,),
    equalise_prob=0.0,
    reverb_prob=0.0,
    reverse_prob=0.0,
    cross_prob=0.0,
    mask_prob=0.0,
    noise_prob=0.0,
)


def generator(seed: int = 0) -> np.random.Generator:
    """Random generator."""
    return np.random.default_rng(seed)


def tone(hertz: float, seconds: float = 1.0) -> Tensor:
    """A sine of amplitude 0.5."""
    return 0.5 * torch.sin(2 * torch.pi * hertz * torch.arange(seconds * RATE) / RATE)


def noise(samples: int = RATE, seed: int = 0) -> Tensor:
    """White noise."""
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def level_db(wav: Tensor) -> float:
    """RMS in dB."""
    return 20 * float(wav.square().mean().sqrt().log10())


def test_crossed_has_the_envelope_of_the_other() -> None:
    """White noise crossed with a low hum is low; with itself it stays itself."""
    low = equalise(noise(seed=1), RATE, [(20, 10), (400, 0), (8000, -60)])
    sound = cross(noise(), low)
    assert len(sound) == RATE
    spectrum = torch.fft.rfft(sound).abs().square()
    assert spectrum[: RATE // 8].sum() > 50 * spectrum[RATE // 4 :].sum()
    torch.testing.assert_close(cross(noise(), noise()), noise(), atol=2e-3, rtol=0)


def test_random_masks_attenuate() -> None:
    """Nothing is louder than before, something is gone; the generator decides what."""
    masked = [mask_at_random(noise(), generator(seed)) for seed in range(8)]
    lost = [level_db(noise()) - level_db(one) for one in masked]
    assert all(len(one) == RATE for one in masked)
    assert min(lost) > 0.1
    assert max(lost) - min(lost) > 2
    assert torch.equal(mask_at_random(noise(), generator(3)), masked[3])


# --- the composer -------------------------------------------------------------------


def test_composite_of_one_plain_clip_is_that_clip() -> None:
    """Turned around and at another level."""
    clip = noise()
    for seed in range(5):
        whole, audible = PLAIN([clip, noise(seed=1)], RATE, RATE, generator(seed))
        assert audible == [True, False]
        assert 0 < float(whole.abs().max()) <= PEAK
        spectra = [torch.fft.rfft(x).abs() for x in (whole, clip)]
        ratio = spectra[0] / spectra[1]
        torch.testing.assert_close(
            ratio, ratio.mean().expand_as(ratio), rtol=0.05, atol=1e-3
        )


def test_composite_depends_on_its_seed_alone() -> None:
    """The default composer gives the same again, and others for other seeds."""
    composer = Composer()
    clips = [noise(RATE // 2), tone(300, 2.0), noise(seed=2), tone(900)]
    made = [composer(clips, RATE, RATE, generator(seed)) for seed in range(20)]
    for seed, (whole, audible) in enumerate(made):
        again, again_audible = composer(clips, RATE, RATE, generator(seed))
        assert torch.equal(whole, again)
        assert audible == again_audible
        assert whole.shape == (RATE,)
        assert whole.isfinite().all()
        assert float(whole.abs().max()) <= PEAK + 1e-6
    assert len({float(whole[0]) for whole, _ in made}) == 20
    counts = {sum(audible) for _, audible in made}
    assert {1, 2} <= counts <= {0, 1, 2, 3}


def test_labels_of_a_composite_are_those_that_sound() -> None:
    """Not that of a silent clip, and none under the envelope of another."""
    clips = [noise(), torch.zeros(RATE), noise(seed=1)]
    pair = replace(PLAIN, parts=(0.0, 1.0), stretch_prob=0.0)
    assert pair(clips, RATE, RATE, generator())[1] == [True, False, False]
    assert (
        replace(pair, cross_prob=1.0)(clips, RATE, RATE, generator())[1] == [False] * 3
    )
    assert replace(pair, mask_prob=1.0)(clips, RATE, RATE, generator())[1] == [
        True,
        False,
        False,
    ]


def composed(clip: Tensor, **changes: Any) -> Tensor:
    """A composite of one clip by the plain composer with some changes."""
    clips = [clip, noise(seed=1)]
    return replace(PLAIN, **changes)(clips, RATE, RATE, generator())[0]


def test_probability_of_reversal() -> None:
    """A clip is played backwards: it fits its mirror image better than itself."""
    clip = noise() * torch.exp(-8 * torch.arange(RATE) / RATE)

    def fit(wav: Tensor, other: Tensor) -> float:
        product = torch.fft.rfft(wav) * torch.fft.rfft(other).conj()
        return float(torch.fft.irfft(product).max())

    for probability, mirrored in ((0.0, False), (1.0, True)):
        wav = composed(clip, reverse_prob=probability)
        assert (fit(wav, clip.flip(0)) > 5 * fit(wav, clip)) == mirrored
        assert (fit(wav, clip) > 5 * fit(wav, clip.flip(0))) != mirrored


def test_probability_of_equalising() -> None:
    """Gains differ over the frequencies, or they are all the same."""
    clip = noise()

    def spread(wav: Tensor) -> float:
        gains = [torch.fft.rfft(x)[1:-1].abs().log10() for x in (wav, clip)]
        return 20 * float((gains[0] - gains[1]).std())

    assert spread(composed(clip)) < 0.1
    assert spread(composed(clip, equalise_prob=1.0)) > 1


def test_probability_of_reverberation() -> None:
    """After a click there is silence, or a tail."""
    click = torch.zeros(RATE)
    click[5] = 1

    def tail(wav: Tensor) -> float:
        return 1 - float(wav.square().max() / wav.square().sum())

    assert tail(composed(click)) < 1e-6
    assert tail(composed(click, reverb_prob=1.0)) > 0.02


def test_probability_of_a_stretch() -> None:
    """One of several parts sounds for a while only, a single one throughout."""
    for several, probability in ((True, 0.0), (False, 1.0), (True, 1.0)):
        composer = replace(PLAIN, stretch_prob=probability)
        part = composer.part(noise(), RATE, RATE, several, generator())
        silent = float((part == 0).float().mean())
        assert (silent > 0.05) == (several and probability == 1)


def test_probability_of_noise() -> None:
    """Beside a tone there is nothing, or noise."""

    def beside(wav: Tensor) -> float:
        power = torch.fft.rfft(wav).abs().square()
        return 1 - float(power.max() / power.sum())

    assert beside(composed(tone(500))) < 1e-4
    assert beside(composed(tone(500), noise_prob=1.0)) > 1e-3


def test_probability_of_masking() -> None:
    """Cells of a noise's spectrogram are all about as loud, or some are removed."""

    def quiet(wav: Tensor) -> float:
        window = torch.hann_window(2048)
        cells = torch.stft(wav, 2048, window=window, return_complex=True).abs()
        return float((cells < 0.1 * cells.median()).float().mean())

    assert quiet(composed(noise())) < 0.02
    assert quiet(composed(noise(), mask_prob=1.0)) > 0.05
