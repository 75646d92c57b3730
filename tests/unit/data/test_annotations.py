"""annotations.py: what one tool annotates another reads."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import soundfile

from lmaczs.data.annotations import (
    audacity_rows,
    from_audacity,
    from_raven,
    raven_rows,
    to_audacity,
    to_raven,
)
from lmaczs.data.lists import MissingDataError
from lmaczs.data.manifest import read_manifest
from lmaczs.events import Event, event_table
from lmaczs.utils.errors import InputError

EVENTS = event_table(
    [
        Event(1.25, 3.5, 400.0, 2100.5, "dog", 0.7, 0.998, 0.4),
        Event(7.0, 7.125, 0.0, 16000.0, "a crow\tcawing", 0.5, 0.99, 0.2),
    ]
)
QUOTED = event_table(
    [
        Event(8.0, 8.5, 0.0, 16000.0, '"unclear', 0.5, 0.99, 0.2),
        Event(9.0, 9.5, 0.0, 16000.0, 'a "loud" dog', 0.5, 0.99, 0.2),
    ]
)
COLUMNS = ["start", "stop", "low_hz", "high_hz"]


def recording(path: Path) -> Path:
    """Write ten seconds of silence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, [0.0] * 80_000, 8000)
    return path


@pytest.mark.parametrize("name", ["raven", "audacity"])
def test_what_is_written_is_read_back(name: str, tmp_path: Path) -> None:
    """Times, bands and prompts; tabs and quotation marks do not end a cell."""
    path, events = tmp_path / "a.txt", pd.concat([EVENTS, QUOTED], ignore_index=True)
    if name == "raven":
        path.write_text(to_raven(events, '/my  "sounds"/a.wav'))
        found = from_raven(path)
        assert found.begin_path.tolist() == ['/my  "sounds"/a.wav'] * len(events)
        assert '\ta "loud" dog\t' in path.read_text()
    else:
        path.write_text(to_audacity(events))
        found = from_audacity(path)
    pd.testing.assert_frame_equal(found[COLUMNS], events[COLUMNS])
    names = ["dog", "a crow cawing", '"unclear', 'a "loud" dog']
    assert found.annotation.tolist() == names


def test_selection_tables_may_be_quoted(tmp_path: Path) -> None:
    """As R writes tables: texts and names of columns."""
    path = tmp_path / "a.txt"
    path.write_text(
        '"Begin Time (s)"\t"End Time (s)"\t"Annotation"\n1\t2.5\t"a ""loud"" dog"\n'
    )
    (row,) = from_raven(path).to_dict("records")
    assert (row["start"], row["stop"]) == (1, 2.5)
    assert row["annotation"] == 'a "loud" dog'


def test_raven_files_have_ravens_columns() -> None:
    """In its order and spelling, tab-separated."""
    lines = to_raven(EVENTS, "/sounds/a.wav").splitlines()
    assert lines[0].split("\t")[:9] == [
        "Selection",
        "View",
        "Channel",
        "Begin Time (s)",
        "End Time (s)",
        "Low Freq (Hz)",
        "High Freq (Hz)",
        "Begin File",
        "Begin Path",
    ]
    start = "1\tSpectrogram 1\t1\t1.25\t3.5\t400.0\t2100.5\ta.wav\t/sounds/a.wav\tdog"
    assert lines[1].startswith(start)
    second = to_raven(EVENTS, "/sounds/a.wav", 2).splitlines()[1]
    assert second.startswith("1\tSpectrogram 1\t2\t")


def test_a_selection_in_two_views_is_one(tmp_path: Path) -> None:
    """Raven lists it once for the waveform and once for the spectrogram."""
    head = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tSpecies\n"
    rows = "1\tWaveform 1\t1\t2\tcrow\n1\tSpectrogram 1\t1\t2\tcrow\n"
    (tmp_path / "a.txt").write_text(head + rows)
    found = from_raven(tmp_path / "a.txt")
    assert found.annotation.tolist() == ["crow"]
    assert math.isnan(found.low_hz[0])


@pytest.mark.parametrize(
    "text, column, reason",
    [
        ("", None, "no selection table"),
        ("a,b\n1,2\n", None, "no column 'Begin Time"),
        ("Begin Time (s)\tEnd Time (s)\tX\n1\t2\tcrow\n", None, "--column"),
        ("Begin Time (s)\tEnd Time (s)\tX\n1\t2\tcrow\n", "Y", "no column Y"),
        ("Begin Time (s)\tEnd Time (s)\tX\none\t2\tcrow\n", "X", "Begin Time"),
    ],
)
def test_other_tables_are_refused(
    text: str, column: str | None, reason: str, tmp_path: Path
) -> None:
    """By name, and with what they lack."""
    (tmp_path / "a.selections.txt").write_text(text)
    with pytest.raises(InputError, match=rf"a\.selections\.txt.*{reason}"):
        from_raven(tmp_path / "a.selections.txt", column)


def test_audacitys_own_labels_are_read(tmp_path: Path) -> None:
    """Without a band, with one that is not limited, with a byte-order mark."""
    text = "\ufeff1.0\t2.5\tdog\n3\t4\tcrow, far\n\\\t-1\t2000\n"
    (tmp_path / "a.txt").write_text(text, "utf-8")
    found = from_audacity(tmp_path / "a.txt")
    assert found.annotation.tolist() == ["dog", "crow, far"]
    assert found.high_hz.isna().tolist() == [True, False]
    assert found.low_hz.isna().all() and found.high_hz[1] == 2000


@pytest.mark.parametrize("text", ["dog\n", "1\tx\tdog\n", "\\\t1\t2\n"])
def test_no_labels_are_refused_with_their_line(text: str, tmp_path: Path) -> None:
    """The message says what a line holds."""
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError, match=r"a\.txt: line 1 is no label"):
        from_audacity(tmp_path / "a.txt")


@pytest.mark.parametrize("tool", ["raven", "audacity"])
def test_rows_are_those_of_a_manifest(tool: str, tmp_path: Path) -> None:
    """Labels are labels, sentences are texts; points and blanks are left out."""
    sound = recording(tmp_path / "sounds/north/meadow.1.wav")
    folder = tmp_path / "annotations"
    folder.mkdir()
    more = [Event(5, 5, 0, 1, "dog", 0, 0, 0), Event(6, 7, 0, 1, " ", 0, 0, 0)]
    events = pd.concat([EVENTS, event_table(more)])
    if tool == "raven":
        text = to_raven(events, "/elsewhere/meadow.1.wav")
        (folder / "meadow.1.Table.1.selections.txt").write_text(text)
        table = raven_rows(folder, tmp_path / "sounds")
    else:
        (folder / "meadow.1.labels.txt").write_text(to_audacity(events))
        table = audacity_rows(folder, tmp_path / "sounds")
    table.to_csv(tmp_path / "manifest.csv", index=False)
    found = read_manifest(tmp_path / "manifest.csv", open_recordings=True)
    assert found.path.tolist() == [str(sound)] * 2
    assert found.label.tolist() == ["dog", ""]
    assert found.text.tolist() == ["", "a crow cawing"]
    assert found.start.tolist() == [1.25, 7.0]
    assert found.high_hz.astype(float).tolist() == [2100.5, 16000.0]


def test_ravens_own_path_counts_first(tmp_path: Path) -> None:
    """Where the file that "Begin Path" names is there."""
    sound = recording(tmp_path / "far/b.wav")
    recording(tmp_path / "near/a.wav")
    (tmp_path / "near/a.selections.txt").write_text(to_raven(EVENTS, sound))
    assert set(raven_rows(tmp_path / "near").path) == {str(sound)}


def test_recordings_are_told_apart_by_the_longest_name(tmp_path: Path) -> None:
    """Not "a.wav" for "a.b.txt", where "a.b.wav" is; beside it before elsewhere."""
    for name in ("a.wav", "a.b.wav", "old/a.b.wav"):
        recording(tmp_path / name)
    (tmp_path / "a.b.txt").write_text(to_audacity(EVENTS))
    assert set(audacity_rows(tmp_path).path) == {str(tmp_path / "a.b.wav")}
    (tmp_path / "new").mkdir()
    (tmp_path / "a.b.txt").rename(tmp_path / "new/a.b.txt")
    with pytest.raises(InputError, match="may belong to"):
        audacity_rows(tmp_path)


def test_annotations_without_a_recording_are_refused(tmp_path: Path) -> None:
    """With the option that names its folder."""
    (tmp_path / "a.txt").write_text(to_audacity(EVENTS))
    with pytest.raises(MissingDataError, match="--recordings"):
        audacity_rows(tmp_path)
    with pytest.raises(MissingDataError, match="no selection table"):
        raven_rows(tmp_path)
    recording(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text("1\t1\tdog\n")
    with pytest.raises(InputError, match="no event"):
        audacity_rows(tmp_path)
