"""Recordings of any length: scanned window by window, in memory that does not grow.

Windows are those of `lmaczs.explanation`: as long as the model's input, overlapping by
half.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from lmaczs.audio.blocks import AudioBlocks
from lmaczs.clap import FrozenClap
from lmaczs.contrast import margins
from lmaczs.decoder import Decoder
from lmaczs.explanation import BestWindow, audible_windows
from lmaczs.overview import Overview
from lmaczs.presence import presence_in

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
    contrast : Tensor [K, D], optional
        Embeddings of prompts that these are explained against, see `lmaczs.contrast`.
    contrasts : tuple of tuple of str
        The names of those that count for each prompt, for the results.
    recordings : tuple of str or None
        Of each prompt that is a recording its path, for the results.
    """

    clap: FrozenClap
    decoder: Decoder | None
    prompts: tuple[str, ...]
    text: Tensor
    references: Tensor
    model: str = ""
    warnings: tuple[tuple[str, ...], ...] = ()
    contrast: Tensor | None = None
    contrasts: tuple[tuple[str, ...], ...] = ()
    recordings: tuple[str | None, ...] = ()

    @property
    def recorded(self) -> Tensor:
        """Which prompts are recordings, bool [P]."""
        flags = [one is not None for one in self.recordings] or [False]
        return torch.tensor(flags, device=self.text.device).expand(len(self.text))

    def only(self, rows: Sequence[int]) -> Query:
        """The same for some of the prompts."""
        of_each = ("prompts", "warnings", "contrasts", "recordings")
        lists = {name: getattr(self, name) for name in of_each}
        chosen: dict[str, Any] = {
            k: tuple(v[n] for n in rows) for k, v in lists.items() if v
        }
        return replace(self, text=self.text[list(rows)], **chosen)

    def best_window(self) -> BestWindow:
        """Scores of the prompts in the most similar window, of none yet."""
        return BestWindow(self.text, self.references, self.contrast, self.recorded)

    def fields_of(self, row: int, band: Sequence[str] = ()) -> dict[str, Any]:
        """Fields of a prompt's `Interpretation` that no sound is needed for.

        Its names, and what is doubtful about it; `band` is that of the recording.
        """
        own = self.warnings[row] if self.warnings else ()
        return {
            "warnings": (*own, *band),
            "contrast": self.contrasts[row] if self.contrasts else (),
            "prompt_audio": self.recordings[row] if self.recordings else None,
        }


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
        while self.samples >= self._next + self.size + self.hop_length:
            self._kept = self._kept[self._next - self._begin :]
            self._begin, self._next = self._next, self._next + self.step
            yield self._begin, self._kept[: self.size].clone()

    def flush(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the last window at the end of the stream."""
        if not self.samples:
            return
        last = max(0, self.samples - self.size) // self.hop_length * self.hop_length
        begin = last - self._begin
        yield last, self._kept[begin : begin + self.size]


@torch.no_grad()
def scan(
    query: Query, audio: AudioBlocks, progress: bool = False, at_once: int = 8
) -> pd.DataFrame:
    """Classify every window of a recording, see `ZeroShotInterpreter.scan_file`."""
    import pandas as pd

    places: list[tuple[int, int]] = []
    found: list[tuple[Tensor, ...]] = []
    for windows in windows_of(query, audio, progress, at_once):
        sounds = torch.stack([sound for _, sound in windows]).to(query.clap.device)
        log_mel = query.clap.front_end.log_mel(sounds)
        embedding = query.clap.audio_embedding(log_mel)
        scored = scores_of(query, embedding, log_mel)
        ahead = margins_of(query, embedding).masked_fill(scored[1].isnan(), torch.nan)
        found.append((scored[0].cpu(), scored[1].cpu(), ahead.cpu()))
        places += [(start, start + len(sound)) for start, sound in windows]
    similarity, ranks, ahead = map(torch.cat, zip(*found, strict=True))
    rate, prompts = audio.sample_rate, query.prompts
    rows = [place for place in places for _ in prompts]
    columns = {
        "start": [start / rate for start, _ in rows],
        "stop": [stop / rate for _, stop in rows],
        "prompt": list(prompts) * len(places),
        "similarity": similarity.flatten().tolist(),
        "presence": ranks.flatten().tolist(),
    }
    if query.contrast is not None:
        columns["margin"] = ahead.flatten().tolist()
    return pd.DataFrame(columns)


def margins_of(query: Query, embedding: Tensor) -> Tensor:
    """Margins [n, P] above the contrast in sounds of embeddings [n, D]; inf without."""
    if query.contrast is None:
        return embedding.new_full((len(embedding), len(query.prompts)), torch.inf)
    return torch.stack([margins(query.text, query.contrast, one) for one in embedding])


def windows_of(
    query: Query,
    audio: AudioBlocks,
    progress: bool,
    at_once: int,
    overview: Overview | None = None,
) -> Iterator[list[tuple[int, Tensor]]]:
    """First sample and sound of a recording's windows, some at once.

    `overview` is shown the recording, too.
    """
    front_end = query.clap.front_end
    cutter = WindowCutter(front_end.max_samples, front_end.hop_length)

    def each() -> Iterator[tuple[int, Tensor]]:
        for block in shown(audio.read(), audio, progress):
            if overview is not None:
                overview.push(block)
            yield from cutter.push(block)
        if overview is not None:
            overview.finish(audio.own_power, audio.warnings)
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
    text = query.text.expand(len(embedding), -1, -1)
    ranks = presence_in(text, embedding, query.references, query.recorded)
    audible = audible_windows(query.clap.front_end, log_mel)
    silent = ~torch.tensor(audible, device=embedding.device)[:, None]
    nothing = torch.nan
    return similarity.masked_fill(silent, nothing), ranks.masked_fill(silent, nothing)
