"""Search in a corpus of many clips: exact, and by FAISS.

    python benchmarks/search.py [--clips 100000] [--like DIR] [--size 128]

Embeddings are made: with --like near those of a corpus that `lmaczs corpus` wrote,
between two of them and with noise; else of a mixture of Gaussians. Printed are seconds
to gather them from the blocks, to make FAISS's index, and of a search for ten clips,
and the share of the ten nearest that FAISS finds. Queries are embeddings of others.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from lmaczs.corpus.run import Corpus, read_corpus
from lmaczs.corpus.search import Embeddings
from lmaczs.corpus.store import Store
from lmaczs.corpus.tables import EMBEDDING, PLAN, clips_schema, file_of, to_parquet

BLOCK, QUERIES, TOP = 1000, 20, 10


def centres_of(like: Path | None, size: int) -> np.ndarray:
    """Embeddings that others are made from."""
    if like is None:
        return np.random.default_rng(0).normal(size=(3000, size)).astype(np.float32)
    store = Store(like)
    corpus = read_corpus(store)
    if corpus is None:
        raise SystemExit(f"{like} holds no corpus")
    return np.array(Embeddings(store, corpus).vectors)


def made(centres: np.ndarray, seed: int, count: int) -> np.ndarray:
    """Embeddings between two others, with noise; unit norm."""
    draw = np.random.default_rng(seed)
    one, other = (centres[draw.integers(len(centres), size=count)] for _ in range(2))
    share = draw.random((count, 1))
    rows = share * one + (1 - share) * other
    spread = 0.3 * np.abs(rows).mean()
    rows = rows + spread * draw.normal(size=rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def write(store: Store, centres: np.ndarray, clips: int) -> Corpus:
    """Write the table `clips` of a corpus, without recordings."""
    schema = clips_schema(centres.shape[1], pa.schema(PLAN))
    for block in range(clips // BLOCK):
        vectors = made(centres, block, BLOCK)
        rows = [
            {
                "clip": block * BLOCK + n,
                "window": 0,
                "path": f"/{n}.wav",
                "sha256": "",
                "start": 0.0,
                "stop": 5.0,
                EMBEDDING: vector,
            }
            for n, vector in enumerate(vectors)
        ]
        store.write(file_of("clips", block), to_parquet(rows, schema, "clips", {}))
    return Corpus({}, {"channel": None}, BLOCK, "made", clips, clips // BLOCK)


def searched(
    embeddings: Embeddings, queries: np.ndarray, exact: bool
) -> Iterator[tuple[float, set[int]]]:
    """Seconds, and the clips that are found, of each query."""
    for query in queries:
        begin = time.perf_counter()
        hits = embeddings.nearest(query, TOP, exact)
        yield time.perf_counter() - begin, {hit.clip for hit in hits}


def main() -> None:
    """Make, gather, search, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--like", type=Path)
    args = parser.parse_args()
    centres = centres_of(args.like, args.size)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        corpus = write(store, centres, args.clips)
        times = [time.perf_counter()]
        embeddings = Embeddings(store, corpus)
        times.append(time.perf_counter())
        queries = made(centres, args.clips, QUERIES)
        exact = list(searched(embeddings, queries, exact=True))
        times.append(time.perf_counter())
        embeddings.nearest(queries[0], 1, exact=False)
        times.append(time.perf_counter())
        near = list(searched(embeddings, queries, exact=False))
        sizes = {
            one.name: one.stat().st_size / 2**20 for one in embeddings.folder.iterdir()
        }
    pairs = zip(exact, near, strict=True)
    recall = np.mean([len(a & b) / len(a) for (_, a), (_, b) in pairs])
    print(f"{args.clips} clips, embeddings of {centres.shape[1]} numbers")
    print(f"gathered in {times[1] - times[0]:.1f} s: {sizes['embeddings.npy']:.0f} MiB")
    print(f"FAISS made in {times[3] - times[2]:.1f} s: {sizes['faiss.index']:.0f} MiB")
    print(f"exact {1000 * np.median([s for s, _ in exact]):.0f} ms")
    median = 1000 * np.median([s for s, _ in near])
    print(f"FAISS {median:.0f} ms, {100 * recall:.0f} % of the ten nearest")


if __name__ == "__main__":
    main()
