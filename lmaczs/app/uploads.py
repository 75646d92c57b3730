"""What users send: limits, checked before decoding, and files, removed after use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from lmaczs.app.limits import Limits
from lmaczs.audio.io import Recording, read_recording
from lmaczs.audio.mono_file import MonoFile
from lmaczs.utils.errors import AudioError, InputError

if TYPE_CHECKING:
    from lmaczs.explanation import Interpretation


def read_upload(path: str | Path, limits: Limits, sample_rate: int) -> Recording:
    """Read a recording that a user sent, if it is within the limits.

    Size and stated length are checked before anything is decoded, and no more is
    decoded than the limit: a file may state no length, or a wrong one.

    Parameters
    ----------
    path : str or Path
        Of the file; messages have its name alone.
    limits : Limits
        Of size and length.
    sample_rate : int
        Of the result, Hz.

    Returns
    -------
    Recording
        Mono, with what is doubtful about it.

    Raises
    ------
    AudioError
        If it is too large or too long, or cannot be read.
    """
    path = Path(path)
    try:
        check_upload(path, limits)
        recording = read_recording(path, sample_rate, stop=limits.seconds + 1)
    except AudioError as error:
        raise AudioError(str(error).replace(str(path), path.name)) from error
    if len(recording.wav) > limits.seconds * sample_rate:
        raise AudioError(_too_long(path.name, "longer", limits))
    return recording


def with_warnings(
    results: Iterable[Interpretation], recording: Recording
) -> list[Interpretation]:
    """Interpretations of an upload, which warn of what is doubtful about its file."""
    found = []
    for one in results:
        texts = dict.fromkeys([*recording.warnings, *one.warnings])
        found.append(replace(one, warnings=tuple(texts)))
    return found


def check_upload(path: Path, limits: Limits) -> None:
    """Raise `AudioError` for what a file's size and header tell about it."""
    if not path.is_file():
        raise AudioError(f"{path.name}: it is no longer here: upload it again")
    size = path.stat().st_size / 1e6
    if size > limits.megabytes:
        raise AudioError(
            f"{path.name}: it has {size:.1f} MB, at most {limits.megabytes:g} are "
            "taken: cut it, or convert it to FLAC or MP3"
        )
    try:
        file = MonoFile(path)
    except AudioError as error:
        raise AudioError(str(error).replace(str(path), path.name)) from error
    seconds = file.frames / file.rate
    if seconds > limits.seconds:
        raise AudioError(_too_long(path.name, f"{seconds:.1f} s long", limits))


def _too_long(name: str, found: str, limits: Limits) -> str:
    return f"{name}: it is {found}, at most {limits.seconds:g} s are taken: cut it"


def prompts_in(text: str, limits: Limits) -> list[str]:
    """Prompts of a text, one a line, each once; `InputError` if none or too many."""
    prompts = list(dict.fromkeys(filter(None, map(str.strip, text.splitlines()))))
    if not prompts:
        raise InputError("there is no prompt: type one a line, e.g. a dog barking")
    if len(prompts) > limits.prompts:
        raise InputError(
            f"there are {len(prompts)} prompts, at most {limits.prompts} are taken at "
            "once: leave some out"
        )
    longest = max(map(len, prompts))
    if longest > limits.characters:
        raise InputError(
            f"a prompt has {longest} characters, at most {limits.characters} are "
            "taken: shorten it"
        )
    return prompts


class Uploads:
    """Files of users' sessions, removed when no session needs them any more.

    A session needs its newest file. Two sessions may have the same one: servers name
    files by their content.

    Parameters
    ----------
    kept : iterable of Path
        Files that are never removed.
    """

    def __init__(self, kept: Iterable[Path] = ()) -> None:
        self.kept = {path.resolve() for path in kept}
        self._of: dict[str, Path] = {}
        self._lock = Lock()

    def use(self, session: str, path: str | Path | None) -> None:
        """Note a session's newest file, None for none; remove the one before."""
        with self._lock:
            before = self._of.pop(session, None)
            if path is not None:
                self._of[session] = Path(path).resolve()
            if before is not None and before not in self._of.values():
                if before not in self.kept:
                    before.unlink(missing_ok=True)

    def end(self, session: str) -> None:
        """Remove what a session leaves behind."""
        self.use(session, None)
