"""block_stft.py: blocks joined are the whole, and come back."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.block_stft import BlockIstft, BlockStft
from lmaczs.clap import FrozenClap

LENGTHS = st.one_of(st.integers(1, 3000), st.integers(3000, 40000))


@given(samples=LENGTHS, block=st.integers(100, 9000))
def test_blocks_joined_are_the_stft_of_the_whole(
    tiny_clap: FrozenClap, samples: int, block: int
) -> None:
    """Within 1e-5 of the largest value, ends included, whatever the blocks."""
    front_end = tiny_clap.front_end
    wav = torch.randn(samples, generator=torch.Generator().manual_seed(0))
    stream = BlockStft(front_end)
    parts = [stream.push(part) for part in wav.split(block)]
    joined = torch.cat([*parts, stream.flush()], 1)
    whole = front_end.stft(wav)
    assert joined.shape == whole.shape
    scale = float(whole.abs().max())
    torch.testing.assert_close(joined, whole, atol=1e-5 * scale, rtol=0)


@given(samples=LENGTHS, columns=st.integers(1, 90))
def test_a_masked_spectrogram_is_inverted_as_the_whole(
    tiny_clap: FrozenClap, samples: int, columns: int
) -> None:
    """Within 1e-5, whatever the blocks of columns."""
    front_end = tiny_clap.front_end
    generator = torch.Generator().manual_seed(0)
    spectrum = front_end.stft(torch.randn(samples, generator=generator))
    masked = torch.rand(spectrum.shape, generator=generator) * spectrum
    stream = BlockIstft(front_end)
    parts = [stream.push(part) for part in masked.split(columns, 1)]
    joined = torch.cat([*parts, stream.flush(samples)])
    whole = front_end.istft(masked, samples)
    torch.testing.assert_close(joined, whole, atol=1e-5, rtol=0)


def test_little_is_held_back(tiny_clap: FrozenClap) -> None:
    """A second of sound gives nearly a second back."""
    front_end = tiny_clap.front_end
    columns = BlockStft(front_end).push(torch.zeros(32000))
    assert columns.shape[1] > 45
    assert len(BlockIstft(front_end).push(columns)) > 25000
