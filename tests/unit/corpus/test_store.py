"""store.py: folders of this machine and of an object store, by the same calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lmaczs.corpus.store import (
    Copies,
    Store,
    is_url,
    opened,
    require_corpus,
    url_of,
)
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


NAMES = (
    *("a b.wav", "a#1.wav", "50%.wav", "50%20.wav", "q?x=1.wav", "ü é.wav"),
    *("x[1].wav", "a&b+c;d=e.wav", "c'd\"e.wav", "m\\n.wav", "k:l@{}|^`.wav"),
)


def test_names_may_have_any_character(bucket: str, tmp_path: Path) -> None:
    """What is listed is found by its URL, of a store and of a folder."""
    for place in (f"{bucket}/my sounds", f"{tmp_path.as_uri()}/my%20sounds"):
        store = Store(place)
        for name in NAMES:
            store.write(name, name.encode())
        assert sorted(store.names("")) == sorted(NAMES)
        with Copies() as copies:
            for name in NAMES:
                copy = copies.path(store.url(name))
                assert (copy.name, copy.read_bytes()) == (name, name.encode())


def test_urls_are_escaped_or_not() -> None:
    """As people write them; a percent sign is always one of an escape."""
    for url in ("s3://b/my%20folder/%5B1%5D.wav", "s3://b/my folder/[1].wav"):
        assert opened(url)[1] == "b/my folder/[1].wav"
    assert url_of("s3://b/x/", "my 1%?.wav") == "s3://b/x/my 1%25%3F.wav"


def test_what_a_store_does_not_give_is_an_error_of_its_own(
    bucket: str, deny: Callable[[str], None]
) -> None:
    """One object is refused, others are read."""
    store = Store(bucket)
    for name in ("a.wav", "b.wav"):
        store.write(name, b"RIFF")
    deny(store.path("a.wav"))
    with Copies() as copies:
        with pytest.raises(PermissionError, match="a.wav: the store does not let it"):
            copies.path(store.url("a.wav"))
        assert copies.count == 0
        assert copies.path(store.url("b.wav")).read_bytes() == b"RIFF"
        assert copies.count == 1


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
