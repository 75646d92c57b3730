"""One HTML page of many explanations, filled into `page.html.j2`.

It opens from disk, without a network. Its pictures and sounds lie in scripts beside the
sounds, one a recording, which are loaded when the recording comes into view; or in the
page itself, which can then be sent as one file.
"""

from __future__ import annotations

import base64
import datetime
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import colormaps

from lmaczs.audio.scales import MEL_BREAK_HZ
from lmaczs.report.figures import RANGE_DB, format_number
from lmaczs.report.level_track import LEVEL_FLOOR_DB, LEVELS_PER_DB
from lmaczs.report.page_data import CALL, MASK_STEPS, read_page_data
from lmaczs.report.words import (
    MEANINGS,
    clock,
    percent,
    presence_words,
    verdict_details,
    verdict_words,
)
from lmaczs.utils.files import atomic_write
from lmaczs.utils.naming import INPUT_COPY, INPUT_FLAC, PAGE, PAGE_DATA

EMPTY = "nothing of it in this recording (empty mask)"

ENDS = "</body>"
"""Before it go the recordings' data, where they are in the page."""


CLOCK_SECONDS = 120.0
"""Recordings from this length on have times in minutes."""

SINGLE_FILE_BYTES = 100_000_000
"""Most of pictures and sounds in a page that is a single file."""


@dataclass(frozen=True)
class PageEntry:
    """One explanation on a page."""

    file: str
    """The recording, as it is shown."""
    folder: Path
    """Holds what `Interpretation.save` and `lmaczs.report.page_data` write. The folders
    of one recording's prompts lie side by side in a folder of its own."""
    record: Mapping[str, Any]
    """What explanation.json holds: prompt, similarity and presence of input,
    explanation and residual, mask_mean, empty, verdict."""
    events: Sequence[Mapping[str, Any]] = ()
    """Where the prompt is: start and stop (seconds), low_hz and high_hz, similarity and
    presence (None if unknown), as `find_events` gives them."""

    @property
    def home(self) -> Path:
        """Folder of the recording."""
        return self.folder.parent


@dataclass(frozen=True)
class PageOverview:
    """A whole recording on a page, of which events are explained in other sections."""

    file: str
    """The recording, as it is shown."""
    folder: Path
    """Holds what `write_overview` of `lmaczs.report.page_data` writes."""
    sound: Path
    """The recording, to which the page links: it is played if a browser can."""
    seconds: float
    """Its length."""
    events: Sequence[tuple[Mapping[str, Any], Path]]
    """As in `PageEntry`, each with its prompt, and with the folder of its entry."""
    warnings: Sequence[str] = ()
    """What is doubtful about the recording."""

    @property
    def home(self) -> Path:
        """Folder of the recording."""
        return self.folder


Section = PageOverview | list[PageEntry]


def write_page(
    folder: str | Path,
    entries: Iterable[PageEntry | PageOverview],
    single_file: bool = False,
    date: datetime.date | None = None,
    name: str = PAGE,
) -> Path:
    """Write a page, on which explanations can be seen, played and compared.

    Parameters
    ----------
    folder : str or Path
        Links are relative to it.
    entries : iterable of PageEntry or PageOverview
        Explanations of one recording have to be consecutive.
    single_file : bool
        Whether pictures and sounds are in the page itself, which then needs no other
        file. Where they are more than `SINGLE_FILE_BYTES`, those of the last sections
        are left out, and the page says so.
    date : datetime.date, optional
        For the title; default: today.
    name : str
        Of the file.

    Returns
    -------
    Path
        Of the page.
    """
    folder = Path(folder)
    sections = _sections(entries)
    overviews = [one for one in sections if isinstance(one, PageOverview)]
    explained = [one for one in sections if isinstance(one, list)]
    inside = _fitting(sections) if single_file else 0
    page = (
        _environment(folder)
        .get_template("page.html.j2")
        .render(
            sections=sections,
            overviews=len(overviews),
            recordings=len(overviews) or len(explained),
            count=sum(map(len, explained)),
            **_places(sections),
            left_out=len(sections) - inside if single_file else 0,
            most_bytes=SINGLE_FILE_BYTES,
            clock_seconds=CLOCK_SECONDS,
            models=sorted({e.record["model"] for r in explained for e in r} - {""}),
            date=(date or datetime.date.today()).isoformat(),
            style=_own("page.css"),
            script=_own("page.js"),
            settings=_script_json(_settings()),
            single_file=single_file,
            data_file=PAGE_DATA,
            input_copy=INPUT_COPY,
            input_flac=INPUT_FLAC,
            empty=EMPTY,
            meanings=MEANINGS,
        )
    )
    head, tail = page.rsplit(ENDS, 1)
    with atomic_write(folder / name) as part, part.open("w", encoding="utf-8") as file:
        file.write(head)
        for number, one in enumerate(sections[:inside], 1):
            data = _escaped(read_page_data(_data_of(one)))
            tag = f'<script type="application/json" id="data-{number}">'
            file.write(f"{tag}{data}</script>\n")
        file.write(ENDS + tail)
    return folder / name


def _sections(entries: Iterable[PageEntry | PageOverview]) -> list[Section]:
    """Overviews, and the explanations of each recording together."""
    sections: list[Section] = []
    for _, group in groupby(entries, lambda one: (type(one), one.home, one.file)):
        explained = list[PageEntry]()
        for one in group:
            if isinstance(one, PageOverview):
                sections.append(one)
            else:
                explained.append(one)
        sections += [explained] if explained else []
    return sections


def _places(sections: Sequence[Section]) -> dict[str, dict[Path, Any]]:
    """Numbers of sections: of overviews, and of explanations with their verdicts."""
    wholes: dict[Path, int] = {}
    explanations: dict[Path, tuple[int, str | None]] = {}
    for number, one in enumerate(sections, 1):
        if isinstance(one, PageOverview):
            wholes[one.folder] = number
        else:
            explanations |= {e.folder: (number, e.record["verdict"]) for e in one}
    return {"wholes": wholes, "explanations": explanations}


def _data_of(section: Section) -> Path:
    """What a section draws and plays."""
    first = section if isinstance(section, PageOverview) else section[0]
    return first.home / PAGE_DATA


def _fitting(sections: Sequence[Section]) -> int:
    """How many sections' pictures and sounds are in a single file, from the first."""
    sizes = accumulate(_data_of(one).stat().st_size for one in sections)
    return sum(size <= SINGLE_FILE_BYTES for size in sizes)


def template_environment() -> Environment:
    """Where this package's templates lie, and how they write numbers."""
    environment = Environment(
        loader=PackageLoader("lmaczs.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clock": clock,
        "number": format_number,
        "percent": percent,
        "presence_words": presence_words,
        "details": verdict_details,
        "words": verdict_words,
    }
    return environment


def _environment(folder: Path) -> Environment:
    def link(path: Path) -> str:
        try:
            relative = os.path.relpath(path.resolve(), folder.resolve())
        except ValueError:  # on another drive
            return path.resolve().as_uri()
        return quote(Path(relative).as_posix())

    environment = template_environment()
    environment.filters["link"] = link
    return environment


def _settings() -> dict[str, Any]:
    """What the page's script has to know of how the data were written."""
    return {
        "call": CALL,
        "rangeDb": RANGE_DB,
        "maskSteps": MASK_STEPS,
        "levelFloorDb": LEVEL_FLOOR_DB,
        "levelsPerDb": LEVELS_PER_DB,
        "melBreakHz": MEL_BREAK_HZ,
        "clockSeconds": CLOCK_SECONDS,
        "soundColours": _colours("magma", int(RANGE_DB) + 1),
        "maskColours": _colours("viridis", MASK_STEPS + 1),
    }


def _colours(name: str, count: int) -> str:
    """Base64 of the red, green and blue of `count` colours of a scale."""
    colours = colormaps[name](np.linspace(0, 1, count), bytes=True)[:, :3]
    return base64.b64encode(np.ascontiguousarray(colours).tobytes()).decode("ascii")


def _own(name: str) -> Markup:
    return Markup(Path(__file__).with_name(name).read_text("utf-8"))


def _script_json(value: Any) -> Markup:
    return Markup(_escaped(json.dumps(value)))


def _escaped(data: str) -> str:
    """JSON that cannot end the script element that it is in."""
    return data.replace("<", "\\u003c")
