"""One HTML page of many explanations.

The page is plain HTML with relative links: it opens from disk, without a network, and
goes wherever its folder goes. Its pictures come from `lmaczs.report.figures`.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lmaczs.audio.io import load_audio, save_audio
from lmaczs.report.figures import explanation_figure, format_number, save_figure
from lmaczs.utils.files import atomic_write
from lmaczs.utils.naming import INPUT_COPY, PAGE

__all__ = [
    "PageEntry",
    "explanation_figure",
    "save_figure",
    "write_page",
]

# --- page ---------------------------------------------------------------------------


@dataclass(frozen=True)
class PageEntry:
    """One explanation on a page."""

    file: str
    """The recording, as it is shown."""
    prompt: str
    folder: Path
    """Holds explanation.wav, residual.wav, explanation.png and explanation.json. The
    folders of one recording's prompts lie side by side in a folder of its own."""


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 1400px; margin: 2rem auto; padding: 0 1rem; }
h2 { border-top: 1px solid #ccc; padding-top: 1.5rem; overflow-wrap: anywhere; }
h3 { margin: 0 0 .5rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid #eee; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
td { font-variant-numeric: tabular-nums; }
.prompts { display: grid; gap: 1.5rem;
           grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.prompts img { width: 100%; height: auto; }
figure { margin: .4rem 0; }
audio { display: block; width: 100%; max-width: 32rem; }
"""  # noqa: E501

INTRODUCTION = """
<p>For each prompt: the part of the recording that the model takes for it (the
explanation) and what is left (the residual). The two sum to the input. Similarities are
cosines between the prompt and each of the three sounds; the mean mask is the share of
the spectrogram that the explanation keeps.</p>
"""

EMPTY = "nothing in this recording (empty mask)"

COLUMNS_OF_TABLE = {
    "similarity": "input",
    "masked_similarity": "explanation",
    "residual_similarity": "residual",
    "mask_mean": "mean mask",
}


def write_page(folder: str | Path, entries: Iterable[PageEntry]) -> Path:
    """Write index.html, on which explanations can be seen, heard and compared.

    The input is written as input.wav beside the folders of a recording's prompts, as
    the sum of explanation and residual: what the model was given, at its rate. A file
    of that name is replaced.

    Parameters
    ----------
    folder : str | Path
        Where index.html is written; made if missing. Links are relative to it.
    entries : Iterable[PageEntry]
        Explanations in the order of the page; those of one recording follow one
        another.

    Returns
    -------
    Path
        index.html, written whole or not at all.
    """
    folder = Path(folder)
    groups = groupby(entries, key=lambda entry: (entry.folder.parent, entry.file))
    sections = [_section(folder, list(group)) for _, group in groups]
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Explanations</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>What the model listened to</h1>{INTRODUCTION}"
        f"{''.join(sections)}</body>\n</html>\n"
    )
    with atomic_write(folder / PAGE) as part:
        part.write_text(page, "utf-8")
    return folder / PAGE


def _section(folder: Path, entries: Sequence[PageEntry]) -> str:
    """Return the part of the page about one recording."""
    source = entries[0].folder.parent / INPUT_COPY
    _write_input(entries[0].folder, source)
    rows = "".join(_row(entry) for entry in entries)
    cards = "".join(_card(folder, entry) for entry in entries)
    heads = "".join(f"<th>{name}</th>" for name in COLUMNS_OF_TABLE.values())
    return (
        f"<h2>{html.escape(entries[0].file)}</h2>\n{_audio(folder, source, 'Input')}"
        f"<table>\n<tr><th>Prompt</th>{heads}</tr>\n{rows}</table>\n"
        f'<div class="prompts">\n{cards}</div>\n'
    )


def _row(entry: PageEntry) -> str:
    """Return the numbers of one prompt."""
    numbers = _numbers(entry.folder)
    shown = {key: format_number(numbers[key]) for key in COLUMNS_OF_TABLE}
    if numbers["empty"]:
        shown["masked_similarity"] = EMPTY
    cells = "".join(f"<td>{text}</td>" for text in shown.values())
    return f"<tr><td>{html.escape(entry.prompt)}</td>{cells}</tr>\n"


def _card(folder: Path, entry: PageEntry) -> str:
    """Return the picture and the sounds of one prompt, if there are any."""
    prompt = html.escape(entry.prompt)
    if _numbers(entry.folder)["empty"]:
        return f"<article>\n<h3>{prompt}</h3>\n<p>{EMPTY}</p>\n</article>\n"
    picture = _link(folder, entry.folder / "explanation.png")
    sounds = "".join(
        _audio(folder, entry.folder / f"{name.lower()}.wav", name)
        for name in ("Explanation", "Residual")
    )
    alt = f"Input, mask and explanation for the prompt “{prompt}”"
    return (
        f'<article>\n<h3>{prompt}</h3>\n<img src="{picture}" alt="{alt}" '
        f'loading="lazy">\n{sounds}</article>\n'
    )


def _audio(folder: Path, path: Path, name: str) -> str:
    """Return a player with its name."""
    link = _link(folder, path)
    player = f'<audio controls preload="none" src="{link}"></audio>'
    return f"<figure><figcaption>{name}</figcaption>{player}</figure>\n"


def _link(folder: Path, path: Path) -> str:
    """Return a file's address relative to the page's folder."""
    relative = Path(os.path.relpath(path.resolve(), folder.resolve()))
    return quote(relative.as_posix())


def _numbers(folder: Path) -> dict[str, Any]:
    """Return what explanation.json holds."""
    return json.loads((folder / "explanation.json").read_text("utf-8"))


def _write_input(folder: Path, path: Path) -> None:
    """Write the input of an explanation, the sum of its two parts."""
    rate = _numbers(folder)["sample_rate"]
    kept = load_audio(folder / "explanation.wav", rate)
    left = load_audio(folder / "residual.wav", rate)
    save_audio(path, kept + left, rate)
