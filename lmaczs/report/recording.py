"""A recording's explanations in a folder, as the page needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmaczs.audio.io import save_audio
from lmaczs.report.html import PageEntry
from lmaczs.report.page_data import write_page_data
from lmaczs.utils.naming import INPUT_COPY, unique_slugs

if TYPE_CHECKING:
    from lmaczs.explanation import Interpretation


def save_recording(folder: str | Path, results: Sequence[Interpretation]) -> None:
    """Save a recording's interpretations, a copy of the input and the page's data.

    Parameters
    ----------
    folder : str or Path
        Of the recording; each prompt gets a folder in it, named after the prompt.
    results : sequence of Interpretation
        Of one recording; at least one.
    """
    folder = Path(folder)
    slugs = unique_slugs([one.prompt for one in results])
    for one, slug in zip(results, slugs, strict=True):
        one.save(folder / slug)
    save_audio(folder / INPUT_COPY, results[0].input, results[0].sample_rate)
    masks = {
        slug: None if one.empty else one.mask
        for one, slug in zip(results, slugs, strict=True)
    }
    write_page_data(folder, results[0].stft, masks)


def page_entries(
    folder: str | Path, results: Sequence[Interpretation], name: str
) -> Iterator[PageEntry]:
    """Entries on a page of what `save_recording` wrote of a recording of that name."""
    slugs = unique_slugs([one.prompt for one in results])
    for one, slug in zip(results, slugs, strict=True):
        record = one.to_dict()
        yield PageEntry(name, Path(folder) / slug, record, record["events"])
