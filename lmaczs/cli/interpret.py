"""`lmaczs interpret`: the explanation of one recording, written and put into words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmaczs.cli.prompts import Prompts, explain
from lmaczs.cli.work import Outcome
from lmaczs.utils.naming import INPUT_COPY, PAGE_DATA, SAVED, unique_slugs
from lmaczs.utils.result_folder import (
    ResultState,
    file_sha256,
    origin_of,
    place_of,
    read_record,
    read_state,
    sizes_of,
    write_record,
    write_state,
)

if TYPE_CHECKING:
    from lmaczs.interpreter import Refine, ZeroShotInterpreter
    from lmaczs.report.html import PageEntry

LONG_SECONDS = 300
"""A longer recording is explained block by block."""

COLUMNS = (
    *("file", "prompt", "verdict", "presence", "similarity", "masked_similarity"),
    *("residual_similarity", "mask_mean", "empty", "seconds", "folder"),
)
"""Of --format csv; a row of JSON has all that explanation.json holds."""

BEFORE = "done before: --force does it again"


@dataclass(frozen=True)
class Explaining:
    """A task of `lmaczs.cli.work.each`.

    `options` are what results depend on, beside recording and prompts; `folders` and
    `names` are by recording.
    """

    prompts: Prompts
    refine: Refine
    options: dict[str, Any]
    folders: dict[Path, Path]
    names: dict[Path, str]
    channel: int | None = None
    strict: bool = False
    force: bool = False
    progress: bool = True

    def __call__(self, interpreter: ZeroShotInterpreter, path: Path) -> Outcome:
        """Explain a recording, unless that was done."""
        from lmaczs.data.lists import seconds_of

        start = time.perf_counter()
        folder = self.folders[path]
        if not self.force and self._is_done(path):
            note_place(folder, place_of(path))
            return self._outcome(path, BEFORE)
        note_unfinished(folder)
        if (seconds_of(path) or 0) > LONG_SECONDS:
            interpreter.interpret_to(
                folder,
                path,
                self.prompts.texts,
                refine=self.refine,
                progress=self.progress,
                channel=self.channel,
                contrast=self.prompts.contrast or None,
                prompt_audio=self.prompts.recordings,
                page=True,
                strict=self.strict,
            )
        else:
            from lmaczs.report.recording import save_recording

            reading = {"channel": self.channel, "strict": self.strict}
            results = explain(interpreter, path, self.prompts, self.refine, reading)
            save_recording(folder, results)
        sizes = sizes_of(folder, self._files())
        write_state(folder, replace(self._state(path), whole=True, sizes=sizes))
        took = f"{time.perf_counter() - start:.1f} s"
        outcome = self._outcome(path, took)
        return replace(outcome, notes=warnings_of(interpreter, path, outcome.rows[0]))

    def _slugs(self) -> list[str]:
        return unique_slugs(self.prompts.names)

    def _state(self, path: Path) -> ResultState:
        prompts = dict(zip(self._slugs(), self.prompts.names, strict=True))
        options = {**self.options, **reading_options(self.channel, self.strict)}
        return ResultState(**origin_of(path), options=options, prompts=prompts)

    def _is_done(self, path: Path) -> bool:
        """Whether all that is wanted is there, made of the same."""
        folder = self.folders[path]
        state = read_state(folder)
        if state is None or not path.is_file() or not state.covers(self._state(path)):
            return False
        wanted = self._files()
        found = sizes_of(folder, wanted)
        return all(found[name] == state.sizes.get(name) for name in wanted)

    def _files(self) -> list[str]:
        """What is written of a recording, beside what follows from it."""
        explanations = (f"{one}/{name}" for one in self._slugs() for name in SAVED)
        return [INPUT_COPY, PAGE_DATA, *explanations]

    def _outcome(self, path: Path, end: str) -> Outcome:
        """What is printed and shown of a recording, by what was written."""
        folders = [self.folders[path] / slug for slug in self._slugs()]
        records = [read_record(one / SAVED[3]) or {} for one in folders]
        found = "; ".join(map(finding, records))
        rows = [
            {"file": str(path), "folder": str(folder), **record}
            for folder, record in zip(folders, records, strict=True)
        ]
        entries = list(entries_of(self.names[path], folders))
        return Outcome(f"{found} ({end})", rows, entries)


def options_of(
    prompts: Prompts, refine: Refine, model: Mapping[str, Any]
) -> dict[str, Any]:
    """What results depend on, beside recording, prompts in words and version.

    OSError where a prompt's recording cannot be read.
    """
    names = unique_slugs([path.name for path in prompts.recordings])
    like = dict(zip(names, map(file_sha256, prompts.recordings), strict=True))
    contrast = list(prompts.contrast)
    return {**model, "refine": refine, "contrast": contrast, "prompt_audio": like}


def reading_options(channel: int | None, strict: bool) -> dict[str, Any]:
    """What of the reading results depend on: what `strict` refuses, has none."""
    return {"channel": channel, **({"strict": True} if strict else {})}


def note_unfinished(folder: Path) -> None:
    """Have an earlier run's folder state that it is not whole, before it is changed."""
    state = read_state(folder)
    if state is not None and state.whole:
        write_state(folder, replace(state, whole=False))


def note_place(folder: Path, place: str) -> None:
    """Have results name the place that their recording was moved to."""
    state = read_state(folder)
    if state is None or state.recording == place:
        return
    for slug in state.prompts:
        path = folder / slug / SAVED[3]
        if (record := read_record(path)) is not None:
            write_record(path, record | {"recording": place})
    sizes = sizes_of(folder, state.sizes)
    write_state(folder, replace(state, recording=place, sizes=sizes))


def warnings_of(
    interpreter: ZeroShotInterpreter, path: Path, record: Mapping[str, Any]
) -> list[str]:
    """What is doubtful about a recording, by what explanation.json holds.

    What is doubtful about prompts is printed once for all recordings.
    """
    own = () if record["prompt_audio"] else (record["prompt"],)
    of_prompts = [interpreter.prompt_warnings(name) for name in own]
    of_prompts += [interpreter.prompt_warnings(name) for name in record["contrast"]]
    return [
        f"{path}: {text}" for text in record["warnings"][sum(map(len, of_prompts)) :]
    ]


def entries_of(name: str, folders: Sequence[Path]) -> Iterator[PageEntry]:
    """Page entries of a recording, by what was written for each of its prompts."""
    from lmaczs.report.html import PageEntry

    for folder in folders:
        record = read_record(folder / SAVED[3]) or {}
        yield PageEntry(name, folder, record, record.get("events", ()))


def finding(record: Mapping[str, Any]) -> str:
    """One prompt's part of a line, from what explanation.json holds."""
    from lmaczs.report.words import verdict_words

    masked = f" -> {number(record['masked_similarity'])}"
    numbers = f"{record['similarity']:.3f}"
    numbers += ", empty mask" if record["empty"] else masked
    return f"{record['prompt']}: {verdict_words(record)} (similarity {numbers})"


def number(value: float | None) -> str:
    """Three decimals, or "none" for a sound that is silence to the model."""
    return "none" if value is None else f"{value:.3f}"
