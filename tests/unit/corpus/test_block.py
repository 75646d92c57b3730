"""block.py: a block is written whole or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lmaczs.corpus.block import BlockWorker, band_edges, kept_in, kept_name
from lmaczs.corpus.engines import AllLost, Counts
from lmaczs.corpus.rows import Found
from lmaczs.corpus.run import Corpus, left, worker_of
from lmaczs.corpus.store import Copies, Store
from lmaczs.corpus.tables import STATE, TABLES, file_of
from lmaczs.interpreter import ZeroShotInterpreter
from lmaczs.utils.naming import SAVED

Begun = tuple[Store, Corpus]


@pytest.fixture
def worker(corpus: Begun, interpreter: ZeroShotInterpreter) -> BlockWorker:
    """What works on the corpus's blocks."""
    return worker_of(*corpus, interpreter)


def read(store: Store, table: str, block: int) -> list[dict[str, Any]]:
    """Rows of a block's table."""
    content = store.read(file_of(table, block))
    assert content is not None
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(content)).to_pylist()
    return rows


def test_a_block_has_its_clips(corpus: Begun, worker: BlockWorker) -> None:
    """In every table; what comes of it is counted; others are not begun."""
    store, _ = corpus
    assert worker(2) == Counts(
        2, 2, 1, 1, 1, read(store, "failures", 2)[0]["path"] + ": " + reason(store)
    )
    (one,) = read(store, "clips", 2)
    assert (one["clip"], one["site"], one["start"], one["stop"]) == (5, "c", 4.25, 4.75)
    assert {row["clip"] for row in read(store, "scores", 2)} == {5}
    assert left(*corpus) == [0, 1]
    assert all(
        f"{name}/part=00000/00000002.parquet" in store.names("") for name in TABLES
    )


def reason(store: Store) -> str:
    """Why the empty recording cannot be read."""
    return str(read(store, "failures", 2)[0]["reason"])


def test_what_is_kept_is_where_scores_say(corpus: Begun, worker: BlockWorker) -> None:
    """Sound and picture of each, and the page's data; a second time it is replaced."""
    store, _ = corpus
    assert store.folder is not None
    for _ in range(2):
        worker(0)
        rows = read(store, "scores", 0)
        kept = [row["folder"] for row in rows if row["folder"] is not None]
        assert kept == ["kept/00000000-0/siren"]
        assert kept_in(store.folder) == [((0, 0), store.folder / "kept/00000000-0")]
        for name in (*SAVED, "../page_data.js", "../input.wav"):
            assert (store.folder / kept[0] / name).is_file()
    record = json.loads((store.folder / kept[0] / SAVED[3]).read_text())
    assert record["prompt"] == "siren" and record["recording"].endswith("siren.wav")


def test_what_is_kept_is_found_in_order(tmp_path: Path) -> None:
    """Of clips and windows; what was not written to its end is left out."""
    assert kept_in(tmp_path) == []
    keys = [(3, 2), (3, 10), (20, 0), (123456789, 1)]
    folders = {key: tmp_path / "kept" / kept_name(*key) for key in keys}
    for folder in reversed(folders.values()):
        folder.mkdir(parents=True)
    (tmp_path / "kept/.00000007-0.99.lmaczs-part").mkdir()
    assert kept_in(tmp_path) == list(folders.items())


def test_a_block_that_fails_is_not_whole(
    corpus: Begun, worker: BlockWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full before the last table, it is left to be done again."""
    store, _ = corpus
    write = store.write

    def full(name: str, data: bytes) -> None:
        if name.startswith("clips"):
            raise OSError(28, "No space left on device")
        write(name, data)

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(OSError, match="No space"):
        worker(1)
    assert left(*corpus) == [0, 1, 2]
    monkeypatch.undo()
    worker(1)
    assert left(*corpus) == [0, 2]


def test_a_block_of_another_corpus_is_not_written(
    corpus: Begun, worker: BlockWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where one was begun before, nor where while a block was worked on."""
    store, begun = corpus
    other = replace(begun, plan="other")
    write = store.write

    def begin(name: str, data: bytes) -> None:
        write(name, data)
        write(STATE, json.dumps(asdict(other)).encode())

    monkeypatch.setattr(store, "write", begin)
    for _ in range(2):
        with pytest.raises(AllLost, match="another `lmaczs corpus` was begun here"):
            worker(1)
        assert left(store, other) == [0, 1, 2]
    monkeypatch.undo()
    write(STATE, json.dumps(asdict(begun)).encode())
    worker(1)
    assert left(*corpus) == [0, 2]


def test_bands_are_the_models(interpreter: ZeroShotInterpreter) -> None:
    """One pair of limits a mel band, rising, below half the sampling rate."""
    edges = band_edges(interpreter)
    assert len(edges) == interpreter.clap.front_end.n_mels
    assert all(low <= high for low, high in edges)
    assert edges == sorted(edges) and edges[-1][1] < interpreter.sample_rate / 2


def test_a_store_holds_what_a_folder_holds(
    corpus: Begun, worker: BlockWorker, bucket: str, interpreter: ZeroShotInterpreter
) -> None:
    """The same files, to the byte, and recordings are read from a store as well."""
    store, begun = corpus
    remote = Store(bucket)
    for name in store.names(""):
        content = store.read(name)
        assert content is not None
        remote.write(name, content)
    other = worker_of(remote, begun, interpreter)
    assert other(0) == worker(0)
    assert remote.names("") == store.names("")
    for name in store.names(""):
        assert remote.read(name) == store.read(name), name


def test_recordings_in_a_store_are_as_those_of_a_folder(
    worker: BlockWorker, recordings: dict[str, Path], bucket: str
) -> None:
    """The same rows but for the path, whatever could not be read before."""
    sounds = Store(bucket)
    sounds.write("dog.wav", recordings["dog"].read_bytes())
    sounds.write("text.wav", b"this is no sound")
    bad = [sounds.url("none.wav"), sounds.url("text.wav"), "nothing://x/y.wav"]
    local, remote = (
        rows_of(worker, *bad, place).tables
        for place in (str(recordings["dog"]), sounds.url("dog.wav"))
    )
    assert remote["scores"] == local["scores"] and remote["events"] == local["events"]
    (clip,) = remote["clips"]
    assert clip == {**local["clips"][0], "path": sounds.url("dog.wav")}
    assert clip["clip"] == 3 and remote["failures"] == local["failures"]
    reasons = {row["path"]: row["reason"] for row in remote["failures"]}
    assert list(reasons) == bad and reasons[bad[0]] == "there is no such file"
    assert reasons[bad[1]].startswith("no audio in a format that is read")
    assert reasons[bad[2]].startswith("nothing://x/y.wav is no place")


def test_what_a_store_does_not_give_is_a_failure(
    worker: BlockWorker,
    recordings: dict[str, Path],
    bucket: str,
    deny: Callable[[str], None],
) -> None:
    """As what it does not have; where it gives nothing, it is the store that fails."""
    sounds = Store(bucket)
    for name in ("dog", "siren"):
        sounds.write(f"{name}.wav", recordings[name].read_bytes())
    deny(sounds.path("siren.wav"))
    places = [sounds.url(f"{name}.wav") for name in ("siren", "dog", "none")]
    found = rows_of(worker, *places).tables
    assert [row["path"] for row in found["clips"]] == [places[1]]
    assert {row["clip"] for row in found["scores"]} == {1}
    assert [(row["clip"], row["reason"]) for row in found["failures"]] == [
        (0, "the store does not let it be read"),
        (2, "there is no such file"),
    ]
    with pytest.raises(PermissionError, match="siren.wav: the store does not let"):
        rows_of(worker, places[0], places[2])


def rows_of(worker: BlockWorker, *places: str) -> Found:
    """Rows of recordings, numbered in their order."""
    times = {"start": None, "stop": None}
    with Copies() as copies:
        clips = [{"clip": n, "path": one, **times} for n, one in enumerate(places)]
        return worker.rows(clips, copies, lambda key, results: None)
