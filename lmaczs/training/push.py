"""From an exported folder to a repository of the Hub, in one commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
)

from lmaczs.hub import local_folder, patiently
from lmaczs.model_file import EXPORTED, RUN_FILE, WEIGHTS, YAML_FILE
from lmaczs.utils.ending import sentence_of
from lmaczs.utils.errors import LmaczsError
from lmaczs.utils.plain_files import require_plain

SHARED = EXPORTED - {RUN_FILE}  # the digest of a run on this machine says nothing there
NEEDED = (YAML_FILE, "README.md")
THIS_FOLDER = 'source="<this folder>"'
SLOWEST = 50_000  # bytes a second that a line sends at least
HUBS_OWN = {".gitattributes", "README.md"}  # a repository may begin with these


class PushError(LmaczsError, ValueError):
    """Why a folder cannot be pushed, or where to: the reason and the fix."""


@dataclass(frozen=True)
class Pushed:
    """What a push wrote."""

    repo: str
    """``owner/name``."""
    revision: str
    """Commit, by which `from_hparams` loads this very decoder for ever."""
    url: str
    """Page of the repository."""
    metrics: int
    """How many metrics its card has for the Hub to show."""


def push_export(
    folder: str | Path, repo: str, private: bool = False, force: bool = False
) -> Pushed:
    """Write an exported decoder into a repository of the Hub, whole or not at all.

    The client's endpoint and token are used (``hf auth login``, or HF_TOKEN). Files of
    an earlier push that the folder does not have are removed; history keeps them.

    Parameters
    ----------
    folder : str or Path
        Written by `lmaczs.training.export.export_run`, or by `lmaczs adapt`.
    repo : str
        ``owner/name``; made if it is not there.
    private : bool
        Make it visible to its owner alone, if it is made.
    force : bool
        Write into a repository that holds something else than a decoder, too.

    Returns
    -------
    Pushed

    Raises
    ------
    PushError
        If the folder cannot be loaded elsewhere, `repo` is no name of a repository or
        holds something else, or the Hub refuses or cannot be reached.
    """
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise PushError(f"{repo}: no repository of the Hub: give owner/name")
    files = shared_files(folder)
    card = shared_card(folder, repo)
    try:
        url, revision = _commit(
            repo, {"README.md": str(card).encode(), **files}, private, force
        )
    except PushError:
        raise
    except Exception as error:  # those of a connection differ by the client's version
        raise PushError(
            f"{repo}: not pushed ({sentence_of(error)}): check the name and the "
            "connection, and log in with `hf auth login` or HF_TOKEN, a token that "
            "may write"
        ) from error
    return Pushed(repo, revision, url, _metrics_on(card))


def shared_files(folder: str | Path) -> dict[str, Path]:
    """Files of an exported folder by their names in the repository; no README.md.

    PushError unless the folder can be loaded from where it is copied to: it has a
    decoder, and its CLAP or the Hub id of one. InputError for a link out of it, by
    which a folder that somebody else made would share any file of this machine.
    """
    folder = Path(folder)
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in WEIGHTS):
        missing = [*missing, WEIGHTS[0]]
    if missing:
        raise PushError(
            f"{folder}: no exported decoder ({missing[0]} is missing): name a folder "
            "that `lmaczs export` or `lmaczs adapt` wrote"
        )
    _require_its_clap(folder)
    paths = [p for name in sorted(SHARED) for p in _below(folder / name)]
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    plain = {name: require_plain(folder, name) for name in named}
    return {name: path for name, path in plain.items() if name != "README.md"}


def shared_card(folder: str | Path, repo: str) -> ModelCard:
    """The folder's card, with the name of the repository in its example.

    Metrics of the test split are in its header (``model-index``), where the Hub reads
    them. PushError if the header is damaged.
    """
    path = Path(folder) / "README.md"
    text = path.read_text("utf-8").replace(THIS_FOLDER, f'source="{repo}"')
    try:
        card = ModelCard(text)
    except (ValueError, yaml.YAMLError) as error:
        raise PushError(
            f"{path}: the header of the card is damaged ({sentence_of(error)}): export "
            "the run again"
        ) from error
    source = _clap_source(Path(folder))
    if local_folder(source, folder) is None:
        card.data["base_model"] = source
    return card


def require_decoder(repo: str, there: Iterable[str]) -> None:
    """Raise PushError for a repository with files, none of which is a decoder's."""
    names = set(there)
    if names - HUBS_OWN and YAML_FILE not in names:
        raise PushError(
            f"{repo}: it holds something else than a decoder: name another "
            "repository, or add --force to write into this one"
        )


def _commit(
    repo: str, files: Mapping[str, bytes | Path], private: bool, force: bool
) -> tuple[str, str]:
    """Write files into a repository, and return its page and the commit."""
    api = HfApi()
    url = str(patiently(lambda: api.create_repo(repo, private=private, exist_ok=True)))
    there = patiently(lambda: api.list_repo_files(repo))
    if not force:
        require_decoder(repo, there)
    stale = [name for name in there if _is_ours(name) and name not in files]
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationAdd(name, content) for name, content in files.items()),
        *(CommitOperationDelete(name) for name in stale),
    ]
    text = "A decoder, exported by lmaczs"
    done = patiently(
        lambda: api.create_commit(repo, operations, commit_message=text),
        seconds=sum(map(_size, files.values())) / SLOWEST,
    )
    return url, done.oid


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _metrics_on(card: ModelCard) -> int:
    results: Any = card.data.get("eval_results")
    return len(results or ())


def _clap_source(folder: Path) -> str:
    path = folder / YAML_FILE
    # BaseLoader builds nothing, whatever tags the file has
    values: Any = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)
    source = values.get("clap_source") if isinstance(values, dict) else None
    if not isinstance(source, str):
        raise PushError(f"{path}: it names no clap_source: export the run again")
    return source


def _require_its_clap(folder: Path) -> None:
    source = _clap_source(folder)
    try:
        clap = local_folder(source, folder)
    except FileNotFoundError as error:
        raise PushError(
            f"{folder}: its CLAP {source} is missing: export again"
        ) from error
    if clap is None:
        return
    if not clap.resolve().is_relative_to(folder.resolve()):
        raise PushError(
            f"{folder}: its CLAP {source} lies outside, and would be missing on the "
            'Hub: copy it to clap/ in the folder, and write "clap" as its '
            "clap_source into interpreter.json and hyperparams.yaml"
        )


def _below(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(
            one
            for one in path.rglob("*")
            if one.is_file() and not one.name.startswith(".")
        )
    return [path] if path.is_file() else []


def _is_ours(name: str) -> bool:
    return PurePosixPath(name).parts[0] in SHARED
