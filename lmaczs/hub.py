"""Where a model lies: the embedded default, a folder, or a repository of the Hub."""

from __future__ import annotations

from pathlib import Path

from lmaczs.utils.errors import InputError
from lmaczs.utils.shipped import shipped_folder


def default_source() -> Path:
    """Folder of the embedded default model; its CLAP lies beside it in `clap_small`."""
    return shipped_folder("pretrained") / "lmaczs_small"


def local_folder(
    source: str | Path, relative_to: str | Path | None = None
) -> Path | None:
    """Folder of a model, or None for a Hub id (``owner/name``).

    A relative path is looked up in `relative_to` first. FileNotFoundError if there is
    no such folder and the name cannot be a Hub id.
    """
    bases = [Path(relative_to)] if relative_to is not None else []
    for candidate in [*(b / source for b in bases), Path(source)]:
        if candidate.is_dir():
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


def snapshot(
    name: str, savedir: str | Path | None = None, revision: str | None = None
) -> Path:
    """Download a Hub repository into `savedir`, or into the Hub's cache.

    `revision` is a branch, a tag or a commit; a commit that is cached needs no network.
    FileNotFoundError if the Hub cannot be reached or has no such repository or
    revision; a mistyped folder name ends here too.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, revision=revision, local_dir=savedir))
    except (OSError, HFValidationError) as error:  # the Hub's errors are OSErrors
        at = f" at revision {revision}" if revision else ""
        reason = " ".join(str(error).split())
        raise FileNotFoundError(
            f"there is no folder {name}, and the Hub gives no repository of that name"
            f"{at}: {reason}"
        ) from error
