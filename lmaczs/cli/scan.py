"""`lmaczs scan`: tables, sounds and a page of the events in recordings."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmaczs.cli.interpret import BEFORE, reading_options
from lmaczs.cli.prompts import Prompts
from lmaczs.cli.work import Outcome
from lmaczs.utils.files import atomic_folder, atomic_write
from lmaczs.utils.naming import (
    INPUT_COPY,
    PAGE_DATA,
    SAVED,
    Recordings,
    assign_folders,
    slugify,
)
from lmaczs.utils.result_folder import (
    ResultState,
    are_there,
    is_of,
    origin_of,
    read_record,
    read_state,
    write_state,
)

if TYPE_CHECKING:
    from pandas import DataFrame

    from lmaczs.event_search import FoundEvent
    from lmaczs.events import EventRule
    from lmaczs.interpreter import Refine, ZeroShotInterpreter
    from lmaczs.report.html import PageEntry

TABLE = "events.csv"
SUFFIX = ".events"
"""Of a recording's folder: its name, then this."""

RESULT = re.compile(r"events\.csv|recording\.json|.*\.(selections|labels)\.txt|\d{4,}")
"""Names of what a scan writes into it."""

SHARED = (INPUT_COPY, PAGE_DATA)
"""Files of an event that its explanation is beside."""

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
        option = f"--{name.replace('_', '-')}"
        group.add_argument(option, type=float, metavar="X", help=text)
    text = "let one sound be an event of several prompts, not of the most similar alone"
    group.add_argument("--shared", action="store_true", help=text)
    text = "write the tables alone, without a sound and a picture of each event"
    parser.add_argument("--tables-only", action="store_true", help=text)


def rule_of(args: argparse.Namespace) -> EventRule:
    """Rule by the options of the command line; `InputError` if one is out of range."""
    from lmaczs.events import EventRule

    values = {name: getattr(args, name) for name in HELP}
    given = {name: value for name, value in values.items() if value is not None}
    return EventRule(**given, exclusive=not args.shared)


@dataclass(frozen=True)
class Scanning:
    """A task of `lmaczs.cli.work.each`; `folders` are by recording."""

    prompts: Prompts
    refine: Refine
    rule: EventRule
    options: dict[str, Any]
    folders: dict[Path, Path]
    sounds: bool = True
    channel: int | None = None
    strict: bool = False
    force: bool = False
    progress: bool = True

    def __call__(self, interpreter: ZeroShotInterpreter, path: Path) -> Outcome:
        """Find the events of a recording, unless that was done."""
        begin = time.perf_counter()
        folder = self.folders[path]
        state = read_state(folder)
        if not self.force and state is not None and self._is_done(path, state):
            return self._outcome(path, BEFORE)
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
        )
        write_events(interpreter, self._state(path), path, found, folder, self.sounds)
        return self._outcome(path, f"{time.perf_counter() - begin:.1f} s")

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
        if not path.is_file() or not state.covers(self._state(path)):
            return False
        events = [Path(one["folder"]) for one in state.entries]
        return (
            are_there(folder, tables_of(path))
            and all(are_there(folder / one, SAVED) for one in events)
            and all(are_there(folder / one.parent, SHARED) for one in events)
        )

    def _outcome(self, path: Path, end: str) -> Outcome:
        """What is printed and shown of a recording, by what was written."""
        import pandas as pd

        folder = self.folders[path]
        table = pd.read_csv(folder / TABLE, keep_default_na=False)
        counts = "; ".join(counts_of(table, self.prompts.names))
        table = table.assign(file=str(path), folder=str(folder))
        state = read_state(folder)
        entries = [] if state is None else list(_shown(folder, state))
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
    path: Path,
    found: Iterable[FoundEvent],
    folder: Path,
    sounds: bool,
) -> None:
    """Write tables of a recording's events, and sounds and pictures as they come."""
    from lmaczs.data.annotations import to_audacity, to_raven
    from lmaczs.events import event_table

    events, entries = [], []
    with atomic_folder(folder) as part:
        for number, one in enumerate(found, 1):
            events.append(one.event)
            if sounds:
                _write_sound(interpreter, one, part / f"{number:04d}")
                entries.append(_entry(path.name, one, f"{number:04d}"))
        table = event_table(events)
        place = Path(state.recording)
        raven = to_raven(table, place, state.options["channel"])
        texts = _csv(table.assign(path=str(place))), raven
        for name, text in zip(
            tables_of(path), (*texts, to_audacity(table)), strict=True
        ):
            with atomic_write(part / name) as unfinished:
                unfinished.write_text(text, "utf-8")
        write_state(part, replace(state, entries=entries))


def _csv(table: DataFrame) -> str:
    text: str = table.to_csv(index=False, float_format="%.6f", lineterminator="\n")
    return text


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


def _entry(name: str, one: FoundEvent, own: str) -> dict[str, Any]:
    """An event on the page, as a recording that begins where its window does."""
    event: dict[str, Any] = asdict(one.event)
    event["start"] = max(0.0, one.event.start - one.window_start)
    seconds = len(one.explanation.waveform) / one.explanation.sample_rate
    event["stop"] = min(seconds, one.event.stop - one.window_start)
    where = f"{name}, {clock(one.event.start)} to {clock(one.event.stop)}"
    return {
        "file": where,
        "folder": f"{own}/{slugify(one.event.prompt)}",
        "events": [event],
    }


def _shown(folder: Path, state: ResultState) -> Iterator[PageEntry]:
    """Page entries of a recording, by what was written."""
    from lmaczs.report.html import PageEntry

    for one in state.entries:
        place = folder / one["folder"]
        record = read_record(place / SAVED[3]) or {}
        yield PageEntry(one["file"], place, record, one["events"])


def clock(seconds: float) -> str:
    """A time as 1:02:03.4, without hours where there are none."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{minutes:02d}:{rest / 10:04.1f}"
    return f"{hours}:{text}" if hours else text


def counts_of(events: DataFrame, prompts: Sequence[str]) -> Iterator[str]:
    """How many events each prompt has."""
    for prompt in prompts:
        yield f"{prompt}: {int((events.prompt == prompt).sum())}"
