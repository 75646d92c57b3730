"""resampling.py: rate changes that keep what the new rate can carry."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lmaczs.audio import resampling
from lmaczs.audio.resampling import StreamResampler, resample


def sine(hertz: float, rate: int, samples: int) -> Tensor:
    """Return a sine as float64 [samples]."""
    time = torch.arange(samples, dtype=torch.float64) / rate
    return torch.sin(2 * math.pi * hertz * time)


def direct(wav: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Sum the windowed sinc over all inputs for every output, one by one."""
    cutoff = min(1.0, to_rate / from_rate) * resampling.FILTER_ROLLOFF
    beta = torch.tensor(resampling.FILTER_BETA, dtype=torch.float64)
    outputs = []
    for n in range(math.ceil(len(wav) * to_rate / from_rate)):
        places = torch.arange(len(wav), dtype=torch.float64)
        phase = (places - n * from_rate / to_rate) * cutoff
        inside = (1 - (phase / resampling.FILTER_WIDTH) ** 2).clamp_min(0)
        window = torch.i0(beta * inside.sqrt()) / torch.i0(beta) * (inside > 0)
        outputs.append((wav * torch.sinc(phase) * window).sum() * cutoff)
    return torch.stack(outputs)


@pytest.mark.parametrize(
    "from_rate, to_rate",
    [(8000, 16000), (44100, 32000), (48000, 44100), (96000, 32000), (9973, 8009)]
    + [(3999, 32000), (999_983, 400_009)],  # of so many phases that lines join points
)
def test_resampling_is_the_windowed_sinc_sum(from_rate: int, to_rate: int) -> None:
    """Common and coprime rates alike follow the definition, ends included."""
    wav = torch.randn(301, dtype=torch.float64, generator=torch.Generator())
    expected = direct(wav, from_rate, to_rate)
    torch.testing.assert_close(
        resample(wav, from_rate, to_rate), expected, atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("to_rate", [32000, 48000, 47999])
def test_a_high_tone_survives(to_rate: int) -> None:
    """13 kHz at 44.1 kHz arrives with at least 90 dB signal-to-noise ratio."""
    result = resample(sine(13000, 44100, 22050).float(), 44100, to_rate)
    inner = slice(2000, -2000)
    expected = sine(13000, to_rate, len(result))[inner]
    error = result.double()[inner] - expected
    assert 10 * torch.log10(expected.pow(2).mean() / error.pow(2).mean()) > 90


def test_what_the_new_rate_cannot_carry_is_removed() -> None:
    """18 kHz does not come back as an alias when 44.1 kHz become 32 kHz."""
    result = resample(sine(18000, 44100, 22050).float(), 44100, 32000)
    assert result[2000:-2000].abs().max() < 1e-5


@pytest.mark.parametrize(
    "from_rate, to_rate", [(44100, 32000), (32000, 44100), (22050, 48000), (3, 2)]
)
@pytest.mark.parametrize("samples", [1, 2, 441, 100_003])
def test_length_is_the_exact_ceiling(
    from_rate: int, to_rate: int, samples: int
) -> None:
    """The length is ceil(samples * to / from) in integers, down to one sample."""
    expected = -(-samples * to_rate // from_rate)
    assert resample(torch.zeros(samples), from_rate, to_rate).shape == (expected,)


def test_long_recordings_keep_their_exact_length() -> None:
    """Beyond 2**24 samples no length is lost to float32 rounding."""
    samples = (1 << 24) + 5
    assert len(resample(torch.zeros(samples), 3, 2)) == -(-samples * 2 // 3)


@given(
    from_rate=st.integers(1, 1000),
    to_rate=st.integers(1, 1000),
    samples=st.integers(1, 50),
)
def test_any_rates_give_the_exact_length(
    from_rate: int, to_rate: int, samples: int
) -> None:
    """Whatever the ratio of two rates, the length is its ceiling, all is finite."""
    result = resample(torch.ones(samples), from_rate, to_rate)
    assert len(result) == -(-samples * to_rate // from_rate)
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("rate", [11025, 16000, 32000, 44100, 47999, 48000])
def test_there_and_back_is_the_same(rate: int) -> None:
    """A sound that both rates can carry survives the way to another rate and back."""
    wav = sine(1000, 22050, 4410) * torch.hann_window(4410, dtype=torch.float64)
    again = resample(resample(wav, 22050, rate), rate, 22050)[:4410]
    torch.testing.assert_close(again, wav, atol=1e-5, rtol=0)


def test_equal_rates_change_nothing() -> None:
    """The same rate gives back the same tensor."""
    wav = torch.randn(7)
    assert resample(wav, 32000, 32000) is wav


def test_batches_equal_single_waveforms() -> None:
    """Leading dimensions are kept and do not mix."""
    wavs = torch.randn(2, 3, 400)
    batch = resample(wavs, 44100, 32000)
    assert batch.shape[:2] == (2, 3)
    torch.testing.assert_close(batch[1, 2], resample(wavs[1, 2], 44100, 32000))


@pytest.mark.parametrize("to_rate", [31500, 43997])  # first used here
def test_gradients_pass_after_a_first_use_in_inference_mode(to_rate: int) -> None:
    """A filter cached under inference_mode still serves training."""
    with torch.inference_mode():
        resample(torch.randn(400), 44100, to_rate)
    wav = torch.randn(400, requires_grad=True)
    resample(wav, 44100, to_rate).pow(2).sum().backward()
    assert wav.grad is not None and wav.grad.abs().sum() > 0


@pytest.mark.parametrize("rates", [(0, 32000), (32000, -1)])
def test_rates_must_be_positive(rates: tuple[int, int]) -> None:
    """A rate that is not positive is refused."""
    with pytest.raises(ValueError, match="positive"):
        resample(torch.zeros(4), *rates)


@given(
    rates=st.sampled_from([(44100, 32000), (8000, 32000), (9973, 8009), (7, 7)]),
    sizes=st.lists(st.integers(0, 700), max_size=6),
)
def test_a_stream_is_resampled_as_the_whole(
    rates: tuple[int, int], sizes: list[int]
) -> None:
    """Whatever the blocks, short and empty ones included."""
    wav = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(0))
    stream = StreamResampler(*rates)
    parts = [stream.push(block) for block in wav.split(sizes)] if sizes else []
    joined = torch.cat([*parts, stream.flush()])
    torch.testing.assert_close(joined, resample(wav, *rates), atol=1e-5, rtol=0)


def test_a_stream_holds_little_back() -> None:
    """All but the reach of the filter is given at once."""
    stream = StreamResampler(44100, 32000)
    assert len(stream.push(torch.zeros(44100))) > 31900


def test_a_stream_of_many_phases_is_that_of_the_whole() -> None:
    """They are computed once for some seconds, not for every block."""
    wav = torch.randn(25 * 4001, generator=torch.Generator().manual_seed(0))
    stream = StreamResampler(4001, 2003)
    parts = [stream.push(block) for block in wav.split(1000)]
    given = [len(part) for part in parts if len(part)]
    assert len(given) == 3 and min(given) >= 8 * 2003
    joined = torch.cat([*parts, stream.flush()])
    torch.testing.assert_close(joined, resample(wav, 4001, 2003), atol=1e-5, rtol=0)
