"""Sounds made of clips: every step by itself, and what a composite is made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lmaczs.audio.effects import equalise
from lmaczs.distillation import composites
from lmaczs.distillation.composites import (
    PEAK,
    Composer,
    crossed,
    masked_at_random,
)

RATE = 16000
PLAIN = Composer(
    samples=RATE,
    rate=RATE,
    octaves=0.0,
    parts=(1.0,),
    equalised_share=0.0,
    room_share=0.0,
    backwards_share=0.0,
    crossed_share=0.0,
    masked_share=0.0,
    noise_share=0.0,
)


def chance(seed: int = 0) -> np.random.Generator:
    """Source of chance."""
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
    sound = crossed(noise(), low)
    assert len(sound) == RATE
    spectrum = torch.fft.rfft(sound).abs().square()
    assert spectrum[: RATE // 8].sum() > 50 * spectrum[RATE // 4 :].sum()
    torch.testing.assert_close(crossed(noise(), noise()), noise(), atol=2e-3, rtol=0)


def test_masked_at_random_takes_away() -> None:
    """Nothing is louder than before, something is gone, and chance decides what."""
    masked = [masked_at_random(noise(), chance(seed)) for seed in range(8)]
    lost = [level_db(noise()) - level_db(one) for one in masked]
    assert all(len(one) == RATE for one in masked)
    assert min(lost) > 0.1
    assert max(lost) - min(lost) > 2
    assert torch.equal(masked_at_random(noise(), chance(3)), masked[3])


# --- the composer -------------------------------------------------------------------


def test_composite_of_one_plain_clip_is_that_clip() -> None:
    """Turned around and at another level."""
    clip = noise()
    for seed in range(5):
        whole, told = PLAIN([clip, noise(seed=1)], chance(seed))
        assert told == [True, False]
        assert 0 < float(whole.abs().max()) <= PEAK
        spectra = [torch.fft.rfft(x).abs() for x in (whole, clip)]
        ratio = spectra[0] / spectra[1]
        torch.testing.assert_close(
            ratio, ratio.mean().expand_as(ratio), rtol=0.05, atol=1e-3
        )


def test_composite_depends_on_its_seed_alone() -> None:
    """The default composer gives the same again, and others for other seeds."""
    composer = Composer(samples=RATE, rate=RATE)
    clips = [noise(RATE // 2), tone(300, 2.0), noise(seed=2), tone(900)]
    made = [composer(clips, chance(seed)) for seed in range(20)]
    for seed, (whole, told) in enumerate(made):
        again, told_again = composer(clips, chance(seed))
        assert torch.equal(whole, again)
        assert told == told_again
        assert whole.shape == (RATE,)
        assert whole.isfinite().all()
        assert float(whole.abs().max()) <= PEAK + 1e-6
    assert len({float(whole[0]) for whole, _ in made}) == 20
    counts = {sum(told) for _, told in made}
    assert {1, 2} <= counts <= {0, 1, 2, 3}


def test_labels_of_a_composite_are_those_that_sound() -> None:
    """Not that of a silent clip, and none under the envelope of another."""
    clips = [noise(), torch.zeros(RATE), noise(seed=1)]
    pair = replace(PLAIN, parts=(0.0, 1.0), stretch_share=0.0)
    assert pair(clips, chance())[1] == [True, False, False]
    assert replace(pair, crossed_share=1.0)(clips, chance())[1] == [False] * 3
    assert replace(pair, masked_share=1.0)(clips, chance())[1] == [True, False, False]


def test_shares_decide_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is made where its share is 1, and not where it is 0."""
    steps = ("equalise", "add_reverb", "silence_outside", "crossed", "masked_at_random")
    called: list[str] = []
    for name in (*steps, "coloured_noise"):

        def spy(
            *args: object, name: str = name, own: object = getattr(composites, name)
        ) -> Tensor:
            called.append(name)
            return own(*args)  # type: ignore[operator]

        monkeypatch.setattr(composites, name, spy)
    clips = [noise(), noise(seed=1), noise(seed=2)]
    PLAIN(clips, chance())
    assert called == []
    pair = replace(PLAIN, parts=(0.0, 1.0), stretch_share=0.0)
    for share, name in (
        ("equalised_share", "equalise"),
        ("room_share", "add_reverb"),
        ("stretch_share", "silence_outside"),
        ("crossed_share", "crossed"),
        ("masked_share", "masked_at_random"),
        ("noise_share", "coloured_noise"),
    ):
        called.clear()
        replace(pair, **{share: 1.0})(clips, chance())
        assert set(called) == {name}
