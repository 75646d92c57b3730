"""Manifests: what is read, and that every mistake is named with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.data.clip_texts import ClipText
from lmaczs.data.manifest import (
    OWN,
    ManifestError,
    join_rows,
    manifest_splits,
    read_clips,
    read_manifest,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder with the (empty) recordings a.wav, b.wav and sub/a.wav."""
    (tmp_path / "sub").mkdir()
    for name in ("a.wav", "b.wav", "sub/a.wav"):
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, *lines: str) -> Path:
    """Write a manifest beside the recordings."""
    path = folder / "clips.csv"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def mistakes(manifest: Path) -> list[str]:
    """Lines of the error for a manifest that is refused."""
    with pytest.raises(ManifestError) as refusal:
        read_manifest(manifest)
    first, *found = str(refusal.value).split("\n  ")
    assert first.startswith(f"{manifest} has ")
    return found


# --- what is read -------------------------------------------------------------------


def test_a_row_of_each_kind(folder: Path) -> None:
    """Paths become absolute, what is left out gets its default."""
    manifest = write(
        folder,
        "path,text,label,split,start,stop,id",
        "a.wav,A dog barks.,,,,,",
        f"{folder / 'b.wav'},,dog,valid,0.5,2,mine",
        "sub/../sub/a.wav,,rain,test,,1.5,",
    )
    table = read_manifest(manifest)
    paths = [str((folder / x).resolve()) for x in ("a.wav", "b.wav", "sub/a.wav")]
    assert list(table.columns) == list(OWN)
    assert table.path.tolist() == paths
    assert table.text.tolist() == ["A dog barks.", "", ""]
    assert table.label.tolist() == ["", "dog", "rain"]
    assert table.split.tolist() == ["train", "valid", "test"]
    assert table.id.tolist() == ["a", "mine", "a#2"]
    assert table.start.isna().tolist() == [True, False, True]
    assert table.start[1] == 0.5
    assert table.stop[1:].tolist() == [2.0, 1.5]


@pytest.mark.parametrize("column", ["text", "label"])
def test_two_columns_are_enough(folder: Path, column: str) -> None:
    """A path and a text or label; times are numbers even so."""
    table = read_manifest(write(folder, f"path,{column}", "a.wav,dog"))
    (row,) = table.to_dict("records")
    other = {"text": "label", "label": "text"}[column]
    assert (row[column], row[other], row["split"]) == ("dog", "", "train")
    assert table.start.dtype == table.stop.dtype == float


def test_clips_to_test_on_keep_label_and_split_as_they_are(folder: Path) -> None:
    """A label stays beside a text, and an empty split is not that of training."""
    rows = ["a.wav,A dog barks.,dog,", "b.wav,,rain,test"]
    path = write(folder, "path,text,label,split", *rows)
    table = read_manifest(path, for_test=True)
    assert table.label.tolist() == ["dog", "rain"]
    assert table.split.tolist() == ["", "test"]
    table = read_manifest(path)
    assert table.label.tolist() == ["", "rain"]
    assert table.split.tolist() == ["train", "test"]


def test_text_wins_over_label(folder: Path) -> None:
    """A row with both is a caption."""
    manifest = write(folder, "path,text,label", "a.wav,A dog barks.,dog", "b.wav,,dog")
    table = read_manifest(manifest)
    assert table.text.tolist() == ["A dog barks.", ""]
    assert table.label.tolist() == ["", "dog"]


def test_ids_are_made_unique(folder: Path) -> None:
    """Stems are numbered from their second row on, beside ids that were given."""
    rows = ["a.wav,dog,", "a.wav,rain,", "sub/a.wav,dog,", "b.wav,dog,a#2"]
    table = read_manifest(write(folder, "path,label,id", *rows, "b.wav,dog,"))
    assert table.id.tolist() == ["a", "a#3", "a#4", "a#2", "b"]


def test_an_id_that_was_given_keeps_it(folder: Path) -> None:
    """A stem that is another row's id is numbered, whichever comes first."""
    table = read_manifest(write(folder, "path,label,id", "a.wav,x,", "b.wav,x,a"))
    assert table.id.tolist() == ["a#2", "a"]


def test_other_columns_are_carried_through(folder: Path) -> None:
    """They follow the manifest's own, as they were written."""
    manifest = write(folder, "licence,path,take,label", "CC0,a.wav,007,dog")
    table = read_manifest(manifest)
    assert list(table.columns) == [*OWN, "licence", "take"]
    assert table.licence[0] == "CC0"
    assert table["take"][0] == "007"


def test_what_spreadsheets_write(folder: Path) -> None:
    """A byte order mark, CRLF, spaces, quotes, empty lines and missing last fields."""
    text = 'path,text,split\r\na.wav," A ""big"" dog,\r\nbarking. ",\r\n\r\nb.wav,café'
    (folder / "clips.csv").write_bytes(("\ufeff" + text).encode())
    table = read_manifest(folder / "clips.csv")
    assert table.text.tolist() == ['A "big" dog,\r\nbarking.', "café"]
    assert table.split.tolist() == ["train", "train"]


@pytest.mark.parametrize(
    ("content", "assumed"),
    [
        ("path;text;split;start\na.wav;dog, big;train;0,5\n", "semicolons are"),
        ("sep=;\npath;text;split;start\na.wav;dog, big;;0,5\n", "first line sets"),
        ("path\ttext\tstart\na.wav\tdog, big\t0.5\n", "tabs are"),
        ("path;text;start\na.wav;dog, big;0,5\n", "commas in start are taken as dec"),
        ("path;text;start\ra.wav;dog, big;0.5\r", "semicolons are"),
        ('Path, Text ,Start,SPLIT\na.wav, "dog, big", 0.5 ,Train\n', "'SPLIT' is"),
        ('path,text,start,split\na.wav,"dog, big",.5,TRAIN\n', "split 'TRAIN' is tak"),
        ('path,text,start\n,,\na.wav,"dog, big",.5\n,,\n', "2 empty rows are"),
    ],
)
def test_tables_as_people_have_them(
    folder: Path, content: str, assumed: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Separators, spaces, cases, decimal commas, empty rows: read, with a line."""
    path = folder / "clips.csv"
    path.write_bytes(content.encode())
    (row,) = read_manifest(path).to_dict("records")
    assert (row["text"], row["start"], row["split"]) == ("dog, big", 0.5, "train")
    (line,) = caplog.messages
    assert line.startswith(f"{path} is read: ")
    assert assumed in line


def test_an_ordinary_table_is_read_without_a_word(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No assumption, no warning."""
    read_manifest(write(folder, "path,text,split", "a.wav,dog,train"))
    assert not caplog.messages


def test_backslashes_of_windows(folder: Path) -> None:
    """They divide a path where that finds a recording."""
    table = read_manifest(write(folder, "path,label", r"sub\a.wav,dog"))
    assert table.path[0] == str((folder / "sub" / "a.wav").resolve())


def test_paths_are_relative_to_the_manifest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the folder that a command is started in."""
    write(folder, "path,label", "sub/a.wav,dog")
    monkeypatch.chdir(folder.parent)
    table = read_manifest(Path(folder.name) / "clips.csv")
    assert table.path[0] == str((folder / "sub" / "a.wav").resolve())


# --- mistakes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.wav,dog,,,,,more", "more fields than the header; .* needs quotes"),
        (",dog,,,,", "path is empty"),
        ("c.wav,dog,,,,", r"c\.wav does not exist"),
        ("sub,dog,,,,", r"sub does not exist"),
        ("a.wav, ,,,,", "text and label are empty"),
        ("a.wav,dog,dev,,,", "split is 'dev', not one of train, valid, test"),
        ("a.wav,dog,,soon,,", "start is 'soon', not a number of seconds"),
        ("a.wav,dog,,,inf,", "stop is 'inf', not a number of seconds"),
        ("a.wav,dog,,nan,,", "start is 'nan', not a number of seconds"),
        ("a.wav,dog,,-1,,", "start is -1, before the recording begins"),
        ("a.wav,dog,,2,1.5,", "stop 1.5 does not come after start 2"),
        ("a.wav,dog,,,0,", "stop 0 does not come after start 0"),
        ("a.wav,dog,,,,one", "id 'one' is that of line 2 too"),
    ],
)
def test_each_mistake_is_named(folder: Path, row: str, message: str) -> None:
    """One mistake, one sentence, with the line that it is in."""
    header, first = "path,text,split,start,stop,id", "b.wav,rain,,,,one"
    manifest = write(folder, header, first, row)
    with pytest.raises(ManifestError, match=f"has 1 mistake:\n  line 3: .*{message}$"):
        read_manifest(manifest)


def test_all_mistakes_come_at_once(folder: Path) -> None:
    """Several rows and several mistakes of a row, in the order of the lines."""
    rows = ["c.wav,,dev,one", "a.wav,dog,,one", "b.wav,dog,,one", "a.wav,,,two"]
    found = mistakes(write(folder, "path,label,split,id", *rows))
    lines = [int(one.split(":")[0].removeprefix("line ")) for one in found]
    assert lines == [2, 2, 2, 3, 4, 5]
    with pytest.raises(ManifestError, match="has 6 mistakes"):
        read_manifest(folder / "clips.csv")


def test_a_long_list_is_cut(folder: Path) -> None:
    """Twenty mistakes are shown, the others counted."""
    manifest = write(folder, "path,label", *["c.wav,dog"] * 25)
    assert len(mistakes(manifest)) == 20 + 1
    with pytest.raises(ManifestError, match="line 21: .*\n  and 5 more$"):
        read_manifest(manifest)


def test_lines_are_those_of_the_file(folder: Path) -> None:
    """Fields over several lines and empty lines count as an editor counts them."""
    manifest = write(
        folder,
        "path,text",
        'a.wav,"two',
        'lines"',
        "",
        "c.wav,dog",
        'b.wav,"a, b"',
        "b.wav,",
    )
    found = mistakes(manifest)
    assert [one.split(":")[0] for one in found] == ["line 5", "line 7"]


@pytest.mark.parametrize("lines", [[""], ["file,label"], ["path,split", "a.wav,"]])
def test_header_without_the_needed_columns(folder: Path, lines: list[str]) -> None:
    """The error names the columns of the header and the missing ones."""
    (found,) = mistakes(write(folder, *lines))
    has = ", ".join(lines[0].split(",")) or "nothing"
    asked = "line 1: the header needs path and one of text, label"
    assert found == f"{asked}; it has {has}"


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("raven", ["Selection\tView\tBegin Time (s)\tEnd Time (s)", "1\ta\t0\t1"]),
        ("audacity", ["0.5\t2.25\tdog, big", "3.0\t4.0\train"]),
    ],
)
def test_annotations_are_not_manifests(
    folder: Path, kind: str, lines: list[str]
) -> None:
    """The sentence names what makes a manifest of them."""
    (found,) = mistakes(write(folder, *lines))
    assert found.endswith(f"make_manifest.py {kind} FOLDER OUT.csv")


def test_a_header_alone(folder: Path) -> None:
    """A manifest needs a row."""
    assert mistakes(write(folder, "path,label")) == ["line 2: there is no row"]


def test_a_quote_that_is_not_closed(folder: Path) -> None:
    """It is a mistake, not a text that holds all the other rows."""
    manifest = write(folder, "path,text", 'a.wav,"A dog', "b.wav,rain")
    (found,) = mistakes(manifest)
    assert "a quote is not closed" in found


def test_another_encoding(folder: Path) -> None:
    """The line that is not UTF-8 is named."""
    path = folder / "clips.csv"
    path.write_bytes("path,text\na.wav,dog\nb.wav,café\n".encode("latin-1"))
    assert mistakes(path) == ["line 3: it is not UTF-8; save it as UTF-8"]


def test_a_clip_in_two_splits(folder: Path) -> None:
    """All captions of a clip are in one split; other stretches may be in another."""
    manifest = write(
        folder,
        "path,text,split,start",
        "a.wav,One.,train,1",
        "a.wav,Two.,test,1.0",
        "a.wav,Three.,test,2",
        "b.wav,Four.,valid,",
        "b.wav,Five.,,",
    )
    assert mistakes(manifest) == [
        "line 3: split is 'test', but line 2 has 'train'",
        "line 6: split is 'train', but line 5 has 'valid'",
    ]


def test_recordings_that_are_opened(folder: Path) -> None:
    """Files without audio and clips after the end are among all mistakes."""
    soundfile.write(folder / "b.wav", np.zeros(8000), 8000)
    manifest = write(
        folder,
        "path,label,start",
        "a.wav,dog,",
        "b.wav,dog,0.9",
        "b.wav,dog,1",
        "none.wav,dog,",
        "b.wav,,x",
    )
    with pytest.raises(ManifestError) as refusal:
        read_manifest(manifest, open_recordings=True)
    found = str(refusal.value).split("\n  ")[1:]
    assert [one.removeprefix("line ")[0] for one in found] == ["2", "4", "5", "6", "6"]
    assert "a.wav: it is empty, it has no bytes" in found[0]
    assert "start 1 comes after the recording's end (1 s)" in found[1]
    good = write(folder, "path,label,start", "b.wav,dog,0.9")
    assert read_manifest(good, open_recordings=True).start.tolist() == [0.9]


def test_no_manifest(tmp_path: Path) -> None:
    """A file that is not there is named as the option that named it."""
    with pytest.raises(FileNotFoundError, match=r"--manifest=.*none\.csv does not"):
        read_manifest(tmp_path / "none.csv")


# --- clips ---------------------------------------------------------------------------


def write_clips(folder: Path, header: str, *rows: str) -> Path:
    """Write a manifest, and the recordings that it names, of two seconds each."""
    for name in {row.split(",")[0] for row in rows}:
        noise = np.random.default_rng(len(name)).uniform(-0.5, 0.5, 2 * 8000)
        soundfile.write(folder / name, noise, 8000)
    path = folder / "clips.csv"
    path.write_text("\n".join([header, *rows, ""]))
    return path


def test_rows_of_a_clip_are_joined(tmp_path: Path) -> None:
    """Captions and labels of the same stretch are of one clip, each of them once."""
    manifest = write_clips(
        tmp_path,
        "path,text,label,start,stop",
        "a.wav,A dog.,,,",
        "b.wav,,rain,,",
        "a.wav,Barking.,,,",
        "a.wav,A dog.,,,",
        "a.wav,,dog,,",
        "a.wav,Silence.,,1,",
        "a.wav,Still silence.,,1.0,",
    )
    clips = join_rows(read_manifest(manifest))
    assert clips.id.tolist() == ["a", "b", "a#5"]
    assert clips.label.tolist() == ["dog", "rain", ""]
    captions = [ClipText("A dog.", False), ClipText("Barking.", False), ClipText("dog")]
    assert clips.texts.tolist() == [
        tuple(captions),
        (ClipText("rain"),),
        (ClipText("Silence.", False), ClipText("Still silence.", False)),
    ]
    assert clips.start.isna().tolist() == [True, True, False]


def test_splits_of_a_manifest(tmp_path: Path) -> None:
    """Three tables, each of them of its own recordings; refusals name the manifest."""
    rows = [f"{x}{n}.wav,{x}" for x in ("dog", "rain") for n in range(5)]
    splits = manifest_splits(write_clips(tmp_path, "path,label", *rows))
    sizes = [len(table) for table in (splits.train, splits.valid, splits.test)]
    assert sizes == [6, 2, 2]
    assert splits.labels == ["dog", "rain"]
    alone = write_clips(tmp_path, "path,label", "dog0.wav,dog")
    with pytest.raises(ManifestError, match=r"clips\.csv has .*\n.* cannot be split"):
        manifest_splits(alone)


def test_recordings_are_opened(tmp_path: Path) -> None:
    """What is no audio is a mistake with its line, before anything is trained."""
    manifest = write_clips(tmp_path, "path,label", "a.wav,dog", "b.wav,dog")
    (tmp_path / "b.wav").write_text("not audio")
    with pytest.raises(ManifestError, match=r"line 3: .*b\.wav: no audio"):
        manifest_splits(manifest)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_half_a_recording_with_a_good_header(tmp_path: Path, kind: str) -> None:
    """It is a mistake with its line, too."""
    manifest = write_clips(tmp_path, "path,label", "a.wav,dog", f"b.{kind},dog")
    path = tmp_path / f"b.{kind}"
    noise = np.random.default_rng(0).normal(0, 0.1, 100_000)
    soundfile.write(path, noise, 16000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ManifestError, match=rf"line 3: .*b\.{kind}: it is truncated"):
        manifest_splits(manifest)


# --- round trip ---------------------------------------------------------------------

words = st.text(
    st.characters(exclude_categories=["C", "Z"], include_characters=" \n"), min_size=1
)
texts = words.map(str.strip).filter(bool)
seconds = st.one_of(st.none(), st.integers(0, 9000).map(lambda x: x / 1000))


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["a.wav", "b.wav"]), texts, st.booleans(), seconds),
        min_size=1,
        max_size=6,
    )
)
def test_a_table_that_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple]
) -> None:
    """Whatever the words and times: quotes, commas, line breaks, any script."""
    folder = tmp_path_factory.mktemp("round")
    for name in ("a.wav", "b.wav"):
        (folder / name).touch()
    table = pd.DataFrame(
        {
            "id": [f"clip{i}" for i in range(len(rows))],
            "path": [str(folder / name) for name, *_ in rows],
            "text": [text if is_text else "" for _, text, is_text, _ in rows],
            "label": ["" if is_text else text for _, text, is_text, _ in rows],
            "split": "train",
            "start": pd.Series([start for *_, start in rows], dtype=float),
            "stop": np.nan,
        }
    )
    table.to_csv(folder / "clips.csv", index=False)
    again = read_manifest(folder / "clips.csv")
    pd.testing.assert_frame_equal(again[list(table)], table, check_dtype=False)


def test_clips_need_no_words_and_no_recording(tmp_path: Path) -> None:
    """Each counts once; a URL is kept; other columns are carried through."""
    lines = ["site,path,start,stop", "a,x.wav,,", "b,s3://c/y.wav,1,2", "c,x.wav,,"]
    table = read_clips(write(tmp_path, *lines))
    assert table.columns.tolist() == ["path", "start", "stop", "site"]
    assert table.path.tolist() == [str(tmp_path / "x.wav"), "s3://c/y.wav"]
    assert table.site.tolist() == ["a", "b"]
    assert np.isnan(table.start[0]) and table.stop[1] == 2
    only = read_clips(write(tmp_path, "path", "x.wav"))
    assert only.columns.tolist() == ["path", "start", "stop"]


def test_mistakes_of_clips_are_named(tmp_path: Path) -> None:
    """But for those of words and recordings, which do not count."""
    manifest = write(tmp_path, "path,start", "x.wav,-1", ",1", "y.wav,1,2")
    with pytest.raises(ManifestError) as caught:
        read_clips(manifest)
    text = str(caught.value)
    assert "3 mistakes" in text and "line 3: path is empty" in text
    with pytest.raises(ManifestError, match="the header needs path; it has start"):
        read_clips(write(tmp_path, "start", "1"))
