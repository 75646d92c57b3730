"""From clips to rows of a corpus's tables: embeddings, scores, masks in short, events.

A clip that is longer than the model's input is a row for each window of `scan_file`.
Of prompts that are present, and of those that are kept, the explanation is summed up.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmaczs.audio.blocks import AudioBlocks
from lmaczs.clap import AudioEncoding
from lmaczs.corpus.keep import Keep
from lmaczs.corpus.store import Copies
from lmaczs.corpus.tables import EMBEDDING, PLAN, TABLES
from lmaczs.event_search import find, to_bands
from lmaczs.events import Event, EventRule, without_shared
from lmaczs.explanation import AT_ONCE, Interpretation, explain_batch
from lmaczs.interpreter import Refine, ZeroShotInterpreter, refinement_of
from lmaczs.long_recording import scores_of, windows_of
from lmaczs.presence import PRESENT
from lmaczs.utils.errors import AudioError, LmaczsError
from lmaczs.utils.result_folder import file_sha256

Row = dict[str, Any]

Key = tuple[int, int]
"""Numbers of a clip, and of a window of it."""

Save = Callable[[Key, list[Interpretation]], object]
"""Takes what is kept of a window: of hours of sound it does not fit into memory."""


@dataclass(frozen=True)
class Wanted:
    """What is wanted of every clip.

    Attributes
    ----------
    prompts : tuple of str
        Labels or sentences.
    refine : "auto" or int
        See `ZeroShotInterpreter.interpret_file`.
    events : bool
        Whether events are searched for; in clips of several windows that takes a second
        look.
    keep : str or None
        Of which explanations sound and picture are kept, see `lmaczs.corpus.keep`.
    channel : int or None
        The only channel that is read, from 1 on; None: the mean over all.
    strict : bool
        Whether a recording that is truncated or damaged is a failure.
    """

    prompts: tuple[str, ...]
    refine: Refine = "auto"
    events: bool = True
    keep: str | None = None
    channel: int | None = None
    strict: bool = False


@dataclass
class Found:
    """What was found in clips.

    Attributes
    ----------
    tables : dict of str to list of dict
        Rows of each table.
    kept : dict of (int, int) to list of str
        Prompts whose explanations are kept, by clip and window.
    events : dict of int to list of Event
        Of the explanations of each clip's first window.
    doubts : dict of int to tuple of str
        What is doubtful about the recording of each clip that could be read.
    """

    tables: dict[str, list[Row]] = field(
        default_factory=lambda: {name: [] for name in TABLES}
    )
    kept: dict[Key, list[str]] = field(default_factory=dict)
    events: dict[int, list[Event]] = field(default_factory=dict)
    doubts: dict[int, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Window:
    """A window [samples] of a clip, and its number."""

    clip: Row
    number: int
    sound: Tensor
    start: float  # seconds from the recording's begin
    stop: float
    sha256: str

    @property
    def key(self) -> Row:
        return {"clip": self.clip["clip"], "window": self.number}


class RowMaker:
    """Makes rows of clips with one model.

    Parameters
    ----------
    interpreter : ZeroShotInterpreter
        The model.
    wanted : Wanted
        What is wanted of every clip.

    Raises
    ------
    InputError
        If there is no prompt, or what is to be kept is no condition.
    """

    def __init__(self, interpreter: ZeroShotInterpreter, wanted: Wanted) -> None:
        self.query = interpreter.query(wanted.prompts)
        self.wanted = wanted
        self.keep = None if wanted.keep is None else Keep(wanted.keep)
        fitted = interpreter.decoder is None
        self.refinement = refinement_of(wanted.refine, True, fitted)
        device = self.query.clap.device.type
        self.at_once = AT_ONCE.get(device, AT_ONCE["cuda"])

    @torch.no_grad()
    def __call__(self, clips: Sequence[Row], copies: Copies, save: Save) -> Found:
        """Rows of clips.

        Parameters
        ----------
        clips : sequence of dict
            Rows of a plan.
        copies : Copies
            Where recordings in stores are copied to.
        save : callable
            Takes what is kept, as it comes; that of a clip that cannot be read to its
            end, too.

        Returns
        -------
        Found
            Of a clip that cannot be read there is a row of failures alone.

        Raises
        ------
        OSError
            If a store fails.
        """
        found = Found()
        windows = self._windows(clips, copies, found)
        while batch := list(islice(windows, self.at_once)):
            self._add(batch, found, save)
        failed = {row["clip"] for row in found.tables["failures"]}
        for table in ("clips", "scores"):
            own = found.tables[table]
            found.tables[table] = [row for row in own if row["clip"] not in failed]
        for row in found.tables["clips"]:
            row["warnings"] = found.doubts[row["clip"]]
        found.kept = {k: one for k, one in found.kept.items() if k[0] not in failed}
        if self.wanted.events:
            found.tables["events"] = list(self._events(clips, copies, found))
        return found

    # ---------------------------------------------------------------- reading

    def _windows(
        self, clips: Sequence[Row], copies: Copies, found: Found
    ) -> Iterator[_Window]:
        """Yield the windows of all clips; note which of them are doubtful, or fail.

        A store that lets none of them be read fails: PermissionError.
        """
        digests: dict[str, str] = {}
        refused: PermissionError | None = None
        for clip in clips:
            place = path = clip["path"]
            try:
                path = copies.path(place)
                audio = self._audio(clip, path)
                if place not in digests:
                    digests[place] = file_sha256(path)
                yield from self._of_clip(clip, audio, digests[place])
                found.doubts[clip["clip"]] = audio.warnings
            except (LmaczsError, FileNotFoundError, PermissionError) as error:
                if isinstance(error, PermissionError):
                    refused = error
                gone = isinstance(error, FileNotFoundError)
                text = "there is no such file" if gone else str(error)
                reason = " ".join(text.removeprefix(f"{path}: ").split())
                failure = {name: clip[name] for name in PLAN.names}
                found.tables["failures"].append({**failure, "reason": reason})
        if refused is not None and not copies.count:
            raise refused

    def _audio(self, clip: Row, path: str | Path) -> AudioBlocks:
        times = (_number(clip["start"]), _number(clip["stop"]))
        rate = self.query.clap.front_end.sample_rate
        return AudioBlocks(path, rate, self.wanted.channel, self.wanted.strict, *times)

    def _of_clip(self, clip: Row, audio: AudioBlocks, sha256: str) -> Iterator[_Window]:
        begin, count = _number(clip["start"]) or 0.0, 0
        for windows in windows_of(self.query, audio, False, self.at_once):
            for first, sound in windows:
                place = first, first + len(sound)
                start, stop = (begin + n / audio.sample_rate for n in place)
                yield _Window(clip, count, sound, start, stop, sha256)
                count += 1
        if not count:
            raise AudioError(f"it has no sample from {begin:g} s on")

    # --------------------------------------------------------------- explaining

    def _add(self, windows: Sequence[_Window], found: Found, save: Save) -> None:
        """Add the rows of windows."""
        clap = self.query.clap
        sounds = [one.sound.to(clap.device) for one in windows]
        log_mel = torch.cat([clap.front_end.log_mel(one[None]) for one in sounds])
        encoding = clap.audio_features(log_mel)
        embedding = encoding.embedding
        scores = torch.stack(scores_of(self.query, embedding, log_mel), -1).cpu()
        rows = [self._scored(*one) for one in zip(windows, scores, strict=True)]
        explained = self._explained(windows, sounds, rows, encoding)
        vectors = embedding.cpu().tolist()
        for window, own, results, vector in zip(
            windows, rows, explained, vectors, strict=True
        ):
            clip, silent = window.clip, own[0]["presence"] is None
            found.tables["clips"].append(
                {
                    **clip,
                    **window.key,
                    "sha256": window.sha256,
                    "start": window.start,
                    "stop": window.stop,
                    EMBEDDING: None if silent else vector,
                }
            )
            found.tables["scores"] += own
            if not window.number:
                found.events[clip["clip"]] = list(_events_of(results.values()))
            if kept := list(self._kept(window, own, results)):
                key = clip["clip"], window.number
                save(key, kept)
                found.kept[key] = [one.prompt for one in kept]

    def _scored(self, window: _Window, scores: Tensor) -> list[Row]:
        """Rows of a window, by similarity and presence [P, 2] of each prompt."""
        rows = []
        for prompt, (similarity, presence) in zip(
            self.query.prompts, scores.tolist(), strict=True
        ):
            verdict = "not heard" if not presence >= PRESENT else None
            values = {"similarity": _number(similarity), "presence": _number(presence)}
            rows.append({**window.key, "prompt": prompt, **values, "verdict": verdict})
        return rows

    def _explained(
        self,
        windows: Sequence[_Window],
        sounds: Sequence[Tensor],
        rows: list[list[Row]],
        encoding: AudioEncoding,
    ) -> list[dict[int, Interpretation]]:
        """Explanations by the number of the prompt; their rows are completed."""
        asked = [
            [n for n, row in enumerate(own) if self._is_asked(window, row)]
            for window, own in zip(windows, rows, strict=True)
        ]
        chosen = [number for number, own in enumerate(asked) if own]
        found: list[dict[int, Interpretation]] = [{} for _ in windows]
        if not chosen:
            return found
        results = explain_batch(
            self.query.clap,
            self.query.decoder,
            [sounds[number] for number in chosen],
            [[self.query.prompts[n] for n in asked[number]] for number in chosen],
            [self.query.text[asked[number]] for number in chosen],
            model=self.query.model,
            refinement=self.refinement,
            references=self.query.references,
            encoding=encoding.of(chosen),
        )
        for number, several in zip(chosen, results, strict=True):
            found[number] = dict(zip(asked[number], several, strict=True))
            for n, one in found[number].items():
                rows[number][n] |= self._summary(one)
        return found

    def _is_asked(self, window: _Window, row: Row) -> bool:
        return row["verdict"] is None or self._is_kept(window, row)

    def _is_kept(self, window: _Window, row: Row) -> bool:
        if self.keep is None:
            return False
        of_clip = {name: getattr(window, name) for name in ("start", "stop")}
        return self.keep({**row, **of_clip, "path": window.clip["path"]})

    def _summary(self, one: Interpretation) -> Row:
        """What scores have of an explanation, beside similarity and presence."""
        device = self.query.clap.device
        bands = to_bands(self.query, one.mask.to(device)).cpu().clamp(0, 1)
        return {
            "verdict": one.verdict,
            "masked_similarity": one.masked_similarity,
            "masked_presence": one.masked_presence,
            "residual_similarity": one.residual_similarity,
            "residual_presence": one.residual_presence,
            "mask_mean": float(one.mask.mean()),
            "mass": float(bands.mean()),
            "mass_by_band": bands.mean(1).tolist(),
            "mass_by_second": by_second(bands.mean(0), one).tolist(),
            "refine_steps": one.refine_steps,
        }

    def _kept(
        self,
        window: _Window,
        rows: Sequence[Row],
        results: Mapping[int, Interpretation],
    ) -> Iterator[Interpretation]:
        """Yield the explanations of a window that are kept."""
        for number, one in results.items():
            if self._is_kept(window, rows[number]):
                yield replace(
                    one,
                    **self.query.fields_of(number),
                    recording=window.clip["path"],
                    recording_sha256=window.sha256,
                    channel=self.wanted.channel,
                )

    # ------------------------------------------------------------------- events

    def _events(
        self, clips: Sequence[Row], copies: Copies, found: Found
    ) -> Iterator[Row]:
        """Yield the events of clips, by the rule of `find_events`.

        In a clip of one window they are those of its explanations: the model does not
        look once more.
        """
        rule = EventRule()
        windows = Counter(row["clip"] for row in found.tables["clips"])
        for clip in clips:
            number, begin = clip["clip"], _number(clip["start"]) or 0.0
            if windows[number] == 1:
                known = found.events.get(number, ())
                sure = [one for one in known if one.presence >= rule.presence]
                events = without_shared(sure)
            else:
                events = self._searched(clip, copies, found, rule)
            for one in events:
                times = {"start": one.start + begin, "stop": one.stop + begin}
                yield {"clip": number, **asdict(one), **times}

    def _searched(
        self, clip: Row, copies: Copies, found: Found, rule: EventRule
    ) -> list[Event]:
        """Events of a clip of several windows, some of which have a candidate."""
        prompts = {
            row["prompt"]
            for row in found.tables["scores"]
            if row["clip"] == clip["clip"] and (row["presence"] or 0) >= rule.candidate
        }
        rows = [n for n, name in enumerate(self.query.prompts) if name in prompts]
        if not rows:
            return []
        audio = self._audio(clip, copies.path(clip["path"]))
        events = find(self.query.only(rows), audio, rule, self.refinement)
        return [one.event for one in events]


def _events_of(explanations: Iterable[Interpretation]) -> Iterator[Event]:
    for one in explanations:
        yield from (Event(*row) for row in one.events.itertuples(index=False))


def by_second(columns: Tensor, one: Interpretation) -> Tensor:
    """Means over each second of a clip, the last of which may be part of one.

    Parameters
    ----------
    columns : Tensor [T]
        A value for each column of the clip's mask.
    one : Interpretation
        Of the clip.

    Returns
    -------
    Tensor [seconds]
    """
    seconds = math.ceil(len(one.waveform) / one.sample_rate)
    number = torch.arange(len(columns)) * one.hop_length // one.sample_rate
    number = number.clamp_max(seconds - 1)
    total = torch.zeros(seconds).index_add_(0, number, columns)
    # less than a hop of the last second may have no column of its own
    return total / torch.bincount(number, minlength=seconds).clamp_min(1)


def _number(value: float | None) -> float | None:
    """A number of a row; None for NaN."""
    return None if value is None or math.isnan(value) else value
