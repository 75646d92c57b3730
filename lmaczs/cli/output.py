"""The folder that a command writes into: made, held, swept, and its page."""

from __future__ import annotations

import argparse
import contextlib
import errno
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmaczs.cli.terminal import CommandError
from lmaczs.cli.work import Failure
from lmaczs.utils.errors import LmaczsError
from lmaczs.utils.files import FULL, sweep
from lmaczs.utils.locks import locked
from lmaczs.utils.naming import PAGE, Recordings, is_other_page

if TYPE_CHECKING:
    from lmaczs.report.html import PageEntry, PageOverview


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add the options of what is written, and where."""
    text = "folder for the results and their page (default: %(default)s)"
    parser.add_argument("--out", type=Path, default=Path("out"), help=text)
    text = "put pictures and sounds into the page itself, which can then be sent alone"
    parser.add_argument("--single-file", action="store_true", help=text)


def add_force(parser: argparse.ArgumentParser) -> None:
    """Add --force."""
    text = "do again what was done before, with the same recording and options"
    parser.add_argument("--force", action="store_true", help=text)


@contextlib.contextmanager
def out_folder(out: Path) -> Iterator[None]:
    """Make --out, and hold it against other runs; a CommandError if that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"--out {out}: {error.strerror}; name a folder that can be written"
        ) from error
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(out))
        except LmaczsError as error:
            raise CommandError(f"--out {error}") from error
        sweep(out)
        yield


def sweep_results(folders: Iterable[Path]) -> None:
    """Remove what killed runs left in folders of results, and in folders in them."""
    for folder in folders:
        if folder.is_dir() and not folder.is_symlink():
            sweep(folder)
            for inside in folder.iterdir():
                if inside.is_dir() and not inside.is_symlink():
                    sweep(inside)


def check_page(out: Path, files: Iterable[Path], page: str = PAGE) -> None:
    """Raise a CommandError where the page would replace a file that is not ours."""
    if out / page in Recordings(files):
        raise CommandError(
            f"--out {out}: its {page} is one of the recordings, and the page would "
            "replace it; name another folder"
        )
    if is_other_page(out / page):
        raise CommandError(
            f"--out {out}: its {page} was not written by lmaczs, and the page would "
            "replace it; name another folder"
        )


def write_page(
    out: Path,
    entries: Sequence[PageEntry | PageOverview],
    single_file: bool,
    page: str = PAGE,
) -> Path | None:
    """Write the page, unless nothing was explained."""
    if not entries:
        return None
    from lmaczs.report import html

    return html.write_page(out, entries, single_file, name=page)


def require_room(out: Path, failure: Failure) -> None:
    """Raise an error that ends the command if the disk is why a recording failed."""
    full = failure.number in (errno.ENOSPC, errno.EDQUOT)
    if full or shutil.disk_usage(out).free < FULL:
        raise LmaczsError(
            f"--out {out}: its disk is full; make room and give the same line again, "
            "which leaves out what is done"
        )
