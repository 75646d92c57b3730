"""Explanation of a recording of any length, written as it is read.

What `lmaczs.explanation` does with a whole clip is done block by block: windows and
their cross-fade, STFT and its inverse, the two sounds and their verification. Memory
does not depend on the length; what is written is that of the whole, within 1e-5.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmaczs import __version__
from lmaczs.audio.blocks import AudioBlocks, AudioWriter
from lmaczs.block_stft import BlockIstft
from lmaczs.clap import AudioEncoding
from lmaczs.events import activity_weights
from lmaczs.explanation import (
    SILENCE,
    BestWindow,
    Score,
    Windows,
    audible_windows,
    fade_of,
    judged,
    kept_of_margin,
    masked_windows,
    mel_area,
    score_fields,
)
from lmaczs.frontend import power
from lmaczs.long_recording import Query, WindowCutter, scores_of, shown
from lmaczs.mask_events import MaskEvents
from lmaczs.overview import Overview
from lmaczs.presence import PRESENT
from lmaczs.refinement import RefinementOptions
from lmaczs.utils.naming import INPUT_COPY, SAVED
from lmaczs.utils.result_folder import origin_of, write_record


@dataclass(frozen=True)
class BlockOptions:
    """How a recording is explained block by block.

    Attributes
    ----------
    verify : bool
        Whether explanation and residual are encoded again.
    refinement : RefinementOptions, optional
        How masks are refined.
    all_windows : bool
        Whether windows in which a prompt is absent are decoded, too; else they are
        masked out.
    progress : bool
        Whether progress is shown where stderr is a terminal.
    page_folder : Path, optional
        Where a copy of the input and what a page shows are written, see
        `lmaczs.report.page_data`; the prompts' folders lie in it.
    at_once : int
        Most windows in one batch of the encoder.
    """

    verify: bool = True
    refinement: RefinementOptions | None = None
    all_windows: bool = False
    progress: bool = False
    page_folder: Path | None = None
    at_once: int = 8


@torch.no_grad()
def explain_to(
    folders: Sequence[Path],
    query: Query,
    audio: AudioBlocks,
    options: BlockOptions,
) -> list[dict[str, Any]]:
    """Explain a recording for each prompt into a folder, as `Interpretation.save` does.

    Parameters
    ----------
    folders : sequence of Path
        One for each prompt; created if missing. Files are replaced whole at the end.
    query : Query
        Model and prompts.
    audio : AudioBlocks
        The recording, at the model's rate.
    options : BlockOptions
        How it is explained.

    Returns
    -------
    list of dict
        What each explanation.json holds.
    """
    with contextlib.ExitStack() as stack:
        outputs = [
            stack.enter_context(_Output(folder, query, row, audio, options))
            for row, folder in enumerate(folders)
        ]
        stream = _Stream(query, outputs, options)
        copy = None
        if options.page_folder is not None:
            path = options.page_folder / INPUT_COPY
            copy = AudioWriter(path, audio.sample_rate, audio.samples)
            stack.enter_context(copy)
        for block in shown(audio.read(), audio, options.progress):
            stream.push(block)
            if copy is not None:
                copy.write(block)
        stream.finish(audio)
        best, origin = stream.best, {**origin_of(audio.path), "channel": audio.channel}
        doubts = stream.overview.warnings()
        samples = stream.overview.samples
        records = [one.record(samples, best, doubts) | origin for one in outputs]
        for one, record in zip(outputs, records, strict=True):
            one.write_rest(record)  # before the sounds are moved: it marks them as ours
    if options.page_folder is not None:
        _write_page_data(options.page_folder, outputs)
    return records


def _write_page_data(folder: Path, outputs: Sequence[_Output]) -> None:
    """Write what a page shows, of sounds that are there."""
    from lmaczs.report.page_data import write_bands

    power, *_ = outputs[0].bands.means()
    masks = {
        one.folder.name: None if one.checks[0].silent else one.bands.means()[1]
        for one in outputs
    }
    write_bands(folder, power, masks)


class _Stream:
    """From blocks of samples to cross-faded masks and columns of the STFT."""

    def __init__(
        self, query: Query, outputs: Sequence[_Output], options: BlockOptions
    ) -> None:
        self.query, self.outputs, self.options = query, outputs, options
        front_end = query.clap.front_end
        self.cutter = WindowCutter(front_end.max_samples, front_end.hop_length)
        self.overview = Overview(front_end)
        self.best = query.best_window()
        self._windows: list[tuple[int, Tensor]] = []
        self._columns: list[Tensor] = []  # of the STFT, from `_done` on
        self._done = 0  # columns that were handed on
        shape = len(query.prompts), front_end.n_freqs, 0
        self._total, self._weight = torch.zeros(shape), torch.zeros(0)

    def push(self, block: Tensor) -> None:
        """Take samples [n]."""
        self._columns.append(self.overview.push(block))
        for output in self.outputs:
            output.take_input(block)
        self._windows += self.cutter.push(block)
        while len(self._windows) >= self.options.at_once:
            self._explain(self._windows[: self.options.at_once])
            self._windows = self._windows[self.options.at_once :]

    def finish(self, audio: AudioBlocks) -> None:
        """Hand on all that is left, at the end of the recording."""
        self._windows += self.cutter.flush()
        while self._windows:
            self._explain(self._windows[: self.options.at_once])
            self._windows = self._windows[self.options.at_once :]
        self._columns.append(self.overview.finish(audio.own_power, audio.warnings))
        samples = self.overview.samples
        columns = self.query.clap.front_end.clip_frames(samples)
        missing = columns - self._done - len(self._weight)
        if missing > 0:  # what is in no window is masked as what is before it
            self._total = _longer(self._total, missing)
            self._weight = _longer(self._weight, missing)
        self._hand_on(columns)
        for output in self.outputs:
            output.finish(samples)

    def _explain(self, windows: Sequence[tuple[int, Tensor]]) -> None:
        """Encode windows, mask those that have a prompt, and add to the cross-fade."""
        query, front_end = self.query, self.query.clap.front_end
        sounds = torch.stack([sound for _, sound in windows]).to(query.clap.device)
        log_mel = front_end.log_mel(sounds)
        encoding = query.clap.audio_features(log_mel)
        audible = audible_windows(front_end, log_mel)
        _, ranks = scores_of(query, encoding.embedding, log_mel)
        wanted = torch.ones_like(ranks, dtype=torch.bool)
        if not self.options.all_windows:
            wanted = ranks >= PRESENT  # NaN, silence, is not
        rows = wanted.any(1).nonzero()[:, 0]
        masks = self._masks(sounds, log_mel, encoding, rows)
        for number, (start, sound) in enumerate(windows):
            first = start // front_end.hop_length
            self._hand_on(first)
            self.best.add(encoding.embedding[number], audible[number])
            for output in self.outputs:
                output.note(start, encoding.embedding[number], audible[number])
            mask = masks.get(number)
            if mask is not None:
                mask = mask * wanted[number, :, None, None]
                mask = front_end.crop_mask(mask, self.overview.samples).cpu()
            self._add(first, mask, front_end.clip_frames(len(sound)))

    def _masks(
        self, sounds: Tensor, log_mel: Tensor, encoding: AudioEncoding, rows: Tensor
    ) -> dict[int, Tensor]:
        """Masks [P, F, n_frames] of some of the windows, by their numbers."""
        query = self.query
        if not len(rows):
            return {}
        features = tuple(one[rows] for one in encoding.features)
        part = AudioEncoding(encoding.embedding[rows], features, encoding.last[rows])
        text = query.text.expand(len(rows), -1, -1)
        counts = [len(query.prompts)] * len(rows)
        mel = log_mel[rows]
        audible = audible_windows(query.clap.front_end, mel)
        windows = Windows(list(sounds[rows]), mel, part, text, counts, audible)
        options = query.clap, query.decoder, windows, self.best
        masks, steps = masked_windows(*options, self.options.refinement)
        for taken in steps:
            self.best.add_steps(taken)
        return dict(zip(rows.tolist(), masks, strict=True))

    def _add(self, first: int, mask: Tensor | None, columns: int) -> None:
        """Add the mask [P, F, T] of a window; None: nothing of it is kept."""
        columns = columns if mask is None else mask.shape[-1]
        lacking = first - self._done + columns - len(self._weight)
        if lacking > 0:
            pad = torch.nn.functional.pad
            self._total = pad(self._total, (0, lacking))
            self._weight = pad(self._weight, (0, lacking))
        place = slice(first - self._done, first - self._done + columns)
        fade = fade_of(columns, self._weight)
        self._weight[place] += fade
        if mask is not None:
            self._total[..., place] += mask * fade

    def _hand_on(self, last: int) -> None:
        """Hand on the columns up to `last`: no later window reaches them."""
        count = last - self._done
        if count <= 0:
            return
        columns = torch.cat(self._columns, 1)
        weight = self._weight[:count]
        masks = (self._total[..., :count] / weight).clamp_(0, 1)
        for output, mask in zip(self.outputs, masks, strict=True):
            output.take(columns[:, :count], mask)
        self._columns = [columns[:, count:].clone()]
        self._total = self._total[..., count:].clone()
        self._weight, self._done = self._weight[count:].clone(), last


def _longer(columns: Tensor, count: int) -> Tensor:
    """Columns [..., T], the last of which is repeated."""
    last = columns[..., -1:]
    return torch.cat([columns, last.expand(*columns.shape[:-1], count)], -1)


class _Output:
    """Sounds, numbers and picture of one prompt; a context manager."""

    def __init__(
        self,
        folder: Path,
        query: Query,
        row: int,
        audio: AudioBlocks,
        options: BlockOptions,
    ) -> None:
        from lmaczs.report.band_track import BandTrack

        front_end = query.clap.front_end
        self.folder, self.query, self.row, self.options = folder, query, row, options
        names = "explanation.wav", "residual.wav"
        self.writers = [
            AudioWriter(folder / name, front_end.sample_rate, audio.samples)
            for name in names
        ]
        self.istft = BlockIstft(front_end)
        self.bands = BandTrack(3, front_end.n_freqs, front_end.sample_rate)
        self.checks = [_Verification(query, row, options.at_once) for _ in names]
        self.mask_rows, self.columns = torch.zeros(front_end.n_freqs).double(), 0
        self.weights = activity_weights(front_end.mel_filters).cpu()
        per_second = front_end.sample_rate / front_end.hop_length
        self.events = MaskEvents(self.weights, front_end.n_frames, per_second)
        self._input = torch.zeros(0)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Output:
        with contextlib.ExitStack() as stack:
            for writer in self.writers:
                stack.enter_context(writer)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def take_input(self, block: Tensor) -> None:
        """Take samples of the input, whose explanation comes later."""
        self._input = torch.cat([self._input, block])

    def note(self, start: int, embedding: Tensor, audible: bool) -> None:
        """Remember the encoding of a window: the residual may be equal to it."""
        self.checks[1].known[start] = embedding, audible

    def take(self, columns: Tensor, mask: Tensor) -> None:
        """Take columns [F, m] of the input and their mask."""
        masked = mask * columns
        self.mask_rows += mask.double().sum(1)
        self.columns += mask.shape[1]
        kept = power(masked)
        self.bands.add(power(columns), mask, kept)
        self.events.add(mask, kept)
        self._write(self.istft.push(masked))

    def finish(self, samples: int) -> None:
        """Take the end of the recording."""
        self._write(self.istft.flush(samples))
        if self.options.verify:
            for check in self.checks:
                check.finish()

    def _write(self, kept: Tensor) -> None:
        own, self._input = self._input[: len(kept)], self._input[len(kept) :]
        parts = kept, own - kept
        for writer, check, part in zip(self.writers, self.checks, parts, strict=True):
            writer.write(part)
            check.see(part, equal=not bool(kept.any()))
            if self.options.verify:
                check.push(part)

    def record(
        self, samples: int, best: BestWindow, doubts: Sequence[str]
    ) -> dict[str, Any]:
        """What explanation.json holds."""
        rows = (self.mask_rows / self.columns).float()
        query, front_end = self.query, self.query.clap.front_end
        score = best.score(self.row)
        masked, left = (check.score() for check in self.checks)
        if not self.options.verify:
            masked = left = Score()
        fields = query.fields_of(self.row, doubts)
        verdict = None
        if self.options.verify:
            verdict = judged(score, masked, left, query.references)
        return {
            "prompt": query.prompts[self.row],
            "sample_rate": front_end.sample_rate,
            "similarity": float(best.similarity[self.row]),
            "hop_length": front_end.hop_length,
            "model": query.model,
            **score_fields(score, masked, left),
            "verdict": verdict,
            "refine_steps": int(best.steps[self.row]),
            "warnings": list(fields["warnings"]),
            "prompt_audio": fields["prompt_audio"],
            "contrast": list(fields["contrast"]),
            "margin_kept": kept_of_margin(score.margin, masked.margin),
            "empty": self.checks[0].silent,
            "mask_mean": float(rows.mean()),
            "mel_area": mel_area(rows, front_end.sample_rate),
            "seconds": samples / front_end.sample_rate,
            "events": self._events_found(samples, best),
            "lmaczs_version": __version__,
        }

    def _events_found(self, samples: int, best: BestWindow) -> list[dict[str, Any]]:
        """Events of the mask, as `Interpretation.to_dict` has them."""
        if self.checks[0].silent:
            return []
        front_end, rate = self.query.clap.front_end, self.writers[0].sample_rate
        scores = best.window_scores(self.row, front_end, samples, self.weights)
        prompt = self.query.prompts[self.row]
        found = self.events.finish(prompt, scores, samples / rate, rate / 2)
        return [asdict(event) for event in found]

    def write_rest(self, record: dict[str, Any]) -> None:
        """Write the numbers and the picture."""
        from lmaczs.report.figures import panels_of, title_of
        from lmaczs.report.picture import save_panels

        rate = self.query.clap.front_end.sample_rate
        write_record(self.folder / SAVED[3], record)
        shown_bands = panels_of(*self.bands.means())
        path, title = self.folder / SAVED[2], title_of(record)
        save_panels(path, shown_bands, rate, record["seconds"], title)


class _Verification:
    """Best window of a sound that comes in blocks, for one prompt."""

    def __init__(self, query: Query, row: int, at_once: int) -> None:
        front_end = query.clap.front_end
        self.query, self.at_once = query, at_once
        self.cutter = WindowCutter(front_end.max_samples, front_end.hop_length)
        self.best = query.best_window().alone(row)
        self.silent = True
        self.known: dict[int, tuple[Tensor, bool]] = {}
        self._changed = 0  # the sample after the last one that differs from the input
        self._seen = 0
        self._silence: tuple[Tensor, bool] | None = None
        self._batch: list[Tensor] = []

    def see(self, part: Tensor, equal: bool) -> None:
        """Note whether samples are silent, and whether they equal the input's."""
        self.silent &= not len(part) or float(part.abs().max()) <= SILENCE
        self._seen += len(part)
        if not equal:
            self._changed = self._seen

    def push(self, part: Tensor) -> None:
        """Take samples [n], after `see`."""
        for start, sound in self.cutter.push(part):
            self._window(start, sound)

    def finish(self) -> None:
        """Take the end of the sound."""
        for start, sound in self.cutter.flush():
            self._window(start, sound)
        self._encode()

    def _window(self, start: int, sound: Tensor) -> None:
        """Add a window, encoded unless it is digital silence or equals the input's."""
        known = self.known.get(start)
        self.known = {one: both for one, both in self.known.items() if one > start}
        if not bool(sound.any()):
            if self._silence is None or len(sound) != self.cutter.size:
                self._silence = self._encoded([sound])[0]
            self.best.add(*self._silence)
        elif known is not None and self._changed <= start:
            self.best.add(*known)
        else:
            self._batch.append(sound)
            if len(self._batch) == self.at_once:
                self._encode()

    def _encode(self) -> None:
        for embedding, audible in self._encoded(self._batch):
            self.best.add(embedding, audible)
        self._batch = []

    def _encoded(self, sounds: Sequence[Tensor]) -> list[tuple[Tensor, bool]]:
        if not sounds:
            return []
        clap = self.query.clap
        log_mel = clap.front_end.log_mel(torch.stack(list(sounds)).to(clap.device))
        embeddings = clap.audio_embedding(log_mel)
        return list(
            zip(embeddings, audible_windows(clap.front_end, log_mel), strict=True)
        )

    def score(self) -> Score:
        """Score of the sound; of silence there is none."""
        return Score() if self.silent else self.best.score(0)
