"""`lmaczs scan`: tables, sounds and a page of the events in recordings."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmaczs.cli.interpret import BEFORE, reading_options
from lmaczs.cli.prompts import Prompts
from lmaczs.cli.work import Outcome
from lmaczs.utils.errors import InputError
from lmaczs.utils.files import atomic_folder, atomic_write
from lmaczs.utils.naming import (
    INPUT_COPY,
    SAVED,
    Recordings,
    assign_folders,
    slugify,
)
from lmaczs.utils.result_folder import (
    ResultState,
    is_of,
    origin_of,
    place_of,
    read_record,
    read_state,
    sizes_of,
    write_state,
)
from lmaczs.utils.spreadsheets import csv_text, read_csv

if TYPE_CHECKING:
    from pandas import DataFrame

    from lmaczs.event_search import FoundEvent
    from lmaczs.events import Event, EventRule
    from lmaczs.interpreter import Refine, ZeroShotInterpreter
    from lmaczs.overview import Overview
    from lmaczs.report.html import PageEntry, PageOverview

TABLE = "events.csv"
SUFFIX = ".events"
"""Of a recording's folder: its name, then this."""

RESULT = re.compile(
    r"events\.csv|recording\.json|page_data\.js|.*\.(selections|labels)\.txt|\d{4,}"
)
"""Names of what a scan writes into it."""

COLUMNS = (
    *("file", "start", "stop", "low_hz", "high_hz"),
    *("prompt", "similarity", "presence", "mass"),
)
"""Of a row of --format."""

HELP = {
    "presence": "least presence of the prompt around an event, in [0, 1]",
    "candidate": "least presence of the windows that are looked into, in [0, 1]",
    "on": "activity of the mask at which an event begins, in (0, 1]",
    "off": "activity down to which it reaches",
    "min_length": "seconds that an event has at least",
    "max_gap": "seconds between two events that are one",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the rule, and what is written."""
    group = parser.add_argument_group(
        "rule", "when a prompt is an event; docs/long-recordings.md has it"
    )
    for name, text in HELP.items():
        group.add_argument(_option(name), type=float, metavar="X", help=text)
    text = "let one sound be an event of several prompts, not of the most similar alone"
    group.add_argument("--shared", action="store_true", help=text)
    text = "write the tables alone, without a sound and a picture of each event"
    parser.add_argument("--tables-only", action="store_true", help=text)


def rule_of(args: argparse.Namespace) -> EventRule:
    """Rule by the options of the command line; `InputError` if one is out of range."""
    from lmaczs.events import EventRule

    values = {name: getattr(args, name) for name in HELP}
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return EventRule(**given, exclusive=not args.shared)
    except InputError as error:
        fields = rf"\b({'|'.join(HELP)})(?= is )"
        text = re.sub(fields, lambda found: _option(found[1]), str(error))
        raise InputError(text) from error


def _option(field: str) -> str:
    """Option of a field of the rule."""
    return f"--{field.replace('_', '-')}"


@dataclass(frozen=True)
class Scanning:
    """A task of `lmaczs.cli.work.each`; `folders` and `names` are by recording."""

    prompts: Prompts
    refine: Refine
    rule: EventRule
    options: dict[str, Any]
    folders: dict[Path, Path]
    names: dict[Path, str]
    sounds: bool = True
    channel: int | None = None
    strict: bool = False
    force: bool = False
    progress: bool = True

    def __call__(self, interpreter: ZeroShotInterpreter, path: Path) -> Outcome:
        """Find the events of a recording, unless that was done."""
        from lmaczs.overview import Overview

        begin = time.perf_counter()
        folder = self.folders[path]
        state = read_state(folder)
        if not self.force and state is not None and self._is_done(path, state):
            return self._outcome(path, BEFORE)
        overview = Overview(interpreter.clap.front_end, picture=self.sounds)
        found = interpreter.explain_events(
            path,
            self.prompts.texts or None,
            self.refine,
            self.rule,
            self.progress,
            self.channel,
            self.prompts.contrast or None,
            self.prompts.recordings,
            self.strict,
            overview,
        )
        write_events(interpreter, self._state(path), found, folder, overview)
        outcome = self._outcome(path, f"{time.perf_counter() - begin:.1f} s")
        notes = [f"{path}: {text}" for text in overview.warnings()]
        return replace(outcome, notes=notes)

    def _state(self, path: Path) -> ResultState:
        options = {
            **self.options,
            "rule": asdict(self.rule),
            "prompts": self.prompts.texts,  # an event may be another prompt's
            "sounds": self.sounds,
            **reading_options(self.channel, self.strict),
        }
        return ResultState(**origin_of(path), options=options, prompts={}, whole=True)

    def _is_done(self, path: Path, state: ResultState) -> bool:
        """Whether all that is wanted is there, made of the same."""
        folder = self.folders[path]
        if not path.is_file() or state.recording != place_of(path):
            return False  # tables and page name the place of the recording
        if not state.covers(self._state(path)):
            return False
        if not all("window_start" in one for one in state.entries[1:]):
            return False  # of another version
        return bool(state.sizes) and sizes_of(folder, state.sizes) == state.sizes

    def _outcome(self, path: Path, end: str) -> Outcome:
        """What is printed and shown of a recording, by what was written."""
        folder = self.folders[path]
        texts = {"prompt": str, "path": str}  # a prompt may be a number
        table = read_csv(folder / TABLE, keep_default_na=False, dtype=texts)
        counts = "; ".join(counts_of(table, self.prompts.names))
        table = table.assign(file=str(path), folder=str(folder))
        state = read_state(folder)
        entries = [] if state is None else list(_shown(folder, state, self.names[path]))
        line = f"{counts} ({end}) -> {folder}"
        return Outcome(line, table.to_dict("records"), entries)


def event_folders(
    out: Path, files: Iterable[Path], others: Iterable[Path] = ()
) -> dict[Path, Path]:
    """Give each recording a folder ``<stem>.events`` below `out`.

    It keeps the folder of an earlier scan. A number is appended where the name is
    taken: by another recording's scan, a file, a folder that no scan wrote, or one with
    a recording in it. `others` are other files that are read.
    """
    files = list(files)
    recordings = Recordings([*files, *others])
    return assign_folders(out, files, partial(_is_free, recordings), SUFFIX)


def _is_free(recordings: Recordings, folder: Path, path: Path) -> bool:
    """Whether a folder is not there, or holds an earlier scan of the recording."""
    if not os.path.lexists(folder):
        return folder not in recordings
    state = read_state(folder)
    if folder.is_symlink() or state is None or not is_of(asdict(state), path):
        return False
    ours = all(RESULT.fullmatch(one.name) for one in folder.iterdir())
    return ours and not any(one in recordings for one in folder.rglob("*"))


def tables_of(path: Path) -> tuple[str, str, str]:
    """Names of a recording's tables: events.csv, Raven's and Audacity's."""
    from lmaczs.data.annotations import AUDACITY_SUFFIX, RAVEN_SUFFIX

    return TABLE, f"{path.stem}{RAVEN_SUFFIX}", f"{path.stem}{AUDACITY_SUFFIX}"


def write_events(
    interpreter: ZeroShotInterpreter,
    state: ResultState,
    found: Iterable[FoundEvent],
    folder: Path,
    overview: Overview,
) -> None:
    """Write tables of a recording's events; sounds and pictures, as they come.

    `overview` has a picture where these are wanted.
    """
    from lmaczs.report.page_data import write_overview

    events: list[Event] = []
    shown: list[dict[str, Any]] = []
    with atomic_folder(folder) as part:
        for number, one in enumerate(found, 1):
            events.append(one.event)
            if overview.picture:
                own = f"{number:04d}"
                _write_sound(interpreter, one, part / own)
                shown.append(_entry(one, f"{own}/{slugify(one.event.prompt)}"))
        _write_tables(part, state, events)
        if overview.picture:
            rate, seconds = interpreter.sample_rate, overview.seconds
            levels = overview.levels()
            write_overview(part, overview.bands(), rate, seconds, levels)
            whole = {"seconds": seconds, "warnings": list(overview.warnings())}
            shown.sort(key=lambda one: one["event"]["start"])
            state = replace(state, entries=[whole, *shown])
        files = [one for one in sorted(part.rglob("*")) if one.is_file()]
        names = [one.relative_to(part).as_posix() for one in files]
        write_state(part, replace(state, sizes=sizes_of(part, names)))


def _write_tables(folder: Path, state: ResultState, events: Sequence[Event]) -> None:
    from lmaczs.data.annotations import to_audacity, to_raven
    from lmaczs.events import event_table

    table, place = event_table(events), Path(state.recording)
    texts = (
        csv_text(table.assign(path=str(place)), float_format="%.6f"),
        to_raven(table, place, state.options["channel"]),
        to_audacity(table),
    )
    for name, text in zip(tables_of(place), texts, strict=True):
        with atomic_write(folder / name) as unfinished:
            unfinished.write_text(text, "utf-8")


def _write_sound(
    interpreter: ZeroShotInterpreter, one: FoundEvent, folder: Path
) -> None:
    """Write the explanation of an event's window, and the page's data."""
    from lmaczs.audio.io import save_audio
    from lmaczs.report.page_data import write_page_data

    result, slug = one.explanation, slugify(one.event.prompt)
    result.save(folder / slug)
    save_audio(folder / INPUT_COPY, result.input, interpreter.sample_rate)
    mask = None if result.empty else result.mask
    write_page_data(folder, result.stft, {slug: mask})


def _entry(one: FoundEvent, folder: str) -> dict[str, Any]:
    """What recording.json has of an event, for the page."""
    return {
        "folder": folder,
        "event": asdict(one.event),
        "window_start": one.window_start,
    }


def _shown(
    folder: Path, state: ResultState, name: str
) -> Iterator[PageEntry | PageOverview]:
    """The recording on the page by its name, then its events, by what was written."""
    from lmaczs.report.html import PageOverview

    if not state.entries:
        return
    whole, *shown = state.entries
    path = Path(state.recording)
    events = [(one["event"], folder / one["folder"]) for one in shown]
    of_whole = whole["seconds"], events, whole["warnings"]
    yield PageOverview(name, folder, path, *of_whole)
    for one in shown:
        yield _event_entry(name, folder / one["folder"], one)


def _event_entry(name: str, folder: Path, one: Mapping[str, Any]) -> PageEntry:
    """An event on the page, as a recording that begins where its window does."""
    from lmaczs.report.html import PageEntry
    from lmaczs.report.words import clock

    record = read_record(folder / SAVED[3]) or {}
    event, first = one["event"], one["window_start"]
    start, stop = (event[limit] - first for limit in ("start", "stop"))
    inside = {"start": max(0.0, start), "stop": min(stop, record["seconds"])}
    where = f"{name}, {clock(event['start'])} to {clock(event['stop'])}"
    return PageEntry(where, folder, record, [event | inside])


def counts_of(events: DataFrame, prompts: Sequence[str]) -> Iterator[str]:
    """How many events each prompt has."""
    for prompt in prompts:
        yield f"{prompt}: {int((events.prompt == prompt).sum())}"
