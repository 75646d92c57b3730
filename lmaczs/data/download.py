"""ESC-50 from the net: fetched, checked and unpacked, whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import requests
from speechbrain.utils.distributed import run_on_main
from tqdm import tqdm

from lmaczs.utils.errors import InputError, LmaczsError

__all__ = ["DownloadError", "download", "ensure_esc50", "unpack"]

logger = logging.getLogger(__name__)

CHUNK = 1 << 16  # bytes; less than one is fetched again after a break


class DownloadError(LmaczsError, RuntimeError):
    """What could not be downloaded, and why, in one sentence."""


# --- one file -----------------------------------------------------------------------


def download(
    url: str,
    path: str | Path,
    sha256: str | None,
    progress: bool = True,
    timeout: float = 30.0,
    attempts: int = 5,
    pause: float = 1.0,
) -> None:
    """Download a file, or do nothing where it is already.

    What has come is kept beside the file as ``<path>.part``; after a break, of this
    call or of an earlier one, only the rest is asked for.

    Parameters
    ----------
    url : str
        Address of the file.
    path : str or Path
        The file that is to exist; missing parent folders are made.
    sha256 : str, optional
        Digest that the file must have, hexadecimal; without it any file will do.
    progress : bool
        Whether to show a bar, if stderr is a terminal.
    timeout : float
        Seconds without an answer, or without a further byte, that count as a break.
    attempts : int
        Breaks in a row, without progress between them, that are one too many.
    pause : float
        Seconds before the second attempt; doubled before each further one.

    Raises
    ------
    DownloadError
        If it cannot be had, has another digest (then nothing of it is kept), or
        another file is in its place (that one is kept).
    """
    path, wanted = Path(path), sha256.lower() if sha256 else None
    if path.exists():
        _require_digest(path, wanted)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    if wanted is None or _digest(part) != wanted:
        _fetch_patiently(url, part, progress, timeout, attempts, pause)
    if wanted is not None and (found := _digest(part)) != wanted:
        part.unlink()
        raise DownloadError(f"{url} has the SHA-256 {found}, not {wanted} as expected")
    os.replace(part, path)


def _require_digest(path: Path, wanted: str | None) -> None:
    """Refuse a file that this module has not put there: it is not ours to replace."""
    if wanted is not None and (found := _digest(path)) != wanted:
        raise DownloadError(
            f"{path} is in the way: its SHA-256 is {found}, not {wanted}; move it"
        )


def _digest(path: Path) -> str | None:
    """SHA-256 of a file, None where there is none."""
    if not path.exists():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch_patiently(
    url: str, part: Path, progress: bool, timeout: float, attempts: int, pause: float
) -> None:
    """Fetch what is missing of the part, over breaks that may pass."""
    before = furthest = _size(part)
    failures = 0
    while True:
        try:
            return _fetch(url, part, progress, timeout)
        except requests.RequestException as error:
            # More than ever counts, not more than before: a server that ignores Range
            # and cuts at the same byte each time would be asked for ever.
            failures = 1 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            reason = _reason(error)
            if failures >= attempts or not _may_pass(error, begun=furthest > before):
                raise DownloadError(f"{url}: {reason}") from error
        logger.warning("%s: %s after %d bytes; trying again", url, reason, _size(part))
        time.sleep(pause * 2 ** (failures - 1))


def _fetch(url: str, part: Path, progress: bool, timeout: float) -> None:
    """Append to the part what it lacks, or write it anew if the server sends all."""
    have = _size(part)
    # Compressed on the way, the bytes would not be those that a range counts.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
        if response.status_code != requests.codes.requested_range_not_satisfiable:
            response.raise_for_status()
            return _save(response, part, have, progress)
        if not have:
            response.raise_for_status()
    part.unlink()  # no shorter than the file, and not the file: a part of another
    _fetch(url, part, progress, timeout)


def _save(response: requests.Response, part: Path, have: int, progress: bool) -> None:
    resumed = response.status_code == requests.codes.partial_content
    start = have if resumed else 0
    length = response.headers.get("Content-Length")
    with (
        part.open("ab" if resumed else "wb") as file,
        tqdm(
            desc=part.stem,
            initial=start,
            total=start + int(length) if length else None,
            unit="B",
            unit_scale=True,
            disable=None if progress else True,  # None: unless stderr is a terminal
        ) as bar,
    ):
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))


def _may_pass(error: requests.RequestException, begun: bool) -> bool:
    """Whether to try again: not without a network, nor where the server said no."""
    if error.response is not None:
        return error.response.status_code >= 500
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return True  # cut after the answer had begun
    return begun and isinstance(error, requests.ConnectionError | requests.Timeout)


def _reason(error: requests.RequestException) -> str:
    """The few words at the root of the exceptions that requests nests."""
    if error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    root: BaseException | str | None = error
    while isinstance(root, BaseException):
        found = root
        root = found.__cause__ or (found.args[0] if found.args else None)
    return getattr(found, "strerror", None) or str(found) or type(found).__name__


# --- an archive ---------------------------------------------------------------------


def unpack(
    archive: str | Path,
    folder: str | Path,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Unpack a zip archive into a new folder, whole or not at all.

    Every member is checked against the CRC that the archive has of it.

    Parameters
    ----------
    archive : str or Path
        If all of it lies in one folder, that folder's content is unpacked.
    folder : str or Path
        Not there, or empty.
    check : callable, optional
        Takes the folder that was unpacked, before it is put in its place; raises
        ValueError where it is not what was meant.

    Raises
    ------
    FileExistsError
        If the folder has content; it is not touched.
    InputError
        If the archive is damaged, or a member would land outside the folder.
    """
    folder = Path(folder).resolve()  # what a link points to is replaced, not the link
    if _is_taken(folder):
        raise FileExistsError(f"{folder} is not empty: {archive} is not unpacked there")
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}."
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as beside:
        # Not into the temporary folder itself: that one is closed to other users.
        content = _extract(Path(archive), Path(beside) / "content")
        if check is not None:
            check(content)
        if folder.exists():
            folder.rmdir()
        os.replace(content, folder)


def _is_taken(folder: Path) -> bool:
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def _extract(archive: Path, folder: Path) -> Path:
    """Extract all members, and return the folder that holds the content proper."""
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as members:
            for name in members.namelist():
                # zipfile would put it somewhere inside: an archive that says
                # otherwise is not the one that was meant.
                if not (folder / name).resolve().is_relative_to(folder):
                    raise InputError(
                        f"{archive} would write outside its folder: {name}"
                    )
            members.extractall(folder)
    except zipfile.BadZipFile as error:
        raise InputError(f"{archive} is not a whole zip archive ({error})") from error
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


# --- the data set -------------------------------------------------------------------


def ensure_esc50(
    data_folder: str | Path,
    url: str | None,
    sha256: str | None = None,
    clips: int = 2000,
) -> str | Path:
    """Fill a folder with ESC-50, if it is empty or not there.

    Of processes that train together the main one does it, and the others wait.

    Parameters
    ----------
    data_folder : str or Path
        Folder that is to hold ``audio`` and ``meta``. The archive is downloaded
        beside it as ``<data_folder>.zip`` and removed at the end; one that was put
        there is used and kept.
    url : str, optional
        Address of the released archive; None to download nothing.
    sha256 : str, optional
        The archive's digest. Without it the archive is known by its members: each
        agrees with its CRC, and all clips are there.
    clips : int
        How many the archive lists and holds.

    Returns
    -------
    str or Path
        `data_folder`.

    Raises
    ------
    DownloadError
        If the archive cannot be had, or is another one; it says what to place where.
    FileNotFoundError
        If the folder holds something other than ESC-50.
    """
    run_on_main(_fill_esc50, args=[Path(data_folder), url, sha256, clips])
    return data_folder


def _fill_esc50(
    data_folder: Path, url: str | None, sha256: str | None, clips: int
) -> None:
    folder = data_folder.resolve()
    if (folder / "meta" / "esc50.csv").is_file():
        return
    if _is_taken(folder):
        raise FileNotFoundError(
            f"{data_folder} is not empty, but meta/esc50.csv is missing: --data_folder "
            "is the folder that holds audio/ and meta/, or an empty one to be filled"
        )
    archive = folder.with_name(f"{folder.name}.zip")
    was_there = archive.exists()
    mend = f"put its folders audio and meta into {data_folder}"
    if url is None and not was_there:
        raise DownloadError(f"ESC-50 is not there and has no address: {mend}")
    try:
        download(str(url), archive, sha256)
        unpack(archive, folder, lambda content: _require_clips(content, clips))
    except (DownloadError, ValueError) as error:
        if not was_there:
            archive.unlink(missing_ok=True)  # or it would be taken for a good one
        raise DownloadError(
            f"ESC-50 could not be downloaded ({error}): download it yourself and {mend}"
        ) from error
    if not was_there:
        archive.unlink()


def _require_clips(content: Path, clips: int) -> None:
    """Refuse an archive that is not all of ESC-50."""
    meta = content / "meta" / "esc50.csv"
    if not meta.is_file():
        raise InputError("the archive has no meta/esc50.csv")
    names = pd.read_csv(meta).filename
    there = sum((content / "audio" / name).is_file() for name in names)
    if len(names) != clips or there != clips:
        raise InputError(
            f"the archive lists {len(names)} clips and holds {there} of them, not "
            f"{clips}"
        )
