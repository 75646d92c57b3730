"""Where a model lies: the embedded default, a folder, or a repository of the Hub."""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar

from lmaczs.utils.errors import InputError
from lmaczs.utils.shipped import shipped_folder

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

PATIENCE = 20.0
"""Seconds without a byte from the Hub after which it is given up; the environment
variable LMACZS_HUB_TIMEOUT is another number."""

REST = 60.0
"""Seconds for which it is not asked again then."""

_given_up: dict[str, float] = {}
"""When that was, by the Hub's address."""

_copied: set[str] = set()
"""Repositories of which a copy is used: that is said once."""


CLAP_FILES = (
    *("*.json", "*.txt", "*.model"),
    *("model.safetensors", "model-*-of-*.safetensors"),
)
"""What is downloaded of a CLAP's repository."""

PICKLED = ("pytorch_model.bin", "pytorch_model-*-of-*.bin")
"""And if it is trusted."""

DECODER_FILES = ("*.json", "*.yaml", "*.txt", "*.model", "*.safetensors", "README.md")
"""What is downloaded of a decoder's repository; everything of one that is trusted."""


def default_source() -> Path:
    """Folder of the embedded default model; its CLAP lies beside it in `clap_small`."""
    return shipped_folder("pretrained") / "lmaczs_small"


def local_folder(
    source: str | Path, relative_to: str | Path | None = None
) -> Path | None:
    """Folder of a model, or None for a Hub id (``owner/name``).

    A relative path is looked up in `relative_to` first, then in the working directory;
    ``pretrained/NAME``, which the YAMLs have, is a shipped model elsewhere, too.
    FileNotFoundError if there is no such folder and the name cannot be a Hub id.
    """
    bases = [Path(relative_to)] if relative_to is not None else []
    bases.append(Path())
    if Path(source).parts[:1] == ("pretrained",):
        bases.append(shipped_folder("pretrained").parent)
    for candidate in (base / source for base in bases):
        if os.path.isdir(candidate):  # False, too, for a name that no file can have
            return candidate
    name = str(source)
    looks_like_path = isinstance(source, Path) or name.startswith((".", "/", "~"))
    if looks_like_path or name.count("/") != 1:
        raise FileNotFoundError(f"there is no folder {name}, and it is no Hub id")
    return None


def unpinned_folder(source: str | Path, revision: str | None) -> Path | None:
    """As `local_folder`; InputError for a folder with a revision: it has none."""
    folder = local_folder(source)
    if folder is not None and revision is not None:
        raise InputError(
            f"revision {revision!r}: {source} is a folder; only a repository of the "
            "Hub has revisions"
        )
    return folder


def resolve(source: str | Path, relative_to: str | Path | None = None) -> str:
    """Absolute path of a model folder (`local_folder`); a Hub id stays as it is."""
    folder = local_folder(source, relative_to)
    return str(source if folder is None else folder.resolve())


def clap_folder(
    source: str | Path, revision: str | None = None, trust_remote_code: bool = False
) -> Path:
    """Folder of a CLAP; what can be loaded of a repository is downloaded first.

    FileNotFoundError as `snapshot`.
    """
    folder = local_folder(source)
    if folder is None:
        needed = (*CLAP_FILES, *(PICKLED if trust_remote_code else ()))
        folder = snapshot(str(source), None, revision, needed)
    return folder


def decoder_folder(
    source: str | Path,
    savedir: str | Path | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Folder of a decoder; what can be loaded of a repository is downloaded first.

    FileNotFoundError as `snapshot`; InputError for a folder with a `revision`.
    """
    folder = unpinned_folder(source, revision)
    if folder is None:
        needed = ("*",) if trust_remote_code else DECODER_FILES
        folder = snapshot(str(source), savedir, revision, needed)
    return folder


def snapshot(
    name: str,
    savedir: str | Path | None = None,
    revision: str | None = None,
    patterns: Sequence[str] = ("*",),
) -> Path:
    """Download a Hub repository into `savedir`, or into the Hub's cache.

    What is there already needs no network with HF_HUB_OFFLINE=1, and a commit never
    does. A Hub that does not answer is given up after `PATIENCE`, once for all files.

    Parameters
    ----------
    name : str
        ``owner/name``.
    savedir : str or Path, optional
        Folder for the files.
    revision : str, optional
        A branch, a tag or a commit.
    patterns : sequence of str
        Files that are needed, in any folder: names, with ``*``.

    Returns
    -------
    Path
        Folder of the files.

    Raises
    ------
    FileNotFoundError
        If the Hub cannot be reached or has no such repository or revision; a mistyped
        folder name ends here too.
    """
    from huggingface_hub import constants

    try:
        if constants.HF_HUB_OFFLINE or re.fullmatch("[0-9a-f]{40}", revision or ""):
            with suppress(OSError):
                return _cached(name, savedir, revision, patterns)
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set, and it is not in the Hub's cache")
        places = [Path(savedir)] if savedir else [_cache_of(name)]
        return patiently(lambda: _download(name, savedir, revision, patterns), places)
    except Exception as error:  # those of a connection differ by the client's version
        with suppress(OSError, ValueError):
            if not _says_no(error):
                folder = _cached(name, savedir, revision, patterns)
                if name not in _copied:
                    logger.warning("%s: no answer of the Hub; a copy is used", name)
                    _copied.add(name)
                return folder
        at = f" at revision {revision}" if revision else ""
        raise FileNotFoundError(
            f"there is no folder {name}, and the Hub gives no repository of that name"
            f"{at} ({' '.join(str(error).split())}): check the name and the connection"
        ) from error


def _says_no(error: Exception) -> bool:
    """Whether the Hub has answered: there is no such repository, or not for you."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if isinstance(error, HFValidationError):
        return True
    status = getattr(getattr(error, "response", None), "status_code", 500)
    return isinstance(error, HfHubHTTPError) and status < 500


def _cache_of(name: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = repo_folder_name(repo_id=name, repo_type="model")
    return Path(constants.HF_HUB_CACHE) / folder


def _cached(
    name: str,
    savedir: str | Path | None,
    revision: str | None,
    patterns: Sequence[str],
) -> Path:
    """Folder of what was downloaded before; an OSError if it is not whole."""
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            name,
            revision=revision,
            local_dir=savedir,
            allow_patterns=[*patterns],
            local_files_only=True,
        )
    )


def _download(
    name: str,
    savedir: str | Path | None,
    revision: str | None,
    patterns: Sequence[str],
) -> Path:
    """Download what is needed of a repository, one file after the other.

    `snapshot_download` does so in threads, for which a process waits at its end.
    """
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().model_info(name, revision=revision, timeout=_patience())
    names = [one.rfilename for one in info.siblings or ()]
    wanted = [n for n in names if any(fnmatch(n, pattern) for pattern in patterns)]
    if not wanted:
        raise FileNotFoundError(f"it has no {', '.join(patterns)}")
    if savedir is None:  # so that the name of a branch or tag is known offline, too
        hf_hub_download(name, wanted[0], revision=revision)
    done = [
        Path(hf_hub_download(name, one, revision=info.sha, local_dir=savedir))
        for one in wanted
    ]
    depth = wanted[0].count("/")
    return done[0].parents[depth]


def _patience() -> float:
    return float(os.environ.get("LMACZS_HUB_TIMEOUT") or PATIENCE)


def patiently(
    ask: Callable[[], Result], places: Sequence[Path] = (), seconds: float = 0.0
) -> Result:
    """Result of questions to the Hub, which may never answer.

    TimeoutError (an OSError) if for `PATIENCE` there is none, and nothing is written in
    the folders `places`, or if the client has given up waiting before. What is sent
    with a question may take `seconds` more. A Hub that was given up is not asked again
    for a minute.
    """
    from huggingface_hub import constants

    patience = _patience() + seconds
    if time.monotonic() - _given_up.get(constants.ENDPOINT, -math.inf) < REST:
        raise _silence(patience)
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.extend((True, ask()))
        except BaseException as error:  # raised again by the caller
            outcome.extend((False, error))

    # a daemon, so that a process may end while the client still waits and tries again
    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    seen, since = _bytes_in(places), time.monotonic()
    while worker.is_alive() and time.monotonic() - since < patience:
        worker.join(min(0.5, patience))
        if (size := _bytes_in(places)) != seen:
            seen, since = size, time.monotonic()
    answer: Sequence[Any] = outcome or (False, TimeoutError())
    done, value = answer
    if done:
        result: Result = value
        return result
    if not _timed_out(value):
        raise value
    _given_up[constants.ENDPOINT] = now = time.monotonic()
    raise _silence(now - since) from value


def _silence(seconds: float) -> TimeoutError:
    return TimeoutError(
        f"the Hub has sent nothing for {seconds:.0f} s (LMACZS_HUB_TIMEOUT)"
    )


def _timed_out(error: BaseException | None) -> bool:
    """Whether an error began as one of waiting; clients wrap it in others of theirs."""
    while error and not isinstance(error, TimeoutError):
        error = error.__cause__ or error.__context__
    return error is not None


def _bytes_in(places: Sequence[Path]) -> int:
    """Size of all files in folders, some of which may vanish meanwhile."""
    total = 0
    for path in (one for place in places for one in place.rglob("*")):
        with suppress(OSError):
            total += path.lstat().st_size
    return total
