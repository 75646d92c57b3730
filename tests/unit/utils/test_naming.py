"""naming.py: folders of recordings, chosen so that no other file is ever replaced."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.utils.naming import (
    Recordings,
    recording_folders,
    short_names,
    slugify,
    unique_slugs,
)
from lmaczs.utils.result_folder import ResultState, origin_of, write_state

WRITTEN = (
    "input.wav",
    "input.flac",
    "page_data.js",
    "recording.json",
    "dog/explanation.wav",
    "dog/residual.wav",
    "dog/explanation.flac",
    "dog/residual.flac",
    "dog/explanation.png",
    "dog/explanation.json",
)


def file(path: Path) -> Path:
    """Write a file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"RIFF")
    return path


def folder_of(out: Path, recording: Path, *others: Path) -> str:
    """Name of the folder of a recording with the prompt "a dog"."""
    prompts = dict.fromkeys((recording, *others), ["dog"])
    return recording_folders(out, prompts)[recording].name


def test_a_recording_lends_its_stem_to_its_folder(tmp_path: Path) -> None:
    """Where nothing is in the way the folder has the name of the recording."""
    path = file(tmp_path / "a.wav")
    assert recording_folders(tmp_path, {path: ["dog"]}) == {path: tmp_path / "a"}


@pytest.mark.parametrize("name", WRITTEN)
def test_whatever_is_written_falls_on_no_recording(tmp_path: Path, name: str) -> None:
    """Neither on the recording itself nor on another one of the same command line."""
    other = file(tmp_path / "a" / name)
    assert folder_of(tmp_path, tmp_path / "a.wav", other) == "a-2"
    own = file(tmp_path / "out" / other.stem / name)
    assert folder_of(tmp_path / "out", own) == f"{own.stem}-2"


@pytest.mark.parametrize("name", ["a", "a/dog"])
def test_a_folder_is_not_wanted_where_a_recording_stands(
    tmp_path: Path, name: str
) -> None:
    """A recording without a suffix may have a folder's name."""
    other = file(tmp_path / name)
    assert folder_of(tmp_path, tmp_path / "a.wav", other) == "a-2"


def test_relative_paths_and_dots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the folder and the recording are spelt, they are the same places."""
    file(tmp_path / "input" / "input.wav")
    monkeypatch.chdir(tmp_path)
    spelt = Path("input") / ".." / "input" / "input.wav"
    for out in (Path("."), tmp_path, tmp_path / "input" / ".."):
        for path in (Path("input/input.wav"), spelt, tmp_path / spelt):
            assert folder_of(out, path) == "input-2"
    monkeypatch.chdir(tmp_path / "input")
    assert folder_of(Path(".."), Path("input.wav")) == "input-2"
    assert folder_of(Path("."), Path("input.wav")) == "input"


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    """Neither the recording that a link leads to nor a link that was given is lost."""
    path = file(tmp_path / "elsewhere" / "a.wav")
    (tmp_path / "a").mkdir()
    link(path, tmp_path / "a" / "input.wav")
    assert folder_of(tmp_path, path) == "a-2"
    assert (
        folder_of(tmp_path, tmp_path / "a.wav", tmp_path / "a" / "input.wav") == "a-2"
    )


def test_linked_folders(tmp_path: Path) -> None:
    """A folder of results that is a link to the recording's own is avoided."""
    path = file(tmp_path / "sounds" / "input.wav")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "input").symlink_to(path.parent)
    assert folder_of(tmp_path / "out", path) == "input-2"


def test_case_is_ignored(tmp_path: Path) -> None:
    """On a file system that ignores case Input.WAV is input.wav."""
    path = file(tmp_path / "Input" / "Input.WAV")
    assert folder_of(tmp_path, path) == "Input-2"
    path = file(tmp_path / "caf\u00e9" / "input.wav")
    assert path in Recordings([tmp_path / "cafe\u0301" / "input.wav"])


def test_names_that_some_file_system_takes_for_one(tmp_path: Path) -> None:
    """Composed marks (macOS), and dots and blanks at the end (Windows)."""
    names = ("caf\u00e9", "cafe\u0301", "a", "a.", "a ", "A. .", ".. ")
    paths = [tmp_path / str(n) / f"{name}.wav" for n, name in enumerate(names)]
    folders = recording_folders(tmp_path / "out", dict.fromkeys(paths, ["dog"]))
    found = [folders[path].name for path in paths]
    assert found == [
        *("caf\u00e9", "cafe\u0301-2", "a", "a.-2", "a -2", "A. .-2", "recording")
    ]


def test_numbers_go_up_until_a_place_is_free(tmp_path: Path) -> None:
    """A second choice may be taken by a recording or by a folder, too."""
    path = file(tmp_path / "input" / "input.wav")
    other = file(tmp_path / "input-2" / "input.wav")
    third = tmp_path / "input-3.wav"
    prompts = dict.fromkeys((third, path, other), ["dog"])
    folders = recording_folders(tmp_path, prompts)
    assert [folder.name for folder in folders.values()] == [
        "input-3",
        "input-4",
        "input-5",
    ]


def results(folder: Path, path: Path) -> None:
    """Write what an earlier run leaves in a recording's folder."""
    for name in WRITTEN:
        file(folder / name)
    write_state(folder, ResultState(**origin_of(path), options={}, prompts={}))
    record = {**origin_of(path), "lmaczs_version": "0"}
    (folder / "dog" / "explanation.json").write_text(json.dumps(record))


@pytest.mark.parametrize("gone", [None, "recording.json", "dog/explanation.json"])
def test_results_of_an_earlier_run_are_replaced(
    tmp_path: Path, gone: str | None
) -> None:
    """The same line gives the same folder again, also with another prompt.

    So it does where a run was killed before its last, or after its first, file.
    """
    path = file(tmp_path / "a.wav")
    results(tmp_path / "a", path)
    if gone is not None:
        (tmp_path / "a" / gone).unlink()
    if gone == "dog/explanation.json":
        for one in (tmp_path / "a" / "dog").iterdir():
            one.unlink()
    assert folder_of(tmp_path, path) == "a"
    assert recording_folders(tmp_path, {path: ["cat"]}) == {path: tmp_path / "a"}


def test_results_of_another_recording_of_the_name_stay(tmp_path: Path) -> None:
    """Each keeps its folder in later runs, in whatever order they come."""
    one, other = file(tmp_path / "x" / "a.wav"), file(tmp_path / "y" / "a.wav")
    other.write_bytes(b"other")
    out = tmp_path / "out"
    results(out / "a", one)
    assert folder_of(out, other) == "a-2"
    results(out / "a-2", other)
    assert folder_of(out, other) == "a-2"
    assert folder_of(out, one) == "a"
    prompts = dict.fromkeys((other, one), ["dog"])
    assert recording_folders(out, prompts) == {other: out / "a-2", one: out / "a"}
    shutil.rmtree(out / "a")
    assert folder_of(out, other) == "a-2"


def test_a_changed_recording_has_its_folder_and_so_has_a_moved_one(
    tmp_path: Path,
) -> None:
    """By its place; or by its content, if nothing is left at that place."""
    path = file(tmp_path / "x" / "a.wav")
    results(tmp_path / "out" / "a", path)
    path.write_bytes(b"changed")
    assert folder_of(tmp_path / "out", path) == "a"
    path.write_bytes(b"RIFF")
    copy = file(tmp_path / "y" / "a.wav")
    assert folder_of(tmp_path / "out", copy) == "a-2"
    path.unlink()
    assert folder_of(tmp_path / "out", copy) == "a"
    copy.write_bytes(b"changed")
    assert folder_of(tmp_path / "out", copy) == "a-2"


def test_results_without_a_recording_are_nobodys(tmp_path: Path) -> None:
    """What was saved of a waveform is not replaced by a recording of that name."""
    path = file(tmp_path / "a.wav")
    record = file(tmp_path / "a" / "dog" / "explanation.json")
    record.write_text('{"lmaczs_version": "0", "recording": null}')
    assert folder_of(tmp_path, path) == "a-2"


def test_a_file_in_the_way(tmp_path: Path) -> None:
    """A file with the folder's name is left alone, as is a link to nothing."""
    file(tmp_path / "a")
    (tmp_path / "b").symlink_to(tmp_path / "nothing")
    assert folder_of(tmp_path, tmp_path / "a.wav") == "a-2"
    assert folder_of(tmp_path, tmp_path / "b.wav") == "b-2"


@pytest.mark.parametrize("name", WRITTEN)
def test_files_of_others_are_never_replaced(tmp_path: Path, name: str) -> None:
    """A file that no run wrote stays, though it is no recording of this run."""
    file(tmp_path / "a" / name)
    assert folder_of(tmp_path, file(tmp_path / "a.wav")) == "a-2"


def test_files_of_others_beside_results_are_never_replaced(tmp_path: Path) -> None:
    """Results for one prompt do not make a folder of another prompt's name ours."""
    path = file(tmp_path / "a.wav")
    results(tmp_path / "a", path)
    file(tmp_path / "a" / "cat" / "residual.wav")
    assert recording_folders(tmp_path, {path: ["cat"]}) == {path: tmp_path / "a-2"}


def test_other_files_in_a_folder_do_not_matter(tmp_path: Path) -> None:
    """A folder that exists is used where nothing in it would be replaced."""
    file(tmp_path / "a" / "notes.txt")
    file(tmp_path / "a" / "dog" / "bark.wav")
    assert folder_of(tmp_path, file(tmp_path / "a.wav")) == "a"


def test_short_names_are_as_long_as_needed() -> None:
    """A file's name, with folders only where they tell it from another."""
    paths = [Path(p) for p in ("/home/me/a.wav", "x/1/b.wav", "y/1/b.wav", "b.wav")]
    assert list(short_names(paths).values()) == [
        "a.wav",
        str(Path("x/1/b.wav")),
        str(Path("y/1/b.wav")),
        "b.wav",
    ]


def test_recordings_know_each_other_by_every_name(tmp_path: Path) -> None:
    """A missing file is known by its place, a loop of links leads nowhere."""
    missing, loop = tmp_path / "missing.wav", tmp_path / "loop.wav"
    loop.symlink_to(loop)
    recordings = Recordings([missing, loop])
    assert tmp_path / "x" / ".." / "missing.wav" in recordings
    assert tmp_path / "MISSING.wav" in recordings
    assert loop in recordings
    assert file(tmp_path / "other.wav") not in recordings


@pytest.mark.parametrize(
    "text, slug",
    [
        ("A dog barking", "a-dog-barking"),
        ("  Crème brûlée!  ", "creme-brulee"),
        ("../../etc/passwd", "etc-passwd"),
        ("rain_2 (heavy)", "rain-2-heavy"),
        ("x" * 59 + " yz", "x" * 59),
    ],
)
def test_slugs_are_plain(text: str, slug: str) -> None:
    """Lower-case ASCII and single hyphens, none at the ends."""
    assert slugify(text) == slug


@pytest.mark.parametrize("text", ["", "   ", "犬の鳴き声", "!?", "\ud800", "x" * 999])
def test_slugs_are_never_empty_nor_long(text: str) -> None:
    """Any text at all becomes a name of 1 to 60 harmless characters."""
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,59}", slugify(text))


def test_texts_of_other_scripts_get_names_of_their_own() -> None:
    """Two Japanese prompts do not share a folder."""
    assert slugify("犬") != slugify("猫")


def test_unique_slugs_differ() -> None:
    """Taken names are numbered, even if the number is taken too, within 60."""
    long = "x" * 80
    slugs = unique_slugs(["Dog", "dog!", "dog 2", "DOG", long, long + "y", "犬"])
    assert slugs[:4] == ["dog", "dog-2", "dog-2-2", "dog-3"]
    assert slugs[4:6] == ["x" * 60, "x" * 58 + "-2"]
    assert len(set(slugs)) == len(slugs)


TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=80)


@given(st.lists(TEXTS, max_size=8))
def test_slugs_of_any_texts_differ_without_regard_to_case(texts: list[str]) -> None:
    """No two prompts share a folder, also where a file system ignores case."""
    slugs = unique_slugs(texts)
    assert len({slug.casefold() for slug in slugs}) == len(slugs) == len(texts)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,59}", slug) for slug in slugs)


NAMES = st.text("aAbB.ßẞ-2 ", min_size=1, max_size=4)


@given(st.lists(NAMES, min_size=1, max_size=6, unique=True))
def test_folders_of_any_recordings_differ_without_regard_to_case(
    names: list[str],
) -> None:
    """No two recordings share a folder, whatever their names are."""
    paths = [Path(str(number), f"{name}.wav") for number, name in enumerate(names)]
    folders = recording_folders(Path("out"), dict.fromkeys(paths, ["dog"]))
    assert len({str(folder).casefold() for folder in folders.values()}) == len(paths)
    assert all(folder.parent == Path("out") for folder in folders.values())


def test_other_inputs_are_not_overwritten(tmp_path: Path) -> None:
    """Such as the recording that is the prompt."""
    prompt = tmp_path / "out" / "a" / "input.wav"
    prompts = {tmp_path / "a.wav": ["dog"]}
    assert recording_folders(tmp_path / "out", prompts, [prompt]) == {
        tmp_path / "a.wav": tmp_path / "out" / "a-2"
    }
