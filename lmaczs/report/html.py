"""One HTML page of many explanations, filled into `page.html.j2`.

Plain HTML with relative links: it opens from disk, without a network, and can be moved
with its folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from lmaczs.report.figures import format_number
from lmaczs.report.words import percent, verdict_words
from lmaczs.utils.files import atomic_write
from lmaczs.utils.naming import INPUT_COPY, PAGE

EMPTY = "nothing in this recording (empty mask)"


@dataclass(frozen=True)
class PageEntry:
    """One explanation on a page."""

    file: str
    """The recording, as it is shown."""
    folder: Path
    """Holds explanation.wav, residual.wav and explanation.png. The folders of one
    recording's prompts lie side by side in a folder of its own, with input.wav."""
    record: Mapping[str, Any]
    """What explanation.json holds: prompt, similarity and presence of input,
    explanation and residual, mask_mean, empty, verdict."""


def write_page(folder: str | Path, entries: Iterable[PageEntry]) -> Path:
    """Write index.html, on which explanations can be seen, played and compared.

    Links are relative to `folder`. Entries of one recording have to be consecutive.
    """
    folder = Path(folder)

    def link(path: Path) -> str:
        relative = os.path.relpath(path.resolve(), folder.resolve())
        return quote(Path(relative).as_posix())

    environment = Environment(
        loader=PackageLoader("lmaczs.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "link": link,
        "number": format_number,
        "percent": percent,
        "words": verdict_words,
    }
    groups = groupby(entries, key=lambda entry: (entry.folder.parent, entry.file))
    page = environment.get_template("page.html.j2").render(
        recordings=[list(group) for _, group in groups],
        input_copy=INPUT_COPY,
        empty=EMPTY,
    )
    with atomic_write(folder / PAGE) as part:
        part.write_text(page, "utf-8")
    return folder / PAGE
