"""What is recorded of attention, and where its windows lie on the grid."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch

from lmaczs.evaluation.attention_record import BlockRecord, attention_record
from lmaczs.evaluation.explainer import ExplainerInput


@pytest.fixture(scope="module")
def blocks(one_after_the_other: ExplainerInput) -> list[BlockRecord]:
    """Blocks of the embedded CLAP for two clips."""
    log_mel = one_after_the_other.log_mel * torch.tensor([1, 0.9])[:, None, None, None]
    with torch.no_grad(), attention_record(one_after_the_other.clap) as found:
        one_after_the_other.clap.audio_embedding(log_mel)
    return found


def test_all_blocks_are_recorded(blocks: list[BlockRecord]) -> None:
    """In order, on the stages' grids; the second of a stage shifts its windows."""
    sizes = [(16, 16)] * 2 + [(8, 8)] * 2 + [(4, 4)] * 4
    assert [b.size for b in blocks] == sizes
    assert [int(b.block.shift_size) for b in blocks] == [0, 2, 0, 2, 0, 0, 0, 0]
    for block in blocks:
        tokens = block.value.shape[0] * block.value.shape[1]
        assert tokens == 2 * block.size[0] * block.size[1]


def test_attention_mixes_values(blocks: list[BlockRecord]) -> None:
    """Rows are probabilities; each head's output is its attention times its values."""
    for b in blocks:
        total = b.attention.sum(-1)
        torch.testing.assert_close(total, torch.ones_like(total))
        heads = b.attention.shape[1]
        for w in (0, len(b.value) - 1):
            parts = b.value[w].chunk(heads, dim=1)
            mixed = [b.attention[w, h] @ part for h, part in enumerate(parts)]
            torch.testing.assert_close(torch.cat(mixed, 1), b.mixed[w])


def test_windows_lie_where_their_tokens_do(
    one_after_the_other: ExplainerInput,
) -> None:
    """Values on the grid are those of the block's input, token by token."""
    clap, inputs = one_after_the_other.clap, []
    with torch.no_grad(), attention_record(clap) as blocks, ExitStack() as hooks:
        for b in blocks:
            handle = b.block.register_forward_pre_hook(
                lambda module, given: inputs.append(given[0])
            )
            hooks.callback(handle.remove)
        clap.audio_embedding(one_after_the_other.log_mel)
    for tokens, b in zip(inputs, blocks, strict=True):
        with torch.no_grad():
            norm = b.block.layernorm_before(tokens)
            expected = b.block.attention.self.value(norm)
        for channel in (0, 5):
            grid = b.to_grid(b.value[..., channel])
            torch.testing.assert_close(
                grid.flatten(1), expected[..., channel], atol=1e-4, rtol=1e-4
            )
        assert torch.equal(b.to_windows(grid), b.value[..., channel])


def test_padded_windows() -> None:
    """Where windows do not fit, the grid ends in padding, which is left out again."""
    layer = SimpleNamespace(input_resolution=(6, 5), window_size=4, shift_size=2)
    b = BlockRecord(layer)
    windows = b.to_windows(torch.arange(1.0, 31).view(1, 6, 5))
    assert windows.shape == (4, 16)
    for row in range(8):
        for column in range(8):
            from_row, from_column = (row + 2) % 8, (column + 2) % 8
            inside = from_row < 6 and from_column < 5
            expected = 1 + 5 * from_row + from_column if inside else 0
            window, token = 2 * (row // 4) + column // 4, 4 * (row % 4) + column % 4
            assert windows[window, token] == expected
    assert torch.equal(b.to_grid(windows), torch.arange(1.0, 31).view(1, 6, 5))


def test_nothing_stays_after_an_error(one_after_the_other: ExplainerInput) -> None:
    """A later pass is not recorded and gives what it gave before."""
    clap, clip = one_after_the_other.clap, one_after_the_other.log_mel
    with torch.no_grad():
        expected = clap.audio_embedding(clip)
        with pytest.raises(RuntimeError, match="stop"):
            with attention_record(clap) as found:
                inside = clap.audio_embedding(clip)
                raise RuntimeError("stop")
        kept = [(b.attention, b.mixed) for b in found]
        assert torch.equal(inside, expected)
        assert torch.equal(clap.audio_embedding(clip), expected)
    for b, (attention, mixed) in zip(found, kept, strict=True):
        assert b.attention is attention and b.mixed is mixed
