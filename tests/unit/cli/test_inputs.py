"""inputs.py: which recordings a command line names."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import pytest

from lmaczs.cli.inputs import add_files, find_inputs, recordings_below
from lmaczs.utils.errors import InputError
from lmaczs.utils.result_folder import ResultState, write_state


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Recordings in folders, beside what is none; the process goes there."""
    for name in (
        *("b.wav", "day 1/a.WAV", "day 1/deep/c.flac", "day 2/d.mp3", "notes.txt"),
        *("day 1/.hidden.wav", ".git/e.wav", "empty/notes.txt", "a[1].wav"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*words: str, files_from: str | None = None) -> list[str]:
    """Names of what words stand for; there is no problem."""
    inputs = find_inputs(map(Path, words), files_from)
    assert inputs.problems == []
    return [path.as_posix() for path in inputs.paths]


def test_folders_are_searched_for_recordings(tree: Path) -> None:
    """To any depth, by name; hidden files and other kinds are left out."""
    days = ["day 1/a.WAV", "day 1/deep/c.flac"]
    assert found("day 1") == days
    assert found(".") == ["a[1].wav", "b.wav", *days, "day 2/d.mp3"]


def test_results_are_no_recordings(tree: Path) -> None:
    """Of whatever run; but their own folder may be named."""
    write_state(tree / "out" / "b", ResultState("b.wav", "", {}, {}))
    (tree / "out" / "b" / "input.wav").touch()
    saved = tree / "saved" / "dog"
    saved.mkdir(parents=True)
    (saved / "explanation.wav").touch()
    (saved / "explanation.json").write_text('{"lmaczs_version": "0"}')
    (tree / "out" / "scenes").mkdir()
    (tree / "out" / "scenes" / "s.wav").touch()
    assert found("out", "saved/dog") == [
        "out/scenes/s.wav",
        "saved/dog/explanation.wav",
    ]
    assert list(recordings_below(tree / "saved")) == []
    copies = tree / "saved" / "x.wav"
    for name, data in (("ours", "lmaczsAdd({});"), ("mine", "var data = {};")):
        (copies / name).mkdir(parents=True)
        (copies / name / "input.wav").touch()
        (copies / name / "page_data.js").write_text(data)
    (tree / "corpus").mkdir()
    (tree / "corpus" / "x.wav").touch()
    (tree / "corpus" / "corpus.json").write_text('{"lmaczs_version": "0"}')
    assert found("saved") == ["saved/x.wav/mine/input.wav"]
    assert "corpus/x.wav" not in found(".")


def test_patterns_are_searched_where_the_shell_did_not(tree: Path) -> None:
    """Also through folders; a file that has such a name is itself."""
    assert found("day*/*.[wm]*") == ["day 2/d.mp3"]
    assert found("**/*.flac") == ["day 1/deep/c.flac"]
    assert found("day ?") == ["day 1/a.WAV", "day 1/deep/c.flac", "day 2/d.mp3"]
    assert found("a[1].wav") == ["a[1].wav"]


def test_each_recording_counts_once(tree: Path) -> None:
    """However it is named, in the order of the words; a link is its own recording."""
    (tree / "link.wav").symlink_to(tree / "b.wav")
    words = ["b.wav", "./b.wav", "day 2/../b.wav", str(tree / "b.wav"), "link.wav"]
    assert found("day 2", *words, "*.wav") == [
        *("day 2/d.mp3", "b.wav", "link.wav", "a[1].wav"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"b.wav\nday 2\n\nmissing.wav\n",
        b"\xef\xbb\xbfb.wav\r\nday 2\r\nmissing.wav",
        b"b.wav\0day 2\0missing.wav\0",
    ],
)
def test_lists(tree: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or stdin, lines or find -print0; beside words of the command line."""
    (tree / "list.txt").write_bytes(content)
    expected = ["b.wav", "day 2/d.mp3", "missing.wav"]
    assert found(files_from="list.txt") == expected
    stdin = io.TextIOWrapper(io.BytesIO(content))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert found("day 1/a.WAV", files_from="-") == ["day 1/a.WAV", *expected]


def test_names_of_a_list_may_be_any_bytes(tree: Path) -> None:
    """As they are on the disk."""
    (tree / "list.txt").write_bytes(b"caf\xe9.wav\n")
    (path,) = find_inputs([], "list.txt").paths
    assert bytes(path) == b"caf\xe9.wav"


def test_names_of_a_list_end_where_its_lines_do(tree: Path) -> None:
    """Not at other characters that Python takes for the end of a line."""
    names = ["a\u2028b.wav", "c\x0bd.wav", "e\x85f.wav"]
    (tree / "list.txt").write_text("\n".join(names), "utf-8", newline="\r\n")
    assert [str(one) for one in find_inputs([], "list.txt").paths] == names


def test_words_that_name_nothing(tree: Path) -> None:
    """A sentence each; the others count. Missing files are found when they are read."""
    inputs = find_inputs(map(Path, ["empty", "b.wav", "*.ogg", "missing.wav"]), None)
    assert inputs.paths == [Path("b.wav"), Path("missing.wav")]
    assert inputs.problems == [
        "empty: there is no recording in this folder",
        "*.ogg: no file matches this pattern",
    ]


@pytest.mark.parametrize(
    "files_from, message",
    [
        (None, "give a FILE, a folder or --files-from LIST"),
        ("none.txt", "--files-from none.txt cannot be read: No such file"),
        ("blank.txt", "--files-from blank.txt is empty"),
    ],
)
def test_no_recording_at_all(tree: Path, files_from: str | None, message: str) -> None:
    """Refused before anything is loaded."""
    (tree / "blank.txt").write_text("\n \n")
    with pytest.raises(InputError, match=message):
        find_inputs([], files_from)


def test_options() -> None:
    """Files come first or last, or not at all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompt")
    add_files(parser)
    args = parser.parse_args(["--prompt", "rain", "a.wav", "b.wav"])
    assert args.files == [Path("a.wav"), Path("b.wav")]
    args = parser.parse_args(["a.wav", "b", "--files-from", "-"])
    assert args.files == [Path("a.wav"), Path("b")] and args.files_from == "-"
    assert parser.parse_args([]).files == []
