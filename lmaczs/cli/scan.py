"""`lmaczs scan`: tables, sounds and a page of the events in recordings."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmaczs.utils.files import atomic_folder, atomic_write
from lmaczs.utils.naming import INPUT_COPY, Recordings, slugify

if TYPE_CHECKING:
    from pandas import DataFrame

    from lmaczs.event_search import FoundEvent
    from lmaczs.events import EventRule
    from lmaczs.interpreter import ZeroShotInterpreter
    from lmaczs.report.html import PageEntry

TABLE = "events.csv"
SUFFIX = ".events"
"""Of a recording's folder: its name, then this."""

RESULT = re.compile(r"events\.csv|.*\.(selections|labels)\.txt|\d{4,}")
"""Names of what a scan writes into it."""

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


def event_folders(out: Path, files: Iterable[Path]) -> dict[Path, Path]:
    """Give each recording a folder ``<stem>.events`` below `out`.

    A number is appended where the name is taken, by a file, a folder that no earlier
    scan wrote, or one with a recording in it.
    """
    files = list(files)
    recordings = Recordings(files)
    folders: dict[Path, Path] = {}
    taken: set[str] = set()
    for path in files:
        number, name = 1, f"{path.stem}{SUFFIX}"
        while name.casefold() in taken or not _is_free(out / name, recordings):
            number += 1
            name = f"{path.stem}-{number}{SUFFIX}"
        taken.add(name.casefold())
        folders[path] = out / name
    return folders


def _is_free(folder: Path, recordings: Recordings) -> bool:
    """Whether a folder is not there, or holds the results of an earlier scan alone."""
    if not folder.exists() and folder not in recordings:
        return True
    if not (folder / TABLE).is_file():
        return False
    ours = all(RESULT.fullmatch(path.name) for path in folder.iterdir())
    return ours and not any(path in recordings for path in folder.rglob("*"))


def write_events(
    interpreter: ZeroShotInterpreter,
    path: Path,
    found: Iterable[FoundEvent],
    folder: Path,
    sounds: bool,
) -> tuple[DataFrame, list[PageEntry]]:
    """Write tables of a recording's events, and sounds and pictures as they come.

    Returns the table of events, and their entries on a page.
    """
    from lmaczs.data.annotations import (
        AUDACITY_SUFFIX,
        RAVEN_SUFFIX,
        to_audacity,
        to_raven,
    )
    from lmaczs.events import event_table

    events, entries = [], []
    with atomic_folder(folder) as part:
        for number, one in enumerate(found, 1):
            events.append(one.event)
            if sounds:
                own = f"{number:04d}"
                _write_sound(interpreter, one, part / own)
                entries.append(_entry(path.name, one, folder / own))
        table = event_table(events)
        texts = {
            TABLE: _csv(table.assign(path=str(path.resolve()))),
            f"{path.stem}{RAVEN_SUFFIX}": to_raven(table, path.resolve()),
            f"{path.stem}{AUDACITY_SUFFIX}": to_audacity(table),
        }
        for name, text in texts.items():
            with atomic_write(part / name) as unfinished:
                unfinished.write_text(text, "utf-8")
    return table, entries


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


def _entry(name: str, one: FoundEvent, folder: Path) -> PageEntry:
    """An event on the page, as a recording that begins where its window does."""
    from lmaczs.report.html import PageEntry

    event: dict[str, Any] = asdict(one.event)
    event["start"] = max(0.0, one.event.start - one.window_start)
    seconds = len(one.explanation.waveform) / one.explanation.sample_rate
    event["stop"] = min(seconds, one.event.stop - one.window_start)
    where = f"{name}, {clock(one.event.start)} to {clock(one.event.stop)}"
    record = one.explanation.to_dict()
    return PageEntry(where, folder / slugify(one.event.prompt), record, [event])


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
