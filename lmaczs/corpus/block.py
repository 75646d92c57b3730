"""A block of a corpus, written whole or not at all: the same by every engine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lmaczs.corpus.engines import Counts
from lmaczs.corpus.plan import read_block
from lmaczs.corpus.rows import Found, Key, RowMaker, Wanted
from lmaczs.corpus.store import Copies, Store
from lmaczs.corpus.tables import (
    TABLES,
    WHOLE,
    clips_schema,
    failure_text,
    file_of,
    to_parquet,
)
from lmaczs.explanation import Interpretation
from lmaczs.interpreter import ZeroShotInterpreter
from lmaczs.report.recording import save_recording
from lmaczs.utils.naming import unique_slugs

KEPT = "kept"
"""Folder of sounds and pictures."""


class BlockWorker:
    """Works on blocks of a corpus with one model.

    Parameters
    ----------
    store : Store
        The corpus, with its plan.
    interpreter : ZeroShotInterpreter
        The model.
    wanted : Wanted
        What is wanted of every clip.
    about : mapping of str to Any
        What the tables' metadata say of the corpus.
    check : callable
        Raises an error where the store holds another corpus by now.
    """

    def __init__(
        self,
        store: Store,
        interpreter: ZeroShotInterpreter,
        wanted: Wanted,
        about: Mapping[str, Any],
        check: Callable[[], None],
    ) -> None:
        self.store, self.check = store, check
        self.rows = RowMaker(interpreter, wanted)
        self.about = {**about, "band_hz": band_edges(interpreter)}
        self.size = interpreter.clap.embedding_dim

    def __call__(self, number: int) -> Counts:
        """Make the rows of a block of the plan and write them.

        Parameters
        ----------
        number : int
            Of the block.

        Returns
        -------
        Counts

        Raises
        ------
        OSError
            If a store fails.
        """
        self.check()
        clips, schema = read_block(self.store, number)
        with Copies() as copies, tempfile.TemporaryDirectory() as place:
            kept = Path(place)

            def save(key: Key, results: list[Interpretation]) -> None:
                save_recording(kept / kept_name(*key), results)

            found = self.rows(clips, copies, save)
            self._put_kept(found, kept)
        schemas = {**TABLES, WHOLE: clips_schema(self.size, schema)}
        for table, rows in found.tables.items():  # the last one makes it whole
            content = to_parquet(rows, schemas[table], table, self.about)
            if table == WHOLE:
                self.check()
            self.store.write(file_of(table, number), content)
        failures = found.tables["failures"]
        return Counts(
            number,
            len(clips),
            len(failures),
            len(found.tables["events"]),
            sum(map(len, found.kept.values())),
            *map(failure_text, failures[:1]),
        )

    def _put_kept(self, found: Found, kept: Path) -> None:
        """Put sounds and pictures in place, and where they are into rows of scores."""
        folders = {}
        for (clip, window), prompts in found.kept.items():
            name = f"{KEPT}/{kept_name(clip, window)}"
            self.store.put(kept / kept_name(clip, window), name)
            for prompt, slug in zip(prompts, unique_slugs(prompts), strict=True):
                folders[clip, window, prompt] = f"{name}/{slug}"
        for row in found.tables["scores"]:
            row["folder"] = folders.get((row["clip"], row["window"], row["prompt"]))


def kept_name(clip: int, window: int) -> str:
    """Folder of what is kept of a window."""
    return f"{clip:08d}-{window}"


def kept_in(out: Path) -> list[tuple[Key, Path]]:
    """Windows of which something is kept in a corpus, with the folder of each."""
    found = []
    for path in (out / KEPT).glob("*-*"):
        clip, _, window = path.name.rpartition("-")
        if clip.isdecimal() and window.isdecimal():  # else it is not whole
            found.append(((int(clip), int(window)), path))
    return sorted(found)


def band_edges(interpreter: ZeroShotInterpreter) -> list[list[float]]:
    """Lowest and highest frequency in Hz of each of the model's mel bands."""
    front_end = interpreter.clap.front_end
    step = front_end.sample_rate / front_end.n_fft
    used = (front_end.mel_filters > 0).T.cpu()
    bins = [row.nonzero()[:, 0] for row in used]
    return [[float(one[0]) * step, float(one[-1]) * step] for one in bins]
