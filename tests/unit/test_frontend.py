"""The front end against Hugging Face's extractor, its inverse, and its masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from transformers import ClapFeatureExtractor

from lmaczs.audio.io import load_audio
from lmaczs.frontend import DOMAINS, Domain, FrontEnd, MelToFreq, mel_bridge

LAION = {
    "sampling_rate": 48000,
    "fft_window_size": 1024,
    "hop_length": 480,
    "max_length_s": 10,
}
SMALL = {
    "sampling_rate": 32000,
    "fft_window_size": 2048,
    "hop_length": 640,
    "max_length_s": 5,
}
# Overlap of one half, and a hop that does not divide the 10 s.
HALF_OVERLAP = {**LAION, "hop_length": 512}
GEOMETRIES = {"laion": LAION, "small": SMALL, "half_overlap": HALF_OVERLAP}
# Cheap, for properties that hold in any geometry: 1 s at 8 kHz.
TOY = {
    "sampling_rate": 8000,
    "fft_window_size": 512,
    "hop_length": 160,
    "max_length_s": 1,
    "feature_size": 32,
    "frequency_max": 3500,
}
SECONDS = (0.05, 0.3, 3, 5, 10)
# of a longer clip a fused checkpoint gets windows, not HF's four views
LENGTHS = [(t, s) for t in ("rand_trunc", "fusion") for s in SECONDS]
LENGTHS.append(("rand_trunc", 12))
TOLERANCE = 1e-3  # dB


def extractor(geometry: dict, **changes: str | int) -> ClapFeatureExtractor:
    """Make HF's extractor."""
    numbers = {"feature_size": 64, "frequency_min": 50, "frequency_max": 14000}
    defaults = {"truncation": "rand_trunc", "padding": "repeatpad"}
    return ClapFeatureExtractor(**{**numbers, **defaults, **geometry, **changes})


def toy(**changes: str | int) -> FrontEnd:
    """Make a cheap front end."""
    return FrontEnd(extractor(TOY, **changes))


def sound(samples: int, rate: int = 8000, seed: int = 0, clips: int = 1) -> Tensor:
    """Make clips of noise bursts over a quiet floor, at most about 0.3 loud."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(clips, samples, generator=generator)
    seconds = torch.arange(samples) / rate
    return noise * (0.1 * torch.exp(-8 * (seconds % 0.7)) + 1e-3)


def hf_log_mel(fe: ClapFeatureExtractor, wav: Tensor, seed: int = 0) -> Tensor:
    """Features as HF extracts them, drawing from NumPy's global generator."""
    np.random.seed(seed)
    features = fe(wav.numpy(), sampling_rate=fe.sampling_rate, return_tensors="pt")
    return features["input_features"]


def hf_offset(front_end: FrontEnd, samples: int, seed: int = 0) -> int:
    """Repeat what HF draws for a clip that is too long: its first sample."""
    surplus = max(0, samples - front_end.max_samples)
    return np.random.RandomState(seed).randint(0, surplus + 1)


def assert_parity(fe: ClapFeatureExtractor, wav: Tensor) -> None:
    """Compare with HF, on the crop that HF draws if the clip is too long."""
    front_end = FrontEnd(fe)
    expected = hf_log_mel(fe, wav)
    actual = front_end.log_mel(wav[None], hf_offset(front_end, len(wav)))
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= TOLERANCE


# --- parity -------------------------------------------------------------------------


@pytest.mark.parametrize(("truncation", "seconds"), LENGTHS)
def test_log_mel_is_that_of_hf(truncation: str, seconds: float) -> None:
    """To 1e-3 dB at any length, in the geometry of LAION's checkpoints."""
    fe = extractor(LAION, truncation=truncation)
    assert_parity(fe, sound(int(seconds * 48000), 48000)[0])


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_log_mel_is_that_of_hf_for_every_padding(
    geometry: str, truncation: str, padding: str
) -> None:
    """A clip of 1.7 s is repeated, cut or padded as HF does it."""
    fe = extractor(GEOMETRIES[geometry], truncation=truncation, padding=padding)
    assert_parity(fe, sound(int(1.7 * fe.sampling_rate) + 1, fe.sampling_rate)[0])


@pytest.mark.parametrize("surplus", [0, 1, 479, 480])
def test_log_mel_is_that_of_hf_about_the_limit(surplus: int) -> None:
    """From exactly 10 s to a hop more."""
    fe = extractor(LAION)
    assert_parity(fe, sound(480000 + surplus, 48000)[0])


def test_tones_agree_where_they_are_heard() -> None:
    """Of a pure tone, cells within 80 dB of their frame's peak agree to 1e-2 dB."""
    fe = extractor(LAION)
    wav = 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(240000) / 48000)
    expected, actual = hf_log_mel(fe, wav), FrontEnd(fe).log_mel(wav[None])
    heard = expected > expected.amax(-1, keepdim=True) - 80
    assert heard.sum() > 5 * expected.shape[2]
    assert (actual - expected)[heard].abs().max() < 1e-2


def test_silence_is_at_the_floor() -> None:
    """Digital silence is -100 dB everywhere, as in HF."""
    assert (toy().log_mel(torch.zeros(1, 300)) == -100).all()


@pytest.mark.real_clips
@pytest.mark.parametrize(("truncation", "seconds"), LENGTHS)
@pytest.mark.parametrize("geometry", ["laion", "small"])
def test_log_mel_is_that_of_hf_on_real_clips(
    geometry: str, truncation: str, seconds: float, esc50_folder: Path
) -> None:
    """To 1e-3 dB on recordings; those beyond 5 s are two or three in a row."""
    fe = extractor(GEOMETRIES[geometry], truncation=truncation)
    paths = sorted((esc50_folder / "audio").glob("*.wav"))
    for first in range(0, len(paths) - 3, len(paths) // 6):
        files = paths[first : first + 3]
        wav = torch.cat([load_audio(file, fe.sampling_rate) for file in files])
        fits = fe.nb_max_samples if truncation == "fusion" else len(wav)
        assert_parity(fe, wav[: min(fits, int(seconds * fe.sampling_rate))])


# --- length policy ------------------------------------------------------------------


def test_long_clips_give_their_middle_unless_told_otherwise() -> None:
    """The policy is ours: nothing is drawn, global generators change nothing."""
    front_end = toy()
    wav = sound(8000 + 1001)
    np.random.seed(0)
    first = front_end.log_mel(wav)
    np.random.seed(1)
    torch.manual_seed(1)
    assert torch.equal(first, front_end.log_mel(wav))
    assert torch.equal(first, front_end.log_mel(wav, offset=500))
    assert torch.equal(front_end.fit_length(wav, offset=7), wav[:, 7:8007])


def test_short_clips_fill_all_fused_channels() -> None:
    """A fused checkpoint gets four equal channels of a clip that fits."""
    log_mel = toy(truncation="fusion").log_mel(sound(3000))
    assert log_mel.shape[1] == 4
    assert torch.equal(log_mel, log_mel[:, :1].expand(-1, 4, -1, -1))


@pytest.mark.parametrize("samples", [300, 8000, 9000])
def test_a_batch_is_its_clips(samples: int) -> None:
    """A clip's features do not depend on what it is batched with."""
    front_end = toy()
    wavs = sound(samples, clips=3) * torch.tensor([[1.0], [0.01], [0.0]])
    singles = torch.cat([front_end.log_mel(wav[None]) for wav in wavs])
    assert torch.allclose(front_end.log_mel(wavs), singles, atol=1e-5)


# --- refusals -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop_length": 257}, "more than half of the window"),
        ({"truncation": "middle"}, "unknown truncation 'middle'"),
        ({"padding": "reflect"}, "unknown padding 'reflect'"),
    ],
)
def test_extractors_that_cannot_be_used_are_refused(
    changes: dict, message: str
) -> None:
    """One sentence names the number or the mode."""
    with pytest.raises(ValueError, match=message):
        toy(**changes)


def test_masked_clips_are_refused_with_the_reason() -> None:
    """No samples, a domain that does not exist."""
    front_end = toy()
    with pytest.raises(ValueError, match="without samples"):
        front_end.log_mel(torch.zeros(1, 0))
    spectrum = front_end.stft(sound(8000))
    with pytest.raises(ValueError, match="'magnitude', not one of mel, stft, wave"):
        front_end.input_tf(spectrum, torch.ones(spectrum.shape), "magnitude")


# --- STFT pair ----------------------------------------------------------------------


@given(hop=st.integers(100, 256), samples=st.integers(1, 12345))
@example(hop=256, samples=8000)
@example(hop=160, samples=257)
def test_istft_inverts_stft(hop: int, samples: int) -> None:
    """At any length and hop, to 1e-6, and the clip comes back as long as it was."""
    front_end = toy(hop_length=hop)
    wav = sound(samples) + 0.1
    spectrum = front_end.stft(wav)
    assert spectrum.shape == (1, 257, front_end.clip_frames(samples))
    assert spectrum.dtype == torch.complex64
    back = front_end.istft(spectrum, samples)
    assert back.shape == wav.shape
    assert (back - wav).abs().max() < 1e-6


@pytest.mark.parametrize("hop", [160, 256])
def test_istft_of_a_masked_spectrogram_is_that_of_torch(hop: int) -> None:
    """Equal to torch.istft for any spectrogram, consistent or not."""
    front_end = toy(hop_length=hop)
    spectrum = torch.randn(2, 257, 1 + 8000 // hop + 1, dtype=torch.complex64)
    expected = torch.istft(
        spectrum, 512, hop, window=torch.hann_window(512), length=8000
    )
    actual = front_end.istft(spectrum, 8000)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [1, 255, 4801, 8000])
def test_explanation_and_residual_are_the_input(samples: int) -> None:
    """What a mask keeps and what it leaves sum to the clip, to 1e-5."""
    front_end = toy(hop_length=256)
    wav = sound(samples)
    spectrum = front_end.stft(wav)
    mask = torch.rand(spectrum.shape, generator=torch.Generator().manual_seed(1))
    kept = front_end.istft(mask * spectrum, samples)
    left = front_end.istft((1 - mask) * spectrum, samples)
    assert (kept + left - wav).abs().max() < 1e-5
    assert kept.shape == left.shape == wav.shape


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("missing", [0, 1, 2, 100])
def test_a_mask_makes_no_click_at_the_end(geometry: str, missing: int) -> None:
    """Wherever the last hop is cut, its samples are no louder than the others."""
    front_end = FrontEnd(extractor(GEOMETRIES[geometry]))
    samples = 21 * front_end.hop_length - missing
    wav = 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(0))
    spectrum = front_end.stft(wav)
    mask = torch.rand(spectrum.shape, generator=torch.Generator().manual_seed(1))
    kept = front_end.istft(mask * spectrum, samples)
    assert kept[:, -200:].abs().max() < 2 * kept[:, :-200].abs().max()


def test_leading_axes_are_free() -> None:
    """STFT and ISTFT take [B, P, samples] as they take [B, samples]."""
    front_end = toy()
    wavs = sound(2000, clips=6).view(2, 3, 2000)
    spectrum = front_end.stft(wavs)
    assert spectrum.shape == (2, 3, 257, front_end.clip_frames(2000))
    assert torch.equal(spectrum[1, 2], front_end.stft(wavs[1, 2]))
    assert torch.allclose(front_end.istft(spectrum, 2000), wavs, atol=1e-6)


# --- InputTf ------------------------------------------------------------------------


def ones_like_mask(front_end: FrontEnd, samples: int, domain: Domain) -> Tensor:
    """Make a mask that keeps everything, on the clip grid."""
    bins = front_end.n_mels if domain == "mel" else front_end.n_freqs
    return torch.ones(1, bins, front_end.clip_frames(samples))


@pytest.mark.parametrize("domain", ["mel", "stft"])
def test_a_mask_of_ones_does_not_even_round(domain: Domain) -> None:
    """To the last bit, or keeping everything would count as an increase."""
    sizes = {"sampling_rate": 32_000, "fft_window_size": 2048, "hop_length": 640}
    front_end = FrontEnd(ClapFeatureExtractor(**sizes, max_length_s=5))
    spectrum = front_end.stft(sound(front_end.max_samples, 32_000, clips=2))
    bins = front_end.n_mels if domain == "mel" else front_end.n_freqs
    ones = torch.ones(2, bins, front_end.n_frames)
    masked = front_end.input_tf(spectrum, ones, domain)
    assert torch.equal(masked, front_end.stft_to_log_mel(spectrum))


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("samples", [120, 3001, 8000])
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_mask_of_ones_changes_nothing(
    domain: Domain, samples: int, padding: str, masked_log_mel: Callable[..., Tensor]
) -> None:
    """It gives log_mel back to 1e-3 dB, on cells within 80 dB of the peak."""
    front_end = toy(padding=padding)
    wav = sound(samples)
    ones = ones_like_mask(front_end, samples, domain)
    expected = front_end.log_mel(wav)
    masked = masked_log_mel(front_end, wav, ones, domain)
    heard = expected > expected.max() - 80
    assert masked.shape == expected.shape
    assert (masked - expected)[heard].abs().max() < TOLERANCE


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_mask_is_a_gain_on_magnitude(
    domain: Domain, masked_log_mel: Callable[..., Tensor]
) -> None:
    """Zero brings every cell to the floor, one half takes 6.02 dB."""
    front_end = toy()
    wav = sound(8000)
    ones = ones_like_mask(front_end, 8000, domain)
    assert (masked_log_mel(front_end, wav, 0 * ones, domain) == -100).all()
    kept = masked_log_mel(front_end, wav, ones, domain)
    half = masked_log_mel(front_end, wav, ones / 2, domain)
    heard = kept > -80
    assert torch.allclose(
        (kept - half)[heard], torch.tensor(6.0206), atol=TOLERANCE, rtol=0
    )


def test_waveform_domain_is_what_hf_hears_of_the_explanation(
    masked_log_mel: Callable[..., Tensor],
) -> None:
    """HF's extractor, given the masked sound, returns the same."""
    fe = extractor(TOY)
    front_end = FrontEnd(fe)
    wav = sound(5000)
    spectrum = front_end.stft(wav)
    mask = torch.rand(spectrum.shape, generator=torch.Generator().manual_seed(0))
    heard = front_end.istft(mask * spectrum, 5000)[0]
    actual = masked_log_mel(front_end, wav, mask, "waveform")
    assert (actual - hf_log_mel(fe, heard)).abs().max() < TOLERANCE


def test_domains_agree_where_a_mask_is_constant(
    masked_log_mel: Callable[..., Tensor],
) -> None:
    """One gain for all bands over a wide stretch is the same in all domains."""
    front_end = toy()
    wav = sound(8000)
    gain = torch.ones(front_end.n_frames)
    gain[20:40] = 0.25
    results = [
        masked_log_mel(
            front_end, wav, gain * ones_like_mask(front_end, 8000, domain), domain
        )[0, 0, 23:37]  # away from the edges, where windows see both gains
        for domain in DOMAINS
    ]
    assert torch.allclose(results[0], results[1], atol=TOLERANCE)
    assert torch.allclose(results[1], results[2], atol=TOLERANCE)


@pytest.mark.parametrize("domain", DOMAINS)
def test_several_masks_of_a_clip_are_applied_as_one_by_one(domain: Domain) -> None:
    """Clip by clip, mask by mask, as if the spectrogram were repeated for each."""
    front_end = toy()
    spectrum = front_end.stft(sound(8000, clips=2))
    ones = ones_like_mask(front_end, 8000, domain)
    random = torch.Generator().manual_seed(0)
    masks = torch.rand(2, 3, *ones.shape[-2:], generator=random)
    repeated = spectrum.repeat_interleave(3, 0)
    expected = front_end.input_tf(repeated, masks.flatten(0, 1), domain)
    actual = front_end.input_tf(spectrum, masks, domain)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def directional_error(
    function: Callable[[Tensor], Tensor], at: Tensor, seed: int = 3
) -> float:
    """Relative difference of autograd and a central difference, in one direction."""
    direction = torch.randn(
        at.shape, generator=torch.Generator().manual_seed(seed), dtype=at.dtype
    )
    direction = 1e-2 * direction * at.abs()
    at = at.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(at), at)
    slope = (gradient.conj() * direction).real.sum()
    with torch.no_grad():
        secant = (function(at + direction) - function(at - direction)) / 2
    return float((slope - secant).abs() / secant.abs())


@pytest.mark.parametrize("domain", DOMAINS)
def test_gradients_are_those_of_finite_differences(
    domain: Domain, masked_log_mel: Callable[..., Tensor]
) -> None:
    """In the waveform, in the complex STFT and in the mask."""
    front_end = toy()
    wav = sound(8000)
    spectrum = front_end.stft(wav)
    ones = ones_like_mask(front_end, 8000, domain)
    mask = 0.3 + 0.4 * torch.rand(
        ones.shape, generator=torch.Generator().manual_seed(0)
    )

    def total(wav: Tensor = wav, mask: Tensor = mask) -> Tensor:
        return masked_log_mel(front_end, wav, mask, domain).double().sum()

    def of_stft(spectrum: Tensor) -> Tensor:
        return front_end.input_tf(spectrum, mask, domain).double().sum()

    assert directional_error(lambda x: total(wav=x), wav) < 0.02
    assert directional_error(lambda x: total(mask=x), mask) < 0.02
    assert directional_error(of_stft, spectrum) < 0.02


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("level", [0.0, 1e-9])
def test_gradients_are_finite_on_silence(
    domain: Domain, level: float, masked_log_mel: Callable[..., Tensor]
) -> None:
    """Digital silence and what lies below the floor give zeros, never NaN."""
    front_end = toy()
    wav = (level * sound(900)).requires_grad_()
    mask = ones_like_mask(front_end, 900, domain).requires_grad_()
    masked_log_mel(front_end, wav, mask, domain).sum().backward()
    assert (wav.grad == 0).all()
    assert (mask.grad == 0).all()


# --- masks on the two grids ---------------------------------------------------------


def slow_tile(front_end: FrontEnd, mask: Tensor, samples: int) -> Tensor:
    """Walk over the input's frames and look each one up in the clip."""
    hop, last = front_end.hop_length, -(-samples // front_end.hop_length)
    whole = front_end.max_samples // samples
    copies = {"pad": 1, "repeatpad": whole, "repeat": whole + 1}[front_end.padding]
    columns = []
    for frame in range(front_end.n_frames):
        start = frame * hop
        if frame <= last:
            place = float(frame)
        elif start < samples * copies:
            place = (start % samples) / hop
        else:
            place = float(last)
        low = int(place)
        high, part = min(low + 1, last), place - low
        columns.append((1 - part) * mask[..., low] + part * mask[..., high])
    return torch.stack(columns, -1)


@given(
    padding=st.sampled_from(["repeatpad", "repeat", "pad"]),
    samples=st.integers(1, 8000),
)
@example(padding="repeat", samples=8000)
def test_tile_mask_walks_with_the_clip(padding: str, samples: int) -> None:
    """Each frame of the input takes the mask of the place it shows; crop undoes it."""
    front_end = toy(padding=padding)
    generator = torch.Generator().manual_seed(samples)
    mask = torch.rand(2, 5, front_end.clip_frames(samples), generator=generator)
    tiled = front_end.tile_mask(mask, samples)
    assert torch.allclose(tiled, slow_tile(front_end, mask, samples), atol=1e-4)
    assert tiled.shape == (2, 5, front_end.n_frames)
    assert torch.equal(front_end.crop_mask(tiled, samples), mask)


def test_clips_of_several_lengths_are_tiled_at_once() -> None:
    """A batch of lengths is its clips, and columns beyond a clip's do not count."""
    front_end = toy()
    lengths = torch.tensor([300, 2500, 8000, 9000])
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(4, 2, 7, front_end.n_frames, generator=generator)
    together = front_end.tile_mask(mask, lengths)
    for row, samples in enumerate(lengths.tolist()):
        alone = front_end.crop_mask(mask[row : row + 1], samples)
        expected = front_end.tile_mask(alone, min(samples, 8000))
        assert torch.allclose(together[row : row + 1], expected, atol=1e-6)


def test_grids_agree_where_the_hop_does_not_divide_the_length(
    masked_log_mel: Callable[..., Tensor],
) -> None:
    """A full clip has a frame more than the encoder reads; both ways work."""
    front_end = toy(hop_length=250, max_length_s=1, sampling_rate=8100)
    assert front_end.max_samples % 250
    wav = sound(front_end.max_samples)
    frames = front_end.clip_frames(front_end.max_samples)
    assert frames == front_end.n_frames + 1
    mask = torch.full((1, front_end.n_freqs, front_end.n_frames), 0.5)
    clip_mask = front_end.crop_mask(mask, front_end.max_samples)
    assert clip_mask.shape[-1] == frames
    assert torch.equal(front_end.tile_mask(clip_mask, front_end.max_samples), mask)
    mixed = torch.tensor([front_end.max_samples, 700])
    both = front_end.tile_mask(mask.expand(2, -1, -1), mixed)
    assert torch.equal(both, mask.expand(2, -1, -1))
    kept = front_end.log_mel(wav)
    for domain in ("stft", "waveform"):
        half = masked_log_mel(front_end, wav, clip_mask, domain)
        assert torch.allclose(kept - half, torch.tensor(6.0206), atol=TOLERANCE)
    spectrum = front_end.stft(wav)
    assert front_end.input_tf(spectrum, mask).shape == kept.shape
    assert front_end.input_tf(spectrum, mask, "waveform").isfinite().all()


def test_a_masked_click_is_masked_in_every_copy() -> None:
    """A clip of 0.7 s enters 5 s seven times: each click loses the same energy."""
    front_end = FrontEnd(extractor(SMALL))
    samples, click = 22400 + 77, 9000
    wav = torch.zeros(1, samples)
    wav[0, click] = 1.0
    mask = torch.ones(1, front_end.n_freqs, front_end.clip_frames(samples))
    around = click // front_end.hop_length
    mask[..., around - 4 : around + 6] = 0.25  # every window that sees the click
    spectrum = front_end.stft(front_end.fit_length(wav))
    tiled = front_end.tile_mask(mask, samples)
    heard = front_end.istft(tiled * spectrum, front_end.max_samples)[0]
    clicks = [click + copy * samples for copy in range(160000 // samples)]
    assert len(clicks) == 7
    assert torch.allclose(heard[clicks], torch.tensor(0.25), atol=1e-5)
    heard[clicks] = 0
    assert heard.abs().max() < 1e-5


def test_a_missing_last_frame_counts_as_silent() -> None:
    """The input grid may end before the clip does: the sound fades, without a click."""
    front_end = toy(sampling_rate=8191, hop_length=256)
    samples = front_end.max_samples
    assert samples % 256 == 255
    wav = 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(0))
    spectrum = front_end.stft(wav)[..., : front_end.n_frames]
    mask = torch.rand(spectrum.shape, generator=torch.Generator().manual_seed(1))
    heard = front_end.istft(mask * spectrum, samples)
    assert heard.shape == wav.shape
    assert heard[:, -255:].abs().max() < heard.abs().max()


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_expand_mask_interpolates_between_bands(geometry: str, truncation: str) -> None:
    """Rows sum to one, bands stay in order, bins that no band covers take nothing."""
    fe = extractor(GEOMETRIES[geometry], truncation=truncation)
    front_end = FrontEnd(fe)
    bridge = front_end.mel_to_freq(torch.eye(64))
    assert bridge.min() >= 0
    assert ((bridge > 0).sum(1) <= 2).all()
    ramp = torch.arange(64.0)[None, :, None]
    expanded = front_end.expand_mask(ramp)[0, :, 0]
    filters = fe.mel_filters if front_end.fused else fe.mel_filters_slaney
    visible = torch.from_numpy(filters.sum(1) > 0).nonzero().flatten()
    first, last = int(visible[0]), int(visible[-1])
    inside = torch.zeros(front_end.n_freqs)
    inside[first : last + 1] = 1
    assert torch.equal(front_end.visible, inside.bool())
    assert torch.allclose(bridge.sum(1), inside)
    assert (expanded[first : last + 1].diff() >= 0).all()
    assert expanded[first] < 1 and expanded[last] > 62
    peaks = torch.from_numpy(filters.argmax(0))
    bin_hz = fe.sampling_rate / fe.fft_window_size
    # a band's peak lies at most half a bin from its centre; the narrowest are 47 Hz
    assert (expanded[peaks] - ramp[0, :, 0]).abs().max() <= 0.5 * bin_hz / 46 + 1e-4


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_mel_power_under_a_mask_on_bands(geometry: str, truncation: str) -> None:
    """That of all bins under the expanded mask, to rounding; also of its complement."""
    front_end = FrontEnd(extractor(GEOMETRIES[geometry], truncation=truncation))
    rng = torch.Generator().manual_seed(0)
    cells = torch.rand(2, front_end.n_freqs, 7, generator=rng)
    mask = torch.rand(2, front_end.n_mels, 7, generator=rng)
    response = front_end.mask_response(cells)
    for each in (mask, 1 - mask, mask.round()):
        expected = front_end.mel_power(front_end.expand_mask(each).square() * cells)
        found = front_end.masked_mel_power(response, each)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("error", [-(2.0**-23), 2.0**-23])
def test_expanded_masks_of_ones_leave_nothing(error: float) -> None:
    """However weights are rounded: 1e-7 of a loud cell is above the model's floor."""
    front_end = FrontEnd(ClapFeatureExtractor(truncation="rand_trunc"))
    matrix = front_end.mel_to_freq(torch.eye(64))
    front_end.mel_to_freq = MelToFreq(matrix * (1 + error))
    mask = (
        torch.rand(64, 30, generator=torch.Generator().manual_seed(0)) > 0.4
    ).float()
    mask[:, :10] = 1
    wide = front_end.expand_mask(mask)
    assert (wide[front_end.visible][:, :10] == 1).all()
    assert ((wide == 0) | (wide == 1) | ((wide > 1e-4) & (wide < 1 - 1e-4))).all()
    values = torch.full((64, 30), 0.7, requires_grad=True)
    (slope,) = torch.autograd.grad(front_end.expand_mask(values).sum(), values)
    assert torch.allclose(slope, matrix.sum(0)[:, None].expand(64, 30))


def test_values_on_bins_are_those_of_the_matrix() -> None:
    """And so are gradients, by values of any shape."""
    matrix = torch.from_numpy(mel_bridge(extractor(LAION), "slaney")).float()
    matrix[:9] = 0
    bridge = MelToFreq(matrix)
    values = torch.rand(2, 3, 64, 5, requires_grad=True)
    weights, expected = torch.rand(2, 3, 513, 5), matrix @ values
    torch.testing.assert_close(bridge(values), expected, rtol=0, atol=1e-6)
    slopes = [
        torch.autograd.grad((weights * found).sum(), values)[0]
        for found in (bridge(values), expected)
    ]
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-6)


def test_expanded_masks_stay_in_range() -> None:
    """Ones stay ones where the model hears, to the last bit; zeros stay zeros."""
    for geometry in GEOMETRIES.values():
        front_end = FrontEnd(extractor(geometry))
        ones = front_end.expand_mask(torch.ones(64, 9))
        assert (ones[front_end.visible] == 1).all()
        assert (ones[~front_end.visible] == 0).all()
        assert (front_end.expand_mask(torch.zeros(64, 9)) == 0).all()


def test_invisible_bins_do_not_reach_the_encoder(
    masked_log_mel: Callable[..., Tensor],
) -> None:
    """Masking all bins without mel weight changes nothing; any other bin does."""
    front_end = FrontEnd(extractor(LAION))
    wav = sound(480000, 48000)
    mask = torch.ones(1, 513, front_end.n_frames)
    mask[:, :2], mask[:, 299:] = 0, 0
    kept = masked_log_mel(front_end, wav, mask)
    assert torch.equal(kept, front_end.log_mel(wav))
    mask[:, 298] = 0
    assert not torch.equal(masked_log_mel(front_end, wav, mask), kept)


@pytest.mark.parametrize("domain", DOMAINS)
def test_mixed_precision(domain: Domain, masked_log_mel: Callable[..., Tensor]) -> None:
    """Under autocast the front end computes as it does without."""
    front_end = toy()
    wav = sound(front_end.max_samples, clips=2)
    mask = torch.linspace(0, 1, front_end.n_frames).expand(2, front_end.n_mels, -1)

    def results() -> list[Tensor]:
        wide = mask if domain == "mel" else front_end.expand_mask(mask)
        masked = masked_log_mel(front_end, wav, wide, domain)
        return [wide, masked, front_end.log_mel(wav), front_end.stft(wav)]

    expected = results()
    with torch.autocast("cpu", torch.bfloat16):
        for one, other in zip(results(), expected, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
