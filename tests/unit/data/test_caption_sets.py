"""Published layouts of captioned sets, read as manifests."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from lmaczs.data.build import DATASETS
from lmaczs.data.caption_sets import (
    read_audiocaps,
    read_clotho,
    read_fsd50k,
    read_macs,
)
from lmaczs.data.manifest import read_manifest

CAPTIONS = ",".join(f"caption_{number}" for number in range(1, 6))
MACS = """\
files:
- filename: park-lisbon-1-2-a.wav
  annotations:
  - sentence: Birds sing while people talk
    tags: [birds_singing, adults_talking]
    annotator_id: 12
  - sentence: yes
    tags: []
    annotator_id: 7
- filename: tram-paris-3-4-a.wav
  annotations:
  - sentence: "A tram stops: doors open"
    annotator_id: 7
"""
UPLOADS = {
    "64760": {
        "title": "guitar_63.WAV",
        "description": 'an <a href="x">electric</a>\r\nguitar &amp; amp',
        "tags": [],
    },
    "7": {"title": "thunder...", "description": "", "tags": []},
}


def write(path: Path, *lines: str) -> Path:
    """Write lines to a file in a folder that may be new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def touch(folder: Path, *names: str) -> None:
    """Make empty recordings in a folder."""
    for name in names:
        write(folder / name)


@pytest.fixture
def clotho(tmp_path: Path) -> Path:
    """Three splits of Clotho: two recordings, one, and one with a name used before."""
    folder = tmp_path / "clotho"
    rain = 'Rain falls,"Rain, on a ""tin"" roof",Rain  falls ,None,Heavy rain'
    write(
        folder / "clotho_captions_development.csv",
        f"file_name,{CAPTIONS}",
        f"Rain (1).wav,{rain}",
        "bell.one.wav,b1,b2,b3,b4,b5",
    )
    for name, wav in (("validation", "düne.wav"), ("evaluation", "Rain (1).wav")):
        write(
            folder / f"clotho_captions_{name}.csv",
            f"file_name,{CAPTIONS}",
            f"{wav},{name[0]}1,{name[0]}2,{name[0]}3,{name[0]}4,{name[0]}5",
        )
        touch(folder / name, wav)
    touch(folder / "development", "Rain (1).wav", "bell.one.wav")
    return folder


@pytest.fixture
def audiocaps(tmp_path: Path) -> Path:
    """Lists of four videos, of which one has vanished; a name with and without Y."""
    folder, header = tmp_path / "audiocaps", "audiocap_id,youtube_id,start_time,caption"
    write(
        folder / "train.csv",
        header,
        '91139,r1nicOVtvkQ,130,"A woman talks, water pours"',
        "58146,-DGBjjwyaqE,20,Clanging",
    )
    write(folder / "val.csv", header, "1,12345678901,5,Wind", "2,12345678901,5,A gale")
    write(folder / "test.csv", header, "3,vanished_00,0,Nothing", "4,vanished_00,0,No")
    touch(folder / "audio", "Yr1nicOVtvkQ.wav", "-DGBjjwyaqE.wav", "12345678901.wav")
    return folder


@pytest.fixture
def macs(tmp_path: Path) -> Path:
    """Two recordings, of two sentences and of one."""
    folder = tmp_path / "macs"
    write(folder / "MACS.yaml", MACS)
    touch(folder / "audio", "park-lisbon-1-2-a.wav", "tram-paris-3-4-a.wav")
    return folder


@pytest.fixture
def fsd50k(tmp_path: Path) -> Path:
    """Two clips of dev, one of them for validation, and one of eval."""
    folder = tmp_path / "fsd50k"
    write(
        folder / "FSD50K.ground_truth/dev.csv",
        "fname,labels,mids,split",
        '64760,"Electric_guitar,Guitar,Music","/m/02sgy,/m/0342h,/m/04rlf",train',
        "16,Bathtub_(filling_or_washing),/m/1,val",
    )
    write(folder / "FSD50K.ground_truth/eval.csv", "fname,labels,mids", "7,Hi-hat,/m/2")
    touch(folder / "FSD50K.dev_audio", "64760.wav", "16.wav")
    touch(folder / "FSD50K.eval_audio", "7.wav")
    for part, names in (("dev", ["64760"]), ("eval", ["7"])):
        uploads = json.dumps({name: UPLOADS[name] for name in names})
        write(folder / f"FSD50K.metadata/{part}_clips_info_FSD50K.json", uploads)
    return folder


def by_id(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Text and split of each row."""
    return dict(zip(table.id, zip(table.text, table.split, strict=True), strict=True))


# --- what is read -------------------------------------------------------------------


def test_clotho_has_a_row_for_each_caption(clotho: Path) -> None:
    """Five of each recording, in order and tidied; splits have the names of here."""
    table = read_clotho(clotho)
    assert len(table) == 20
    rain = [
        "Rain falls",
        'Rain, on a "tin" roof',
        "Rain falls",
        "None",
        "Heavy rain",
    ]
    assert table.text[:5].tolist() == rain
    assert set(table.path[:5]) == {str(clotho / "development/Rain (1).wav")}
    assert table.split.tolist() == ["train"] * 10 + ["valid"] * 5 + ["test"] * 5
    assert table.id[5:10].tolist() == [f"bell.one#{n}" for n in range(1, 6)]


def test_a_name_in_two_splits_gives_different_ids(clotho: Path) -> None:
    """Two recordings of one name are numbered on, and stay two files."""
    table = read_clotho(clotho)
    rain = table[table.path.str.endswith("Rain (1).wav")]
    assert rain.id.tolist() == [f"Rain (1)#{n}" for n in range(1, 11)]
    assert rain.path.nunique() == 2


def test_clotho_without_a_list_is_what_is_there(
    clotho: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A split that was not downloaded is left out, and the log says so."""
    (clotho / "clotho_captions_evaluation.csv").unlink()
    with caplog.at_level(logging.WARNING, "lmaczs"):
        table = read_clotho(clotho)
    assert set(table.split) == {"train", "valid"}
    assert "no clotho_captions_evaluation.csv, left out" in caplog.text


def test_audiocaps_leaves_out_what_has_vanished(
    audiocaps: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Files are found under either name, ids stay text, the lost ones are counted."""
    with caplog.at_level(logging.WARNING, "lmaczs"):
        table = read_audiocaps(audiocaps)
    assert by_id(table) == {
        "Yr1nicOVtvkQ": ("A woman talks, water pours", "train"),
        "-DGBjjwyaqE": ("Clanging", "train"),
        "12345678901#1": ("Wind", "valid"),
        "12345678901#2": ("A gale", "valid"),
    }
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"1 of 4 clips are not in {audiocaps / 'audio'} and are left out"
    )


def test_audiocaps_that_is_all_there_says_nothing(
    audiocaps: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where every video is found, no caption is lost and nothing is logged."""
    touch(audiocaps / "audio", "Yvanished_00.wav")
    with caplog.at_level(logging.WARNING, "lmaczs"):
        table = read_audiocaps(audiocaps)
    assert table.split.tolist() == ["train"] * 2 + ["valid"] * 2 + ["test"] * 2
    assert not caplog.records


def test_macs_has_a_row_for_each_annotation(macs: Path) -> None:
    """Sentences are text even where YAML knows the word; all of it is train."""
    table = read_macs(macs)
    assert by_id(table) == {
        "park-lisbon-1-2-a#1": ("Birds sing while people talk", "train"),
        "park-lisbon-1-2-a#2": ("yes", "train"),
        "tram-paris-3-4-a": ("A tram stops: doors open", "train"),
    }
    assert table.path[2] == str(macs / "audio/tram-paris-3-4-a.wav")


def test_fsd50k_says_its_labels(fsd50k: Path) -> None:
    """Labels become words, val is valid, and eval is the test."""
    table = read_fsd50k(fsd50k)
    assert by_id(table) == {
        "64760": ("electric guitar, guitar, music", "train"),
        "16": ("bathtub (filling or washing)", "valid"),
        "7": ("hi-hat", "test"),
    }
    assert table.path.tolist() == [
        str(fsd50k / name)
        for name in (
            "FSD50K.dev_audio/64760.wav",
            "FSD50K.dev_audio/16.wav",
            "FSD50K.eval_audio/7.wav",
        )
    ]


def test_fsd50k_with_what_its_uploaders_say(fsd50k: Path) -> None:
    """A second caption, without suffix, markup and line ends, where there is one."""
    assert by_id(read_fsd50k(fsd50k, descriptions=True)) == {
        "64760#1": ("electric guitar, guitar, music", "train"),
        "64760#2": ("guitar 63. an electric guitar & amp", "train"),
        "16": ("bathtub (filling or washing)", "valid"),
        "7#1": ("hi-hat", "test"),
        "7#2": ("thunder", "test"),
    }


def test_empty_captions_are_left_out(
    audiocaps: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A manifest would be refused for them; the log counts them."""
    header = "audiocap_id,youtube_id,start_time,caption"
    write(audiocaps / "test.csv", header, "3,12345678901,0,", "4,12345678901,0, ")
    with caplog.at_level(logging.WARNING, "lmaczs"):
        table = read_audiocaps(audiocaps)
    assert set(table.split) == {"train", "valid"}
    assert "2 empty captions are left out" in caplog.text


@pytest.mark.parametrize("name", ["audiocaps", "clotho", "fsd50k", "macs"])
def test_what_is_written_is_a_manifest(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Read back from another folder it has the same rows, and no mistake."""
    table = DATASETS[name].read(request.getfixturevalue(name))
    manifest = tmp_path / "elsewhere/clips.csv"
    manifest.parent.mkdir()
    table.to_csv(manifest, index=False)
    again = read_manifest(manifest)
    columns = ["id", "path", "text", "split"]
    assert again[columns].to_dict("list") == table[columns].to_dict("list")
    assert (again.label == "").all()


def test_relative_folders_give_absolute_paths(
    macs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest means the same files from any working directory."""
    monkeypatch.chdir(macs.parent)
    assert read_macs("macs").path.tolist() == read_macs(macs).path.tolist()


# --- what is refused ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("clotho", "no clotho_captions_development.csv and no "),
        ("audiocaps", "no train.csv and no val.csv and no test.csv"),
        ("macs", "no MACS.yaml"),
        (
            "fsd50k",
            "no FSD50K.ground_truth/dev.csv and no FSD50K.ground_truth/eval.csv",
        ),
    ],
)
def test_other_folders_are_refused(name: str, missing: str, tmp_path: Path) -> None:
    """The sentence names the folder and the lists that are looked for."""
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} holds {missing}"):
        DATASETS[name].read(tmp_path)


@pytest.mark.parametrize(
    ("name", "recording", "of"),
    [
        ("clotho", "development/bell.one.wav", 4),
        ("macs", "audio/tram-paris-3-4-a.wav", 2),
        ("fsd50k", "FSD50K.eval_audio/7.wav", 3),
    ],
)
def test_missing_recordings_are_counted(
    name: str, recording: str, of: int, request: pytest.FixtureRequest
) -> None:
    """Sets that can be had whole are not read in part without notice."""
    folder: Path = request.getfixturevalue(name)
    (folder / recording).unlink()
    message = f"1 of the {of} recordings .*the first is {folder / recording}: unpack"
    with pytest.raises(FileNotFoundError, match=message):
        DATASETS[name].read(folder)


def test_audiocaps_without_any_clip_is_refused(audiocaps: Path) -> None:
    """The sentence says where they are looked for, and under which names."""
    for path in (audiocaps / "audio").iterdir():
        path.unlink()
    message = r"4 of 4 clips are not in .*audio \(<youtube_id>.wav or Y<youtube_id>.wav"
    with pytest.raises(FileNotFoundError, match=message):
        read_audiocaps(audiocaps)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["youtube_id,text", "abc,Rain"], "val.csv has no column caption"),
        (["youtube_id,caption"], "val.csv has no row below its header"),
        ([], "val.csv cannot be read: .*download it again"),
        (["youtube_id,caption", "a,b,c", "a,b,c,d"], "val.csv cannot be read"),
    ],
)
def test_other_lists_are_refused(
    audiocaps: Path, lines: list[str], message: str
) -> None:
    """A CSV of that name without its columns, without rows, empty, or torn."""
    write(audiocaps / "val.csv", *lines)
    with pytest.raises(ValueError, match=message):
        read_audiocaps(audiocaps)


@pytest.mark.parametrize(
    "text", ["files: [", "[]", "", "files:\n- filename: a.wav", "files:\n- a.wav"]
)
def test_other_yaml_is_refused(macs: Path, text: str) -> None:
    """What is no YAML, or YAML of something else, is no MACS.yaml."""
    write(macs / "MACS.yaml", text)
    with pytest.raises(ValueError, match=r"MACS\.yaml is not MACS.yaml as published"):
        read_macs(macs)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (Path.unlink, FileNotFoundError, "is not there: unpack FSD50K.metadata.zip"),
        (lambda path: path.write_text("{"), ValueError, "is no JSON: .*unpack it"),
    ],
)
def test_descriptions_that_cannot_be_read(
    fsd50k: Path, spoil: Callable[[Path], object], error: type[Exception], message: str
) -> None:
    """They are read only if requested; the error names the file."""
    spoil(fsd50k / "FSD50K.metadata/eval_clips_info_FSD50K.json")
    assert len(read_fsd50k(fsd50k)) == 3
    with pytest.raises(error, match=f"eval_clips_info_FSD50K.json {message}"):
        read_fsd50k(fsd50k, descriptions=True)
