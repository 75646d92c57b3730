"""Search of a corpus: the clips whose embeddings are nearest to a text or a recording.

The embeddings are gathered from the blocks once, into a matrix on this machine that is
read where it lies. Exact search is a product with it; FAISS, an extra, looks at a part
of it only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pooch
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from lmaczs.corpus.run import Corpus, windows_in
from lmaczs.corpus.store import Store
from lmaczs.corpus.tables import EMBEDDING, WHOLE, blocks_of, file_of
from lmaczs.utils.digests import digest
from lmaczs.utils.errors import InputError
from lmaczs.utils.extras import require_packages
from lmaczs.utils.files import atomic_folder, atomic_write, sweep
from lmaczs.utils.locks import locked

FOLDER = "search"
GATHERED = "gathered"
"""Folder in it, which is replaced as a whole."""

ABOUT, VECTORS, KEYS, FAISS = "about.json", "embeddings.npy", "clips.npy", "faiss.index"

PATIENCE = 3600.0
"""Seconds for another search to gather the embeddings, or to make FAISS's index."""

AT_ONCE = 1 << 18
"""Embeddings that are compared at once."""

MORE = 8
"""Windows that are looked at for each hit, so that clips of many windows leave room."""

FEW = 10_000
"""Embeddings, of which fewer are all compared in any case."""

PROBED = 0.02
"""Share of FAISS's lists that are looked at, at least 16; N embeddings are divided into
the square root of N lists."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Hit:
    """A clip that is near, by its nearest window.

    Attributes
    ----------
    similarity : float
        Cosine of the query and the window.
    path : str
        Of the recording.
    sha256 : str
        Of the recording, when it was read for the corpus.
    start, stop : float
        Of the window in it, seconds.
    clip, window : int
        Their numbers in the corpus.
    channel : int or None
        The only channel that was read; None: the mean over all.
    embedding : ndarray [D]
        Of the window.
    """

    similarity: float
    path: str
    sha256: str
    start: float
    stop: float
    clip: int
    window: int
    channel: int | None
    embedding: Vectors


class Embeddings:
    """The embeddings of a corpus, on this machine.

    Parameters
    ----------
    store : Store
        The corpus.
    corpus : Corpus
        What it is made of.
    progress : bool
        Whether progress is shown where stderr is a terminal, when they are gathered.

    Raises
    ------
    InputError
        If no block is done.
    """

    def __init__(self, store: Store, corpus: Corpus, progress: bool = False) -> None:
        self.store, self.corpus = store, corpus
        states = store.states(WHOLE)
        blocks = sorted(blocks_of(name for name, *_ in states))
        if not blocks:
            raise InputError(f"{store.place}: no block of this corpus is done")
        made_of = digest([corpus.model, corpus.plan, states])
        self.about = {"blocks": len(blocks), "made_of": made_of}
        self.held = _folder_of(store)
        self.folder = self.held / GATHERED
        self.held.mkdir(parents=True, exist_ok=True)
        with locked(self.held, PATIENCE):
            sweep(self.held)
            if not self._is_ours():
                with atomic_folder(self.folder) as part:
                    shown = tqdm(
                        blocks, unit="block", disable=None if progress else True
                    )
                    _gather(store, iter(shown), part)
                    (part / ABOUT).write_text(json.dumps(self.about))
            # mapped files stay what they are where others are put in their place
            self.vectors: Vectors = np.load(self.folder / VECTORS, mmap_mode="r")
            self.keys: npt.NDArray[np.int64] = np.load(self.folder / KEYS, "r")

    def nearest(self, query: Vectors, count: int, exact: bool = True) -> list[Hit]:
        """Clips that are nearest to a query, the nearest first.

        Parameters
        ----------
        query : ndarray [D]
            Embedding, unit norm.
        count : int
            Of clips, at most.
        exact : bool
            Whether all are compared; else FAISS is asked.

        Returns
        -------
        list of Hit

        Raises
        ------
        MissingExtraError
            If FAISS is asked and cannot be imported.
        """
        wanted = count * MORE
        while True:
            wanted = min(wanted, len(self.vectors))
            whole = exact or len(self.vectors) < FEW
            rows = self._rows(query, wanted) if whole else self._by_faiss(query, wanted)
            rows = np.sort(rows)  # of windows that are as near, the first comes first
            order = rows[np.argsort(-(self.vectors[rows] @ query), kind="stable")]
            best: dict[int, int] = {}  # a clip's nearest window
            for row in order:
                best.setdefault(int(self.keys[row, 0]), int(row))
            if len(best) >= count or wanted == len(self.vectors):
                return [self._hit(query, row) for row in [*best.values()][:count]]
            wanted *= MORE

    def _rows(self, query: Vectors, count: int) -> npt.NDArray[np.int64]:
        """Rows of the nearest windows, in no order."""
        best = np.zeros(0, np.int64)
        cosines = np.zeros(0, np.float32)
        for first in range(0, len(self.vectors), AT_ONCE):
            part = self.vectors[first : first + AT_ONCE] @ query
            cosines = np.concatenate([cosines, part])
            best = np.concatenate([best, np.arange(first, first + len(part))])
            if len(best) > count:
                chosen = np.argpartition(-cosines, count - 1)[:count]
                best, cosines = best[chosen], cosines[chosen]
        return best

    def _by_faiss(self, query: Vectors, count: int) -> npt.NDArray[np.int64]:
        index = self._faiss()
        probed = max(16, round(PROBED * index.nlist))
        index.nprobe = min(index.nlist, probed)
        _, rows = index.search(query[None], count)
        found: npt.NDArray[np.int64] = rows[0][rows[0] >= 0]
        return found

    def _faiss(self) -> Any:
        """FAISS's index of the embeddings, made where it is not there."""
        require_packages(["faiss"], "search")
        import faiss

        path = self.folder / FAISS
        with locked(self.held, PATIENCE):
            ours = self._is_ours()  # another search may have gathered others by now
            if ours and path.is_file():
                return faiss.read_index(str(path))
            index = _indexed(self.vectors)
            if ours:
                with atomic_write(path) as part:
                    faiss.write_index(index, str(part))
        return index

    def _is_ours(self) -> bool:
        """Whether what is gathered is of the blocks that were there at the begin."""
        try:
            return bool(json.loads((self.folder / ABOUT).read_text()) == self.about)
        except (OSError, ValueError):
            return False

    def _hit(self, query: Vectors, row: int) -> Hit:
        clip, window = map(int, self.keys[row])
        found = windows_in(self.store, clip // self.corpus.block_clips)[clip, window]
        embedding = np.array(self.vectors[row])
        similarity, channel = float(embedding @ query), self.corpus.wanted["channel"]
        return Hit(similarity, channel=channel, embedding=embedding, **found)


def _folder_of(store: Store) -> Path:
    """Where embeddings are gathered: in the corpus, or for this user."""
    if store.folder is not None and os.access(store.folder, os.W_OK):
        return store.folder / FOLDER
    return Path(pooch.os_cache("lmaczs"), FOLDER, digest([store.path("")]))


def _indexed(vectors: Vectors) -> Any:
    """FAISS's index of embeddings."""
    import faiss

    count, size = vectors.shape
    lists = max(1, min(count // 40, round(count**0.5)))
    index = faiss.index_factory(size, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(0).permutation(count)[: 64 * lists]
    index.train(np.ascontiguousarray(vectors[np.sort(sample)]))
    for first in range(0, count, AT_ONCE):
        index.add(np.ascontiguousarray(vectors[first : first + AT_ONCE]))
    return index


def _gather(store: Store, blocks: Iterator[int], folder: Path) -> None:
    """Write the embeddings of blocks, and the clip and window of each, as arrays."""
    keys = []
    with (folder / "raw").open("wb") as raw:
        for block in blocks:
            with store.open(file_of(WHOLE, block)) as source:
                columns = ["clip", "window", EMBEDDING]
                table = pq.read_table(source, columns=columns)
            table = table.filter(pc.is_valid(table[EMBEDDING]))
            for chunk in table[EMBEDDING].chunks:
                raw.write(np.ascontiguousarray(chunk.flatten(), np.float32).tobytes())
            keys.append(np.stack([table["clip"], table["window"]], 1).astype(np.int64))
            size = table.schema.field(EMBEDDING).type.list_size
    np.save(folder / KEYS, np.concatenate(keys))
    shape = (sum(map(len, keys)), size)
    if not shape[0]:
        raise InputError(
            f"{store.place}: there is no embedding, all clips are silence or cannot be "
            "read"
        )
    vectors = np.memmap(folder / "raw", np.float32, "r", shape=shape)
    np.save(folder / VECTORS, vectors)
    (folder / "raw").unlink()
