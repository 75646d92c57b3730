"""Download of ESC-50: checked and unpacked, whole or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
from pathlib import Path

import pandas as pd
import pooch
import requests

from lmaczs.data.esc50 import PAGE
from lmaczs.data.lists import MissingDataError
from lmaczs.utils.errors import LmaczsError

CHUNK = 1 << 16  # bytes
TIMEOUT = 30.0  # seconds without an answer or a further byte


class DownloadError(LmaczsError, RuntimeError):
    """What could not be downloaded, and why, in one sentence."""


def ensure_esc50(
    data_folder: str | Path, url: str | None, sha256: str | None, clips: int = 2000
) -> None:
    """Download ESC-50 into a folder that is empty or missing.

    Parameters
    ----------
    data_folder : str or Path
        Will hold ``audio`` and ``meta``. An archive ``<data_folder>.zip`` beside it is
        used instead of the download, and kept.
    url : str, optional
        Address of the released archive; None to download nothing.
    sha256 : str, optional
        The archive's digest. Without it, members are checked by CRC and counted.
    clips : int
        Number of clips in the archive.

    Raises
    ------
    DownloadError
        If the archive cannot be had, or is another one.
    MissingDataError
        If the folder holds something other than ESC-50.
    """
    folder = Path(data_folder).resolve()
    if (folder / "meta" / "esc50.csv").is_file():
        return
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise MissingDataError(
            f"{data_folder} is not empty, but meta/esc50.csv is missing: --data_folder "
            "is the folder that holds audio/ and meta/, or an empty one to be filled"
        )
    archive = folder.with_name(f"{folder.name}.zip")
    fix = f"put its folders audio and meta into {data_folder} ({PAGE})"
    if url is None and not archive.exists():
        raise DownloadError(f"ESC-50 is not there and has no address: {fix}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".esc50-") as beside:
        try:
            if not archive.exists():
                archive = _downloaded(str(url), sha256, Path(beside))
            elif sha256 and (found := pooch.file_hash(str(archive))) != sha256.lower():
                raise ValueError(f"{archive} has the SHA-256 {found}, not {sha256}")
            content = _unpacked(archive, Path(beside, "content"), clips)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise DownloadError(
                f"ESC-50 could not be downloaded ({_reason(error)}): download it "
                f"yourself and {fix}"
            ) from error
        if folder.exists():
            folder.rmdir()
        os.replace(content, folder)


def _downloaded(url: str, sha256: str | None, folder: Path) -> Path:
    fetch = pooch.HTTPDownloader(sys.stderr.isatty(), CHUNK, timeout=TIMEOUT)
    return Path(pooch.retrieve(url, sha256, "archive.zip", folder, downloader=fetch))


def _unpacked(archive: Path, folder: Path, clips: int) -> Path:
    """Unpack an archive of ESC-50; return its folder that holds audio and meta."""
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)  # checks CRCs; no member leaves the folder
    lists = list(folder.glob("**/meta/esc50.csv"))
    if len(lists) != 1:
        raise ValueError("the archive has no meta/esc50.csv, or several")
    content = lists[0].parents[1]
    listed = pd.read_csv(lists[0]).filename
    there = sum((content / "audio" / name).is_file() for name in listed)
    if len(listed) != clips or there != clips:
        raise ValueError(
            f"the archive lists {len(listed)} clips and holds {there} of them, not "
            f"{clips}"
        )
    return content


def _reason(error: Exception) -> str:
    """The short message at the root of the exceptions that requests nests."""
    if isinstance(error, requests.RequestException) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    root: BaseException | str | None = error
    while isinstance(root, BaseException):
        found = root
        root = found.__cause__ or (found.args[0] if found.args else None)
    return getattr(found, "strerror", None) or " ".join(str(found).split())
