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
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import colormaps

from lmaczs.audio.scales import MEL_BREAK_HZ
from lmaczs.report.figures import RANGE_DB, format_number
from lmaczs.report.page_data import (
    CALL,
    LEVEL_FLOOR_DB,
    LEVELS_PER_DB,
    MASK_STEPS,
    read_page_data,
)
from lmaczs.report.words import (
    MEANINGS,
    percent,
    presence_words,
    verdict_details,
    verdict_words,
)
from lmaczs.utils.files import atomic_write
from lmaczs.utils.naming import INPUT_COPY, INPUT_FLAC, PAGE, PAGE_DATA

EMPTY = "nothing in this recording (empty mask)"

ENDS = "</body>"
"""Before it go the recordings' data, where they are in the page."""


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


def write_page(
    folder: str | Path,
    entries: Iterable[PageEntry],
    single_file: bool = False,
    date: datetime.date | None = None,
    name: str = PAGE,
) -> Path:
    """Write a page, on which explanations can be seen, played and compared.

    Parameters
    ----------
    folder : str or Path
        Links are relative to it.
    entries : iterable of PageEntry
        Those of one recording have to be consecutive.
    single_file : bool
        Whether pictures and sounds are in the page itself, which then needs no other
        file.
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
    groups = groupby(entries, key=lambda entry: (entry.folder.parent, entry.file))
    recordings = [list(group) for _, group in groups]
    count = sum(map(len, recordings))
    page = (
        _environment(folder)
        .get_template("page.html.j2")
        .render(
            recordings=recordings,
            count=count,
            models=sorted({e.record["model"] for r in recordings for e in r} - {""}),
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
        for number, recording in enumerate(recordings, 1) if single_file else ():
            data = _escaped(read_page_data(recording[0].folder.parent / PAGE_DATA))
            tag = f'<script type="application/json" id="data-{number}">'
            file.write(f"{tag}{data}</script>\n")
        file.write(ENDS + tail)
    return folder / name


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
        "number": format_number,
        "percent": percent,
        "presence_words": presence_words,
        "details": verdict_details,
        "words": verdict_words,
    }
    return environment


def _environment(folder: Path) -> Environment:
    def link(path: Path) -> str:
        relative = os.path.relpath(path.resolve(), folder.resolve())
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
