"""store.py: folders of this machine and of an object store, by the same calls."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmaczs.corpus.store import Copies, Store, is_url, require_corpus
from lmaczs.utils.errors import InputError


@pytest.fixture(params=["folder", "file", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty folder of each kind."""
    if request.param == "folder":
        return Store(tmp_path / "place")
    if request.param == "file":
        return Store((tmp_path / "place").as_uri())
    return Store(request.getfixturevalue("bucket") + "/some/place")


def test_files_are_what_was_written(store: Store) -> None:
    """Replaced by the next of the name, listed in order, None where there is none."""
    require_corpus()
    assert store.read("a/x.json") is None and store.names("a") == []
    store.write("a/x.json", b"old")
    store.write("a/b/y.bin", bytes(70000))
    store.write("a/x.json", b"new")
    store.write("c.txt", b"")
    assert store.read("a/x.json") == b"new" and store.read("c.txt") == b""
    assert store.names("a") == ["a/b/y.bin", "a/x.json"]
    assert store.names("") == ["a/b/y.bin", "a/x.json", "c.txt"]
    with store.open("a/b/y.bin") as file:
        file.seek(69999)
        assert file.read() == b"\0"
    with pytest.raises(FileNotFoundError):
        store.open("a/z")


def test_what_is_not_whole_is_in_no_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a table has its name, no pattern of its tables finds it."""
    store = Store(tmp_path)
    found: list[str] = []

    def moved(part: Path, dest: Path) -> None:
        assert part.read_bytes() == b"x"
        found.extend(map(str, tmp_path.glob("*/*.parquet")))  # hidden ones, too

    monkeypatch.setattr(os, "replace", moved)
    store.write("clips/1.parquet", b"x")
    assert not found and store.names("") == []


def test_a_folder_is_copied_into_it(store: Store, tmp_path: Path) -> None:
    """With the folders in it, in place of what had the name."""
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "one.txt").write_text("1")
    (source / "deep" / "two.txt").write_text("2")
    for _ in range(2):
        store.put(source, "kept/x")
    assert store.names("kept") == ["kept/x/deep/two.txt", "kept/x/one.txt"]
    assert store.read("kept/x/deep/two.txt") == b"2"


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    """In all folders; what is whole stays."""
    store = Store(tmp_path / "place")
    store.write("scores/part=00000/1.parquet", b"x")
    left = tmp_path / "place/scores/part=00000/.2.999999999.lmaczs-part.parquet"
    left.write_bytes(b"half")
    assert store.names("scores") == ["scores/part=00000/1.parquet"]
    store.sweep()
    assert not left.exists() and store.read("scores/part=00000/1.parquet") == b"x"


def test_recordings_of_a_store_are_copied_once(bucket: str, tmp_path: Path) -> None:
    """Their names stay; the copies go; a path is its own."""
    store = Store(bucket + "/sounds")
    store.write("a/x.wav", b"RIFF")
    with Copies() as copies:
        copy = copies.path(store.url("a/x.wav"))
        assert copy.read_bytes() == b"RIFF" and copy.name == "x.wav"
        store.write("a/x.wav", b"other")
        assert copies.path(store.url("a/x.wav")).read_bytes() == b"RIFF"
        assert copies.path(str(tmp_path / "y.wav")) == tmp_path / "y.wav"
        with pytest.raises(FileNotFoundError):
            copies.path(store.url("none.wav"))
        store.write("b/x.wav", b"RIFX")  # of the same name, after one that failed
        assert copies.path(store.url("b/x.wav")).read_bytes() == b"RIFX"
        assert copies.path(store.url("a/x.wav")) == copy
    assert not copy.exists()


def test_a_file_s_url_is_its_path(tmp_path: Path) -> None:
    """It is not copied; a folder's is a folder of this machine, which can be held."""
    path = tmp_path / "a b.wav"
    with Copies() as copies:
        assert copies.path(path.as_uri()) == path
    assert Store(tmp_path.as_uri()).folder == tmp_path


def test_a_url_is_one_of_a_store_that_is_known() -> None:
    """Others are refused in a sentence."""
    assert is_url("s3://bucket/x") and not is_url("/a/b") and not is_url(Path("c:/d"))
    with pytest.raises(InputError, match="nothing://x is no place that can be opened"):
        Store("nothing://x")
