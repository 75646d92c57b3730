"""Files of a stranger's folder: regular ones in it, of a bounded size, and text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmaczs.utils.errors import InputError
from lmaczs.utils.plain_files import read_plain, read_plain_json, require_plain


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file, and a secret beside it."""
    (tmp_path / "secret.json").write_text('{"password": 1}')
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.json").write_text('{"a": 1}')
    return tmp_path / "model"


def test_a_file_is_read(folder: Path) -> None:
    """Also through a link within the folder."""
    (folder / "b.json").symlink_to("a.json")
    assert require_plain(folder, "b.json", 8) == folder / "b.json"
    assert read_plain_json(folder, "b.json", 8) == {"a": 1}


@pytest.mark.parametrize("target", ["../secret.json", "/dev/zero", "/dev/stdin"])
def test_a_link_out_of_the_folder_is_not_followed(target: str, folder: Path) -> None:
    """Nor one by way of a folder."""
    (folder / "b.json").symlink_to(target)
    (folder / "up").symlink_to("..")
    for name in ("b.json", "up/secret.json"):
        with pytest.raises(InputError, match="is a link out of"):
            read_plain(folder, name, 100)


def test_what_is_no_file_is_not_opened(folder: Path) -> None:
    """A pipe would block for ever."""
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    for name in ("pipe.json", "folder.json"):
        with pytest.raises(InputError, match="is no regular file"):
            read_plain(folder, name, 100)
    with pytest.raises(FileNotFoundError):
        read_plain(folder, "gone.json", 100)


def test_links_in_a_circle_are_one_sentence(folder: Path) -> None:
    """Which Python reports as another error than those of files."""
    (folder / "circle").symlink_to("circle")
    with pytest.raises(InputError, match="circle cannot be read"):
        require_plain(folder, "circle")


def test_a_larger_file_is_not_read(folder: Path) -> None:
    """Whatever its content; a file with holes takes no room of the disk."""
    with (folder / "b.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="has 1099511627776 bytes"):
        read_plain(folder, "b.json", 100)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe", "is not UTF-8"),
        (b"{", "is damaged"),
        (b"[1]", "holds no mapping"),
        (b"[" * 50_000, "is damaged"),
    ],
)
def test_what_is_no_json_mapping_is_one_sentence(
    content: bytes, reason: str, folder: Path
) -> None:
    """Also what is nested too deeply for the reader."""
    (folder / "b.json").write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_plain_json(folder, "b.json", 100_000)


def test_the_cache_of_the_hub_may_hold_links(tmp_path: Path) -> None:
    """From snapshots/COMMIT/ to blobs/, and to nothing outside the repository."""
    blobs, commit = tmp_path / "repo" / "blobs", tmp_path / "repo" / "snapshots" / "1"
    blobs.mkdir(parents=True)
    commit.mkdir(parents=True)
    (blobs / "x").write_text("{}")
    (commit / "a.json").symlink_to("../../blobs/x")
    (commit / "clap").mkdir()
    (commit / "clap" / "a.json").symlink_to("../../../blobs/x")
    for folder in (commit, commit / "clap"):
        assert read_plain_json(folder, "a.json", 2) == {}
    (tmp_path / "secret").touch()
    (commit / "b.json").symlink_to("../../../secret")
    with pytest.raises(InputError, match="is a link out of"):
        read_plain(commit, "b.json", 2)
