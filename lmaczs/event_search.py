"""Search of a recording for events: find first, explain what was found.

The recording is scanned, and windows in which a prompt is present are masked
(`lmaczs.events` has the rule). Then it is read once more, but for the surroundings of
what was found alone: they are classified again, and what is left is explained.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lmaczs.audio.blocks import AudioBlocks
from lmaczs.clap import AudioEncoding
from lmaczs.events import (
    Event,
    EventRule,
    active_runs,
    activity,
    band_limits,
    times_of,
    without_shared,
)
from lmaczs.explanation import Interpretation, explain_batch, without_silence
from lmaczs.frontend import power
from lmaczs.long_recording import Query, margins_of, scores_of, windows_of
from lmaczs.overview import Overview
from lmaczs.refinement import PromptLead, RefinementOptions, agreement_logits

WHOLE = 0.8
"""Fraction of a window beyond which an event keeps the limits that the scan gave it."""


@dataclass(frozen=True)
class FoundEvent:
    """An event with its explanation.

    Attributes
    ----------
    event : Event
        When and where.
    explanation : Interpretation
        Of the window around it, for its prompt.
    window_start : float
        Where that window begins in the recording, in seconds.
    """

    event: Event
    explanation: Interpretation
    window_start: float


@dataclass(frozen=True)
class _Candidate:
    """Columns of the recording in which a prompt may be an event, and their window."""

    number: int
    prompt: int
    first: int
    last: int
    begin: int  # first sample of the window
    end: int
    samples: int  # of the recording


@torch.no_grad()
def find(
    query: Query,
    audio: AudioBlocks,
    rule: EventRule,
    refinement: RefinementOptions | None,
    progress: bool = False,
    overview: Overview | None = None,
    at_once: int = 8,
) -> Iterator[FoundEvent]:
    """Find events in a recording and explain them; in order of their windows.

    Parameters
    ----------
    query : Query
        Model and prompts.
    audio : AudioBlocks
        The recording, at the model's rate.
    rule : EventRule
        How events are found.
    refinement : RefinementOptions, optional
        How explanations are refined.
    progress : bool
        Whether progress is shown where stderr is a terminal.
    overview : Overview, optional
        Is shown the recording; default: one without a picture.
    at_once : int
        Most windows in one batch of the encoder.

    Yields
    ------
    FoundEvent
    """
    overview = overview or Overview(query.clap.front_end)
    windows = windows_of(query, audio, progress, at_once, overview)
    candidates = _candidates(query, windows, rule)
    doubts = overview.warnings()
    judged: list[tuple[Event, _Candidate]] = []
    for part in _batches(candidates, audio, at_once):
        judged += _judged(query, rule, part)
    places = dict(_merged(judged))
    events = sorted(places, key=lambda one: (one.start, one.stop))
    events = without_shared(events) if rule.exclusive else events
    chosen = sorted(events, key=lambda one: places[one].begin)
    by_window = [places[event] for event in chosen]
    for part in _batches(by_window, audio, at_once):
        explained = _explained(query, part, refinement)
        own, chosen = chosen[: len(part)], chosen[len(part) :]
        for event, (one, _), result in zip(own, part, explained, strict=True):
            first = one.begin / audio.sample_rate
            measured = _measured(query, event, first, result)
            if measured.mass > 0:  # else refinement found nothing to explain
                result = replace(result, **query.fields_of(one.prompt, doubts))
                yield FoundEvent(measured, result, first)


def _batches(
    candidates: Sequence[_Candidate], audio: AudioBlocks, at_once: int
) -> Iterator[list[tuple[_Candidate, Tensor]]]:
    """Candidates with the sounds [samples] of their windows, in order of these."""
    ordered = sorted(candidates, key=lambda one: one.begin)
    sounds = audio.cut([(one.begin, one.end) for one in ordered])
    pairs = list[tuple[_Candidate, Tensor]]()
    for one, sound in zip(ordered, sounds, strict=True):
        # the last window of a recording may end in zeros, as in the scan
        lacking = one.end - one.begin - len(sound)
        pairs.append((one, torch.nn.functional.pad(sound, (0, lacking))))
        if len(pairs) == at_once:
            yield pairs
            pairs = []
    if pairs:
        yield pairs


# --- the scan -----------------------------------------------------------------------


def _candidates(
    query: Query, batches: Iterable[list[tuple[int, Tensor]]], rule: EventRule
) -> list[_Candidate]:
    """Stretches where masks of the windows that have a prompt are active."""
    front_end = query.clap.front_end
    tracks = [_Track(rule, query) for _ in query.prompts]
    places: list[tuple[int, Tensor]] = []
    samples = 0
    for windows in batches:
        sounds = torch.stack([sound for _, sound in windows]).to(query.clap.device)
        log_mel = front_end.log_mel(sounds)
        encoding = query.clap.audio_features(log_mel)
        similarity, ranks = scores_of(query, encoding.embedding, log_mel)
        wanted = ranks >= rule.candidate  # NaN, silence, is not
        rows = wanted.any(1).nonzero()[:, 0]
        text = query.text.expand(len(rows), -1, -1)
        masks = _masks(query, sounds[rows], log_mel[rows], _rows(encoding, rows), text)
        for row, mask in zip(rows.tolist(), masks, strict=True):
            first = windows[row][0] // front_end.hop_length
            for prompt in wanted[row].nonzero()[:, 0].tolist():
                tracks[prompt].add(first, activity(mask[prompt]).cpu())
        starts = [start for start, _ in windows]
        places += zip(starts, similarity.cpu(), strict=True)
        samples = max(samples, starts[-1] + sounds.shape[1])
    runs = [
        (prompt, run) for prompt, track in enumerate(tracks) for run in track.runs()
    ]
    return [
        _with_window(query, number, prompt, run, samples, places)
        for number, (prompt, run) in enumerate(runs)
    ]


class _Track:
    """Activity of a prompt over time, kept where windows are looked into."""

    def __init__(self, rule: EventRule, query: Query) -> None:
        front_end = query.clap.front_end
        self.rule, self.reach = rule, front_end.n_frames // 2
        self.per_second = front_end.sample_rate / front_end.hop_length
        self._first = self._end = 0
        self._windows: list[tuple[int, Tensor]] = []
        self._runs: list[tuple[int, int]] = []

    def add(self, first: int, level: Tensor) -> None:
        """Add the activity [T] of a window that starts at a column."""
        if first >= self._end:
            self._close()
            self._first = first
        self._windows.append((first, level))
        self._end = first + len(level)

    def _close(self) -> None:
        """Find the runs in what windows that overlap have, cross-faded."""
        total = torch.zeros(2, self._end - self._first)
        for first, level in self._windows:
            ramp = torch.arange(1, len(level) + 1)
            fade = torch.minimum(ramp, ramp.flip(0))
            place = slice(first - self._first, first - self._first + len(level))
            total[:, place] += torch.stack([level * fade, fade])
        if self._windows:
            level = total[0] / total[1].clamp_min(1)
            found = active_runs(level, self.rule, self.per_second, self.reach)
            self._runs += [(a + self._first, b + self._first) for a, b in found]
        self._windows = []

    def runs(self) -> list[tuple[int, int]]:
        """First column of each stretch, and the one after its last."""
        self._close()
        return self._runs


def _with_window(
    query: Query,
    number: int,
    prompt: int,
    run: tuple[int, int],
    samples: int,
    places: Sequence[tuple[int, Tensor]],
) -> _Candidate:
    """Candidate with the window around its middle, or the most similar one inside."""
    front_end = query.clap.front_end
    size, hop = front_end.max_samples, front_end.hop_length
    first, last = (column * hop for column in run)
    begin = (first + last - size) // 2
    if last - first > size:
        inside = [place for place in places if first <= place[0] <= last - size]
        if inside:
            known = [(start, found.nan_to_num(-1.0)) for start, found in inside]
            begin = max(known, key=lambda place: float(place[1][prompt]))[0]
    begin = max(0, min(begin, samples - size)) // hop * hop
    return _Candidate(number, prompt, *run, begin, min(begin + size, samples), samples)


def _masks(
    query: Query,
    sounds: Tensor,
    log_mel: Tensor,
    encoding: AudioEncoding,
    text: Tensor,
) -> Tensor:
    """Masks [n, P, n_mels, T] of windows [n, samples] for prompts [n, P, D]."""
    front_end = query.clap.front_end
    if not len(sounds):
        return text.new_zeros(*text.shape[:2], front_end.n_mels, 0)
    if query.decoder is None:
        masks = _agreement(query, encoding.features[-1], text)
    else:
        masks = query.decoder(text, encoding.features, log_mel)
        if query.decoder.domain != "mel":
            masks = to_bands(query, masks)
    masks = without_silence(front_end, masks, log_mel)
    return front_end.crop_mask(masks, sounds.shape[1])


def _agreement(query: Query, places: Tensor, text: Tensor) -> Tensor:
    """Maps [n, P, n_mels, n_frames] of where windows agree with prompts [n, P, D].

    Of the embeddings of places [n, D, f, t]; coarser than a decoder's masks. Fitted
    masks would be the smallest that are faithful: they need not hold a whole event.
    """
    front_end, options = query.clap.front_end, RefinementOptions()
    scale, alike = query.clap.logit_scale, options.alike
    lead = PromptLead.of(text.flatten(0, 1), query.references, scale, alike)
    maps = agreement_logits(lead, places.repeat_interleave(text.shape[1], 0)).sigmoid()
    size = front_end.n_mels, front_end.n_frames
    fine = torch.nn.functional.interpolate(maps[:, None], size, mode="bilinear")
    found: Tensor = fine[:, 0].unflatten(0, text.shape[:2])
    return found


def to_bands(query: Query, masks: Tensor) -> Tensor:
    """Masks [..., n_mels, T] on mel bands, from masks [..., F, T]: means over each."""
    filters = query.clap.front_end.mel_filters
    bands: Tensor = (filters / filters.sum(0)).T @ masks
    return bands


def _rows(encoding: AudioEncoding, rows: Tensor) -> AudioEncoding:
    """Encoding of some of the windows."""
    features = tuple(one[rows] for one in encoding.features)
    return AudioEncoding(encoding.embedding[rows], features, encoding.last[rows])


# --- the surroundings ---------------------------------------------------------------


@dataclass(frozen=True)
class _Judged:
    """A candidate with the sound [samples] of its window, and its prompt's scores."""

    one: _Candidate
    sound: Tensor
    similarity: float
    presence: float
    margin: float  # above the contrast; infinite without one


def _judged(
    query: Query, rule: EventRule, part: Sequence[tuple[_Candidate, Tensor]]
) -> Iterator[tuple[Event, _Candidate]]:
    """Events of those candidates whose surroundings have the prompt."""
    whole, halves = _scored(query, part), _scored(query, _middles(query, part))
    better = {pair.one.number: pair for pair in whole}
    for half in halves:
        other, one = better[half.one.number], half.one
        if (half.presence, half.similarity) > (other.presence, other.similarity):
            columns = len(half.sound) // query.clap.front_end.hop_length
            holds = one.last - one.first <= columns
            better[one.number] = (
                half if holds else replace(half, one=other.one, sound=other.sound)
            )
    kept = [
        pair
        for pair in better.values()
        if pair.presence >= rule.presence and pair.margin > 0
    ]
    for length in sorted({len(pair.sound) for pair in kept}):
        group = [pair for pair in kept if len(pair.sound) == length]
        yield from _events(query, rule, group)


def _middles(
    query: Query, part: Sequence[tuple[_Candidate, Tensor]]
) -> list[tuple[_Candidate, Tensor]]:
    """Half a window in the middle of each candidate, unless that is longer than one."""
    hop = query.clap.front_end.hop_length
    middles = []
    for one, sound in part:
        half = len(sound) // 2 // hop * hop
        begin = ((one.first + one.last) * hop - half) // 2
        begin = max(one.begin, min(begin, one.end - half)) // hop * hop
        if half and (one.last - one.first) * hop <= len(sound):
            cut = sound[begin - one.begin : begin - one.begin + half]
            middles.append((replace(one, begin=begin, end=begin + half), cut))
    return middles


def _scored(query: Query, part: Sequence[tuple[_Candidate, Tensor]]) -> list[_Judged]:
    """Score windows of one length; silence has the lowest scores."""
    if not part:
        return []
    sounds = torch.stack([sound for _, sound in part]).to(query.clap.device)
    log_mel = query.clap.front_end.log_mel(sounds)
    embedding = query.clap.audio_embedding(log_mel)
    scores = *scores_of(query, embedding, log_mel), margins_of(query, embedding)
    own = torch.tensor([one.prompt for one, _ in part], device=sounds.device)
    found = (
        values.gather(1, own[:, None])[:, 0].nan_to_num(-1.0).tolist()
        for values in scores
    )
    rows = zip(part, *found, strict=True)
    return [_Judged(*pair, *scored) for pair, *scored in rows]


def _events(
    query: Query, rule: EventRule, group: Sequence[_Judged]
) -> Iterator[tuple[Event, _Candidate]]:
    """Events by the masks of windows of one length."""
    front_end = query.clap.front_end
    sounds = torch.stack([pair.sound for pair in group]).to(query.clap.device)
    log_mel = front_end.log_mel(sounds)
    encoding = query.clap.audio_features(log_mel)
    text = torch.stack([query.text[[pair.one.prompt]] for pair in group])
    masks = _masks(query, sounds, log_mel, encoding, text)[:, 0]
    spectra = power(front_end.stft(sounds))
    for pair, mask, spectrum in zip(group, masks, spectra, strict=True):
        limits = _limits(query, rule, pair.one, activity(mask).cpu())
        if limits is not None:
            yield _event(query, pair, limits, mask, spectrum), pair.one


def _limits(
    query: Query, rule: EventRule, one: _Candidate, level: Tensor
) -> tuple[int, int] | None:
    """Columns of an event in the recording, from the activity [T] in its window."""
    front_end = query.clap.front_end
    if one.last - one.first > WHOLE * front_end.n_frames:
        return one.first, one.last
    shift = one.begin // front_end.hop_length
    per_second = front_end.sample_rate / front_end.hop_length
    runs = active_runs(level, rule, per_second, front_end.n_frames // 2)
    own = [
        (first + shift, last + shift)
        for first, last in runs
        if first + shift < one.last and one.first < last + shift
    ]
    return (own[0][0], own[-1][1]) if own else None


def _event(
    query: Query,
    pair: _Judged,
    limits: tuple[int, int],
    mask: Tensor,
    spectrum: Tensor,
) -> Event:
    """Event from the mask [n_mels, T] and the power [F, T] of its window."""
    one = pair.one
    front_end = query.clap.front_end
    hop, rate = front_end.hop_length, front_end.sample_rate
    shift = one.begin // hop
    inside = slice(max(0, limits[0] - shift), limits[1] - shift)
    kept = front_end.expand_mask(mask[:, inside]).square()
    band = band_limits((kept * spectrum[:, inside]).mean(1), rate / 2)
    return Event(
        *times_of(limits, rate / hop, one.samples / rate),
        *band,
        query.prompts[one.prompt],
        pair.similarity,
        pair.presence,
        float(activity(mask[:, inside]).mean()),
    )


def _merged(
    judged: Iterable[tuple[Event, _Candidate]],
) -> list[tuple[Event, _Candidate]]:
    """Join events of one prompt that overlap; the more similar window is kept."""
    merged: list[tuple[Event, _Candidate]] = []
    for event, one in sorted(judged, key=lambda pair: (pair[1].prompt, pair[0].start)):
        if merged:
            last, other = merged[-1]
            if other.prompt == one.prompt and event.start < last.stop:
                stop = max(last.stop, event.stop)
                if event.similarity > last.similarity:
                    merged[-1] = replace(event, start=last.start, stop=stop), one
                else:
                    merged[-1] = replace(last, stop=stop), other
                continue
        merged.append((event, one))
    return merged


# --- explanations -------------------------------------------------------------------


def _explained(
    query: Query,
    part: Sequence[tuple[_Candidate, Tensor]],
    refinement: RefinementOptions | None,
) -> list[Interpretation]:
    """Explanation of each window for its prompt."""
    found: dict[int, Interpretation] = {}
    kinds = query.recorded[[one.prompt for one, _ in part]].tolist()
    for recorded in set(kinds):
        rows = [row for row, kind in enumerate(kinds) if kind == recorded]
        own = [part[row][0].prompt for row in rows]
        explained = explain_batch(
            query.clap,
            query.decoder,
            [part[row][1] for row in rows],
            [[query.prompts[prompt]] for prompt in own],
            [query.text[[prompt]] for prompt in own],
            model=query.model,
            windows_at_once=len(part),
            references=query.references,
            refinement=refinement,
            contrast=query.contrast,
            recorded=recorded,
        )
        found |= {row: one for row, (one,) in zip(rows, explained, strict=True)}
    return [found[row] for row in range(len(part))]


def _measured(
    query: Query, event: Event, first: float, result: Interpretation
) -> Event:
    """Event with band and mass by the mask of its explanation, which is refined."""
    per_second = result.sample_rate / result.hop_length
    columns = [
        round((time - first) * per_second + 0.5) for time in (event.start, event.stop)
    ]
    inside = slice(max(0, columns[0]), columns[1])
    kept = power(result.masked_stft[:, inside]).mean(1)
    low, high = band_limits(kept, result.sample_rate / 2)
    mask = to_bands(query, result.mask[:, inside].to(query.clap.device))
    mass = float(activity(mask).mean())
    return replace(event, low_hz=low, high_hz=high, mass=mass)
