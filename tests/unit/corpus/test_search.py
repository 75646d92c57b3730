"""search.py: the nearest clips, whatever blocks they are in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lmaczs.corpus import search
from lmaczs.corpus.run import Corpus
from lmaczs.corpus.search import FOLDER, GATHERED, Embeddings
from lmaczs.corpus.store import Store
from lmaczs.corpus.tables import PLAN, clips_schema, file_of, to_parquet
from lmaczs.utils.errors import InputError

SIZE, CLIPS, BLOCK = 8, 60, 7


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of unit norm."""
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Embeddings [clip, window, D]; those of a clip's windows are alike."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(CLIPS, 1, SIZE))
    return unit(centres + 0.1 * generator.normal(size=(CLIPS, 12, SIZE)))


def write(store: Store, vectors: np.ndarray, blocks: int) -> Corpus:
    """A corpus of clips of twelve windows; every ninth clip is silence at its end."""
    schema = clips_schema(SIZE, pa.schema(PLAN))
    for block in range(blocks):
        rows: list[dict[str, Any]] = [
            {
                "clip": clip,
                "window": window,
                "path": f"/{clip}.wav",
                "start": float(window),
                "stop": window + 1.0,
                "sha256": str(clip),
                "embedding": None if silent(clip, window) else vectors[clip, window],
            }
            for clip in range(block * BLOCK, min(CLIPS, (block + 1) * BLOCK))
            for window in range(12)
        ]
        store.write(file_of("clips", block), to_parquet(rows, schema, "clips", {}))
    wanted = {"channel": None}
    return Corpus({}, wanted, BLOCK, "digest", CLIPS, -(-CLIPS // BLOCK))


def silent(clip: int, window: int) -> bool:
    """Whether a window is silence."""
    return clip % 9 == 0 and window > 9


def slow(vectors: np.ndarray, query: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Clip and window of the nearest, by going through all."""
    best = {}
    for clip in range(len(vectors)):
        for window in range(12):
            if not silent(clip, window):
                cosine = float(vectors[clip, window] @ query)
                best[clip] = max(best.get(clip, (-2.0, 0)), (cosine, window))
    order = sorted(best, key=lambda clip: -best[clip][0])[:count]
    return [(clip, best[clip][1]) for clip in order]


@pytest.mark.parametrize("at_once", [50, 1 << 18])
@pytest.mark.parametrize("count", [1, 5, CLIPS, 2 * CLIPS])
def test_the_nearest_clips_are_found(
    vectors: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    at_once: int,
) -> None:
    """Each once, by its nearest window, the nearest first; silence never."""
    monkeypatch.setattr(search, "AT_ONCE", at_once)
    store = Store(tmp_path)
    embeddings = Embeddings(store, write(store, vectors, 9))
    for query in unit(np.random.default_rng(1).normal(size=(5, SIZE))):
        hits = embeddings.nearest(query, count)
        assert [(h.clip, h.window) for h in hits] == slow(vectors, query, count)
        one = hits[0]
        assert (one.path, one.sha256) == (f"/{one.clip}.wav", str(one.clip))
        assert (one.start, one.stop) == (one.window, one.window + 1)
        assert one.similarity == pytest.approx(float(one.embedding @ query))
        np.testing.assert_array_equal(one.embedding, vectors[one.clip, one.window])


def test_clips_that_are_as_near_come_in_order(tmp_path: Path) -> None:
    """Of the corpus, as copies of a recording do."""
    vectors = unit(np.random.default_rng(0).normal(size=(CLIPS, 1, SIZE)))
    vectors[1::2] = vectors[1]
    store = Store(tmp_path)
    embeddings = Embeddings(store, write(store, vectors.repeat(12, 1), 9))
    hits = embeddings.nearest(vectors[1, 0], CLIPS // 2)
    assert [(hit.clip, hit.window) for hit in hits] == [
        (clip, 0) for clip in range(1, CLIPS, 2)
    ]


def test_faiss_finds_the_nearest(
    vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of so few it looks at all lists; its index is made once, and read again."""
    monkeypatch.setattr(search, "FEW", 0)
    store = Store(tmp_path)
    corpus = write(store, vectors, 9)
    for _ in range(2):
        embeddings = Embeddings(store, corpus)
        for query in unit(np.random.default_rng(1).normal(size=(5, SIZE))):
            hits = embeddings.nearest(query, 5, exact=False)
            expected = slow(vectors, query, 5)
            assert [(hit.clip, hit.window) for hit in hits] == expected
    written = (tmp_path / FOLDER / GATHERED / "faiss.index").stat().st_mtime_ns
    Embeddings(store, corpus).nearest(vectors[0, 0], 1, exact=False)
    assert (tmp_path / FOLDER / GATHERED / "faiss.index").stat().st_mtime_ns == written


def test_embeddings_are_gathered_again_when_there_are_more(
    vectors: np.ndarray, tmp_path: Path
) -> None:
    """Of a corpus that is not finished those that are there; what is there is kept."""
    store = Store(tmp_path)
    corpus = write(store, vectors, 4)
    few = Embeddings(store, corpus)
    assert len(np.unique(few.keys[:, 0])) == 4 * BLOCK
    about = tmp_path / FOLDER / GATHERED / "about.json"
    before = about.stat().st_mtime_ns
    Embeddings(store, corpus)
    assert about.stat().st_mtime_ns == before
    write(store, vectors, 9)
    assert len(np.unique(Embeddings(store, corpus).keys[:, 0])) == CLIPS
    assert json.loads(about.read_text())["blocks"] == 9


def test_embeddings_are_gathered_again_when_they_are_others(
    vectors: np.ndarray, tmp_path: Path
) -> None:
    """Of blocks that were done again, and of another corpus of as many."""
    store = Store(tmp_path)
    corpus = write(store, vectors, 9)
    (before,) = Embeddings(store, corpus).nearest(vectors[3, 0], 1)
    assert before.clip == 3
    write(store, np.roll(vectors, 1, 0), 9)
    (after,) = Embeddings(store, corpus).nearest(vectors[3, 0], 1)
    assert after.clip == 4
    about = tmp_path / FOLDER / GATHERED / "about.json"
    written = about.read_text()
    Embeddings(store, replace(corpus, model={"weights": "x"}))
    assert about.read_text() != written


def test_two_searches_gather_once(vectors: np.ndarray, tmp_path: Path) -> None:
    """The one that comes while another gathers waits for it."""
    store = Store(tmp_path)
    corpus = write(store, vectors, 9)
    opened, found = [], []

    class Watched(Store):
        """The corpus, of which a second search is begun when the first one reads."""

        def open(self, name: str) -> Any:
            opened.append(name)
            if len(opened) == 1:
                second.start()
            return super().open(name)

    watched = Watched(tmp_path)
    second = Thread(target=lambda: found.append(Embeddings(watched, corpus)))
    first = Embeddings(watched, corpus)
    second.join()
    assert len(opened) == 9 and len(found) == 1
    np.testing.assert_array_equal(found[0].vectors, first.vectors)


def test_an_index_is_of_its_embeddings(
    vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that began before blocks were added leaves none for later ones."""
    monkeypatch.setattr(search, "FEW", 0)
    store = Store(tmp_path)
    early = Embeddings(store, write(store, vectors, 4))
    late = Embeddings(store, write(store, vectors, 9))
    for _ in range(2):
        (hit,) = early.nearest(vectors[5, 0], 1, exact=False)
        assert hit.clip == 5
    (hit,) = late.nearest(vectors[CLIPS - 1, 0], 1, exact=False)
    assert hit.clip == CLIPS - 1
    (hit,) = early.nearest(vectors[5, 0], 1, exact=False)
    assert hit.clip == 5


def test_a_corpus_that_cannot_be_written_is_searched(
    vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its embeddings are gathered for the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write all
    store = Store(tmp_path / "corpus")
    corpus = write(store, vectors, 9)
    (hit,) = Embeddings(store, corpus).nearest(vectors[3, 2], 1)
    assert (hit.clip, hit.window) == (3, 2)
    assert not (tmp_path / "corpus" / FOLDER).exists()


def test_a_corpus_in_a_store_is_gathered_for_the_user(
    vectors: np.ndarray, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is written into the store."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = Store(bucket)
    corpus = write(store, vectors, 9)
    names = store.names("")
    (hit,) = Embeddings(store, corpus).nearest(vectors[3, 2], 1)
    assert (hit.clip, hit.window) == (3, 2)
    assert store.names("") == names and list(tmp_path.rglob("embeddings.npy"))


def test_nothing_to_search_in_is_an_error(vectors: np.ndarray, tmp_path: Path) -> None:
    """No block, and no sound."""
    store = Store(tmp_path)
    corpus = write(store, vectors, 0)
    with pytest.raises(InputError, match="no block of this corpus is done"):
        Embeddings(store, corpus)
    schema = clips_schema(SIZE, pa.schema(PLAN))
    rows = [{"clip": 0, "window": 0, "embedding": None}]
    store.write(file_of("clips", 0), to_parquet(rows, schema, "clips", {}))
    with pytest.raises(InputError, match="all clips are silence or cannot be read"):
        Embeddings(store, replace(corpus, blocks=1))
