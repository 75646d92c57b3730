"""What HTS-AT's attention computes: attention within windows, block by block.

HTS-AT is a Swin transformer: tokens attend to those of their window alone. In every
second block the grid is rolled by half a window first, and patch merging makes one
token of four between stages. What lies in windows is put back on the grid here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lmaczs.clap import FrozenClap


@dataclass
class BlockRecord:
    """One block of the audio encoder, after a forward pass of a batch.

    With W windows of N tokens; the tensors are part of the autograd graph.

    Attributes
    ----------
    block : nn.Module
        The ``ClapAudioLayer``.
    attention : Tensor [B * W, heads, N, N]
        Probabilities, of each query (row) over the keys of its window.
    query, key, value : Tensor [B * W, N, C]
        Of all heads.
    mixed : Tensor [B * W, N, C]
        Sums of the values by attention, before the output projection.
    """

    block: Any
    attention: Tensor = field(init=False)
    query: Tensor = field(init=False)
    key: Tensor = field(init=False)
    value: Tensor = field(init=False)
    mixed: Tensor = field(init=False)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the grid, as folded: see `lmaczs.clap.unfold`."""
        rows, columns = self.block.input_resolution
        return int(rows), int(columns)

    def to_grid(self, values: Tensor) -> Tensor:
        """Put values [B * W, N] of the windows' tokens on the grid [B, rows, columns].

        Undoes HTS-AT's roll and padding.
        """
        side, shift = int(self.block.window_size), int(self.block.shift_size)
        rows, columns = self.size
        high, wide = -(-rows // side), -(-columns // side)
        grid = values.reshape(-1, high, wide, side, side).transpose(2, 3)
        grid = grid.reshape(-1, high * side, wide * side)
        return torch.roll(grid, (shift, shift), (1, 2))[:, :rows, :columns]

    def to_windows(self, grid: Tensor) -> Tensor:
        """Inverse of `to_grid`; padding is zero."""
        side, shift = int(self.block.window_size), int(self.block.shift_size)
        rows, columns = self.size
        padding = (0, -columns % side, 0, -rows % side)
        grid = torch.roll(nn.functional.pad(grid, padding), (-shift, -shift), (1, 2))
        high, wide = grid.shape[1] // side, grid.shape[2] // side
        windows = grid.reshape(-1, high, side, wide, side).transpose(2, 3)
        return windows.reshape(-1, side * side)


@contextmanager
def attention_record(clap: FrozenClap) -> Iterator[list[BlockRecord]]:
    """Record every block of the audio encoder, first to last, in the next pass.

    The records are filled by each forward pass within the context; the model is as
    before when it ends.
    """
    encoder = clap.model.audio_model.audio_encoder
    records = [BlockRecord(b) for stage in encoder.layers for b in stage.blocks]
    with ExitStack() as hooks:
        for record in records:
            inner = record.block.attention.self
            parts = {
                "attention": inner.dropout,  # its input: the probabilities
                "query": inner.query,
                "key": inner.key,
                "value": inner.value,
                "mixed": inner,
            }
            for name, module in parts.items():
                handle = module.register_forward_hook(_keeper(record, name))
                hooks.callback(handle.remove)
        yield records


def _keeper(record: BlockRecord, name: str) -> Any:
    """Forward hook that keeps a module's (first) output."""

    def keep(module: nn.Module, given: Any, output: Any) -> None:
        setattr(record, name, output[0] if isinstance(output, tuple) else output)

    return keep
