"""A corpus: what it is made of, which of its blocks are whole, and the work on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lmaczs import __version__
from lmaczs.corpus.block import BlockWorker
from lmaczs.corpus.engines import AllLost
from lmaczs.corpus.growth import grow, other_corpus
from lmaczs.corpus.plan import plan_file, planned
from lmaczs.corpus.rows import Wanted
from lmaczs.corpus.store import Store
from lmaczs.corpus.tables import (
    SCHEMA_VERSION,
    STATE,
    TABLES,
    WHOLE,
    blocks_of,
    failure_text,
    file_of,
)
from lmaczs.interpreter import ZeroShotInterpreter
from lmaczs.utils.digests import fingerprint
from lmaczs.utils.errors import InputError

Loader = Callable[[], ZeroShotInterpreter]


@dataclass(frozen=True)
class Corpus:
    """What corpus.json holds.

    Attributes
    ----------
    model : dict
        What rows depend on of the model: its name, its template and its weights.
    wanted : dict
        Of `Wanted`.
    block_clips : int
        Clips of a block.
    plan : str
        Digest of the clips, in the order in which they were given last.
    clips : int
        Of the plan.
    blocks : int
        Of the plan.
    schema : int
        Version of the tables' schema.
    lmaczs_version : str
        That makes it.
    """

    model: dict[str, Any]
    wanted: dict[str, Any]
    block_clips: int
    plan: str
    clips: int
    blocks: int
    schema: int = SCHEMA_VERSION
    lmaczs_version: str = __version__

    @property
    def about(self) -> dict[str, Any]:
        """What the metadata of its tables say of it."""
        return {**self.model, "lmaczs_version": self.lmaczs_version}


def read_corpus(store: Store) -> Corpus | None:
    """Read what a corpus is made of; None where there is none.

    InputError if it is of another version.
    """
    content = store.read(STATE)
    if content is None:
        return None
    try:
        return Corpus(**json.loads(content))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{store.place}: its {STATE} was not written by this version of lmaczs "
            f"({__version__}): name another folder"
        ) from error


def begin(
    store: Store,
    clips: Iterable[pa.Table],
    model: Mapping[str, Any],
    wanted: Wanted,
    block_clips: int,
) -> Corpus:
    """Plan a corpus, or find the one that was begun, and add clips that are new.

    Parameters
    ----------
    store : Store
        Where it is written.
    clips : iterable of Table
        See `lmaczs.corpus.plan.planned`. It is iterated over twice where clips are new.
    model : mapping of str to Any
        What rows depend on of the model.
    wanted : Wanted
        What is wanted of every clip.
    block_clips : int
        Clips of a block.

    Returns
    -------
    Corpus

    Raises
    ------
    InputError
        If there is a corpus with clips that are not given, or made otherwise; or there
        is no clip.
    """
    known = read_corpus(store)
    if known is None and store.names(WHOLE):
        raise InputError(
            f"--out {store.place} has a folder {WHOLE}, but no {STATE}: it is no "
            "corpus that can be resumed; name another folder"
        )
    digest, count, blocks = hashlib.sha256(), 0, 0
    for file in planned(clips, block_clips):
        digest.update(file.digest())
        count, blocks = count + len(file.table), blocks + file.blocks
        if known is None:
            store.write(plan_file(file.number), file.to_bytes())
    if not count:
        raise InputError("there is no clip: give recordings or a manifest")
    made = Corpus(
        dict(model), as_json(wanted), block_clips, digest.hexdigest(), count, blocks
    )
    if known is not None:
        made = _resumed(store, known, made, clips)
    if made != known:
        content = json.dumps(asdict(made), indent=1) + "\n"
        store.write(STATE, content.encode())
    return made


def _resumed(
    store: Store, known: Corpus, made: Corpus, clips: Iterable[pa.Table]
) -> Corpus:
    """A corpus that was begun, with the clips that are new; an error if it is none."""
    plan = {name: getattr(known, name) for name in ("plan", "clips", "blocks")}
    if replace(made, **plan) != known:
        raise other_corpus(store, _difference(known, made))
    if made.plan == known.plan:
        return known
    return replace(made, blocks=grow(store, clips, known.block_clips, known.blocks))


def as_json(wanted: Wanted) -> dict[str, Any]:
    """As corpus.json has it."""
    return {**asdict(wanted), "prompts": list(wanted.prompts)}


def _difference(known: Corpus, made: Corpus) -> str:
    """How a sentence goes on about a corpus that is another one."""
    if known.wanted["prompts"] != made.wanted["prompts"]:
        return "of other prompts"
    own = ("block_clips", "lmaczs_version", "schema")
    old, new = (
        {**{name: getattr(one, name) for name in own}, **one.model, **one.wanted}
        for one in (known, made)
    )
    name = next(name for name in {**old, **new} if old.get(name) != new.get(name))
    was, wanted = (_as_typed(name, one.get(name)) for one in (old, new))
    return f"made with {was}, not {wanted}"


def _as_typed(name: str, value: Any) -> str:
    """A value of a corpus as the command line has it, or in words."""
    option = f"--{name.replace('_', '-')}"
    match name:
        case "events":
            return "events" if value else "--no-events"
        case "strict" | "keep" if not value:
            return f"no {option}"
        case "strict":
            return option
        case "keep":
            return f"{option} {value!r}"
        case "refine" | "channel" | "precision" | "block_clips":
            defaults = {"refine": "off", "channel": "mix", "precision": "fp32"}
            return f"{option} {value or defaults[name]}"
    return f"the {name.removeprefix('lmaczs_')} {value!r}"


def left(store: Store, corpus: Corpus) -> list[int]:
    """Blocks that are not whole."""
    whole = blocks_of(store.names(WHOLE))
    return [block for block in range(corpus.blocks) if block not in whole]


def failures_in(store: Store, blocks: Iterable[int]) -> tuple[int, str]:
    """Clips of whole blocks that could not be read: how many, and the first, with why.

    The text is empty if there is none.
    """
    names = [file_of("failures", block) for block in blocks]
    table = store.table(names, TABLES["failures"])
    first = table.head(1).to_pylist()
    return table.count_rows(), failure_text(first[0]) if first else ""


def windows_in(store: Store, block: int) -> dict[tuple[int, int], dict[str, Any]]:
    """Rows of `clips` of a whole block, by clip and window: what lies where."""
    columns = ["clip", "window", "path", "sha256", "start", "stop"]
    with store.open(file_of(WHOLE, block)) as source:
        rows = pq.read_table(source, columns=columns).to_pylist()
    return {(row["clip"], row["window"]): row for row in rows}


@dataclass(frozen=True)
class MakeWorker:
    """Makes, in a process of any machine, what works on blocks of a corpus.

    Attributes
    ----------
    place : str
        Of the corpus.
    load : callable
        Loads the model.
    """

    place: str
    load: Loader

    def __call__(self) -> BlockWorker:
        """Load the model; `InputError` if it is not the corpus's."""
        store = Store(self.place)
        corpus = read_corpus(store)
        if corpus is None:
            raise InputError(f"{self.place} holds no corpus")
        interpreter = self.load()
        if fingerprint(interpreter.mods) != corpus.model["weights"]:
            raise InputError(
                f"{self.place}: the model of a worker has other weights than the "
                "corpus; give all machines the same"
            )
        return worker_of(store, corpus, interpreter)


def worker_of(
    store: Store, corpus: Corpus, interpreter: ZeroShotInterpreter
) -> BlockWorker:
    """What works on blocks of a corpus, with a model that is loaded."""
    wanted = Wanted(**{**corpus.wanted, "prompts": tuple(corpus.wanted["prompts"])})
    check = partial(require_same, store, corpus)
    return BlockWorker(store, interpreter, wanted, corpus.about, check)


def require_same(store: Store, corpus: Corpus) -> None:
    """Raise `AllLost` where another one was begun in its place: no store can be held.

    Two that are the same may be at work: they write the same.
    """
    if read_corpus(store) != corpus:
        raise AllLost(
            f"{store.place}: another `lmaczs corpus` was begun here with other clips "
            "or options: let it be done, then give this line again"
        )
