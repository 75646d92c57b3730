"""Recordings of any length: scanned window by window, in memory that does not grow.

Windows are those of `lmaczs.explanation`: as long as the model's input, overlapping by
half.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from lmaczs.audio.blocks import AudioBlocks
from lmaczs.clap import FrozenClap
from lmaczs.decoder import Decoder
from lmaczs.explanation import audible_windows
from lmaczs.presence import TIE, presence

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Query:
    """A model, its decoder, and the prompts that a recording is searched for.

    Attributes
    ----------
    clap : FrozenClap
        The model.
    decoder : Decoder or None
        Without one, masks are fitted.
    prompts : tuple of str
        As query.
    text : Tensor [P, D]
        Their embeddings.
    references : Tensor [R, D]
        Those of the reference prompts.
    model : str
        Name of the model, for the results.
    warnings : tuple of tuple of str
        What is doubtful about each prompt, for the results.
    """

    clap: FrozenClap
    decoder: Decoder | None
    prompts: tuple[str, ...]
    text: Tensor
    references: Tensor
    model: str = ""
    warnings: tuple[tuple[str, ...], ...] = ()


class WindowCutter:
    """Cuts the windows of `window_starts` out of a stream of samples.

    Parameters
    ----------
    size : int
        Samples of a window.
    hop_length : int
        Windows start at multiples of it.
    """

    def __init__(self, size: int, hop_length: int) -> None:
        self.size, self.hop_length = size, hop_length
        self.step = size // 2 // hop_length * hop_length
        self.samples = 0  # that were pushed
        self._next = 0
        self._kept, self._begin = torch.zeros(0), 0  # the end of the stream

    def push(self, block: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Take samples [n], yield first sample and sound of windows that are full."""
        self.samples += len(block)
        self._kept = torch.cat([self._kept.to(block), block])
        # the last window is not among them: it may start between two steps, and so
        # soon after the one before it that all of that is kept
        while self.samples > self._next + self.size:
            self._kept = self._kept[self._next - self._begin :]
            self._begin, self._next = self._next, self._next + self.step
            yield self._begin, self._kept[: self.size].clone()

    def flush(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the last window, which may end in zeros, at the end of the stream."""
        if not self.samples:
            return
        last = max(0, -(-(self.samples - self.size) // self.hop_length))
        last *= self.hop_length
        window = self._kept[last - self._begin :]
        lacking = min(self.samples, self.size) - len(window)
        yield last, torch.nn.functional.pad(window, (0, lacking))


@torch.no_grad()
def scan(
    query: Query, audio: AudioBlocks, progress: bool = False, at_once: int = 8
) -> pd.DataFrame:
    """Classify every window of a recording, see `ZeroShotInterpreter.scan_file`."""
    import pandas as pd

    places: list[tuple[int, int]] = []
    found: list[tuple[Tensor, Tensor]] = []
    for windows in windows_of(query, audio, progress, at_once):
        sounds = torch.stack([sound for _, sound in windows]).to(query.clap.device)
        log_mel = query.clap.front_end.log_mel(sounds)
        scored = scores_of(query, query.clap.audio_embedding(log_mel), log_mel)
        found.append((scored[0].cpu(), scored[1].cpu()))
        places += [(start, start + len(sound)) for start, sound in windows]
    similarity, ranks = (torch.cat(parts) for parts in zip(*found, strict=True))
    rate, prompts = audio.sample_rate, query.prompts
    rows = [place for place in places for _ in prompts]
    return pd.DataFrame(
        {
            "start": [start / rate for start, _ in rows],
            "stop": [stop / rate for _, stop in rows],
            "prompt": list(prompts) * len(places),
            "similarity": similarity.flatten().tolist(),
            "presence": ranks.flatten().tolist(),
        }
    )


def windows_of(
    query: Query, audio: AudioBlocks, progress: bool, at_once: int
) -> Iterator[list[tuple[int, Tensor]]]:
    """First sample and sound of a recording's windows, some at once."""
    front_end = query.clap.front_end
    cutter = WindowCutter(front_end.max_samples, front_end.hop_length)

    def each() -> Iterator[tuple[int, Tensor]]:
        for block in shown(audio.read(), audio, progress):
            yield from cutter.push(block)
        yield from cutter.flush()

    stream = each()
    while batch := list(islice(stream, at_once)):
        yield batch


def shown(
    blocks: Iterable[Tensor], audio: AudioBlocks, progress: bool
) -> Iterator[Tensor]:
    """Blocks as they come, with a bar and the time left where stderr is a terminal."""
    total = None if audio.samples is None else audio.samples / audio.sample_rate
    options = {"unit": "s", "desc": audio.path.name, "leave": False}
    form = "{desc}: {percentage:3.0f}% {bar} {n:.0f}/{total:.0f} s, {remaining} left"
    options |= {} if total is None else {"bar_format": form}
    # disable=None: not in a pipe
    with tqdm(total=total, disable=None if progress else True, **options) as bar:
        for block in blocks:
            yield block
            bar.update(len(block) / audio.sample_rate)


def scores_of(
    query: Query, embedding: Tensor, log_mel: Tensor
) -> tuple[Tensor, Tensor]:
    """Similarities and presences [n, P] of windows; NaN where they are silence."""
    similarity = embedding @ query.text.T
    ranks = presence(similarity - TIE, embedding @ query.references.T)
    audible = audible_windows(query.clap.front_end, log_mel)
    silent = ~torch.tensor(audible, device=embedding.device)[:, None]
    nothing = torch.nan
    return similarity.masked_fill(silent, nothing), ranks.masked_fill(silent, nothing)
