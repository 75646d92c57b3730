"""What was computed is there again, and nothing else is taken for it."""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmaczs.evaluation.result_table import ResumableTable
from lmaczs.utils.errors import InputError

WHOLE = ["whole.csv", "whole.json"]
SETTINGS = {"model": "0f3a", "clips": ["007", "b"], "seed": 0, "share": 0.2}


def rows(condition: str = "clean", ids: tuple[str, ...] = ("007", "b")) -> pd.DataFrame:
    """Make a row a clip with figures that do not end after a few digits."""
    values = np.random.default_rng(len(condition)).normal(size=(len(ids), 2)) / 3
    table = pd.DataFrame(values, columns=["AI", "seconds"])
    table.insert(0, "id", list(ids))
    table.insert(0, "condition", condition)
    return table.assign(batch=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A table that is not there yet, in a folder that is not there either."""
    return tmp_path / "run" / "per_clip.csv"


def files(path: Path) -> list[str]:
    """Names of all files beside a table, hidden ones, too."""
    return sorted(file.name for file in path.parent.iterdir())


# --- rows ---------------------------------------------------------------------------


def test_rows_survive(path: Path) -> None:
    """A new object has the rows of all that were added before, in their order."""
    assert ResumableTable(path, SETTINGS).rows.empty
    ResumableTable(path, SETTINGS).add(rows("clean"))
    table = ResumableTable(path, SETTINGS)
    table.add(rows("speech"))
    table.add(rows("white noise"))
    parts = [rows("clean"), rows("speech"), rows("white noise")]
    expected = pd.concat(parts, ignore_index=True)
    for found in (table.rows, ResumableTable(path, SETTINGS).rows):
        pd.testing.assert_frame_equal(found, expected, rtol=1e-14)


def test_every_batch_is_written(path: Path) -> None:
    """What was added is on disk at once, and nothing but the table and its settings."""
    table = ResumableTable(path, SETTINGS)
    for count, condition in enumerate(("clean", "speech"), 1):
        table.add(rows(condition))
        assert len(pd.read_csv(path)) == 2 * count
        assert files(path) == ["per_clip.csv", "per_clip.json"]


def test_ids_stay_strings(path: Path) -> None:
    """Names that look like numbers keep their zeros, however often they are read."""
    ids = ("007", "1e3", "12")
    for _ in range(3):
        table = ResumableTable(path, SETTINGS)
        table.add(rows(ids=ids))
    found = ResumableTable(path, SETTINGS).rows.id
    assert found.tolist() == [*ids] * 3


def test_keys(path: Path) -> None:
    """Values of columns, row by row, before and after reading."""
    table = ResumableTable(path, SETTINGS)
    assert table.keys("condition", "id") == set()
    table.add(rows("clean"))
    table.add(rows("speech", ids=("c",)))
    for found in (table, ResumableTable(path, SETTINGS)):
        expected = {("clean", "007"), ("clean", "b"), ("speech", "c")}
        assert found.keys("condition", "id") == expected
        assert found.keys("condition") == {("clean",), ("speech",)}


def test_rows_may_be_dropped(path: Path) -> None:
    """For good; others stay as they are, and more can be added, even after the last."""
    table = ResumableTable(path, SETTINGS)
    table.drop("condition", ["clean"])
    for condition in ("clean", "speech", "rain"):
        table.add(rows(condition))
    kept = table.rows[table.rows.condition == "speech"].reset_index(drop=True)
    table.drop("condition", ["clean", "rain", "snow"])
    for found in (table, ResumableTable(path, SETTINGS)):
        pd.testing.assert_frame_equal(found.rows, kept)
    table.drop("condition", ["speech"])
    assert ResumableTable(path, SETTINGS).rows.empty
    table.add(rows("rain"))
    assert ResumableTable(path, SETTINGS).rows.condition.tolist() == ["rain"] * 2


def test_entries_of_a_setting_may_be_added(path: Path) -> None:
    """Rows of one more model join the others; those there are must not change."""
    one, two = ({**SETTINGS, "decoders": {n: n}} for n in ("a", "b"))
    ResumableTable(path, one).add(rows())
    ResumableTable(path, two)
    assert len(ResumableTable(path, one).rows) == 2
    other = {**SETTINGS, "decoders": {"b": "c"}}
    with pytest.raises(ValueError, match="another setting of decoders"):
        ResumableTable(path, other)


@contextlib.contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """As on a full disk, a file that grows beyond so many bytes is cut off there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_addition_that_cannot_begin_loses_nothing(path: Path) -> None:
    """Without space for it the older rows stay as they are, and nothing remains."""
    table = ResumableTable(path, SETTINGS)
    table.add(rows("clean"))
    before = path.read_bytes()
    with no_file_beyond(20), pytest.raises(OSError, match="too large"):
        table.add(rows("speech"))
    assert path.read_bytes() == before
    assert files(path) == ["per_clip.csv", "per_clip.json"]
    assert ("speech",) not in table.keys("condition")
    table.add(rows("speech"))
    assert len(ResumableTable(path, SETTINGS).rows) == 4


def test_an_addition_that_was_cut_off_is_completed(path: Path) -> None:
    """Of rows that were written in part nothing is lost, and none is there twice."""
    whole = ResumableTable(path.with_name("whole.csv"), SETTINGS)
    table = ResumableTable(path, SETTINGS)
    for condition in ("clean", "mixture", "white noise"):
        table.add(rows(condition))
        whole.add(rows(condition))
    size = path.stat().st_size
    with no_file_beyond(size + 40), pytest.raises(OSError, match="too large"):
        table.add(rows("speech"))
    assert path.stat().st_size == size + 40
    again = ResumableTable(path, SETTINGS)
    assert ("speech",) in again.keys("condition")
    for found in (again, whole):
        found.add(rows("rain"))
    again_rows = ResumableTable(path, SETTINGS).rows
    assert len(again_rows) == 10
    expected = whole.rows.condition.tolist()
    assert again_rows[again_rows.condition != "speech"].condition.tolist() == expected
    assert files(path) == sorted(["per_clip.csv", "per_clip.json", *WHOLE])


def test_additions_are_appended(path: Path) -> None:
    """What is there already is not written again."""
    table = ResumableTable(path, SETTINGS)
    table.add(rows("clean"))
    node = path.stat().st_ino
    table.add(rows("speech"))
    assert path.stat().st_ino == node


def test_rows_without_a_column_are_refused(path: Path) -> None:
    """A metric that was added since is named, and so is the way out."""
    ResumableTable(path, SETTINGS).add(rows())
    assert len(ResumableTable(path, SETTINGS, needed=["AI", "seconds"]).rows) == 2
    message = (
        "^per_clip.csv in output_folder has no column toy, which was added since: "
        "choose another folder, or remove that one$"
    )
    with pytest.raises(ValueError, match=message):
        ResumableTable(path, SETTINGS, needed=["AI", "toy"])
    with pytest.raises(ValueError, match="rows have"):
        ResumableTable(path, SETTINGS).add(rows().assign(toy=1.0))


def test_text_columns_are_never_numbers(path: Path) -> None:
    """Other columns than the id may hold names, too."""
    options = {"text_columns": ("id", "other")}
    table = ResumableTable(path, SETTINGS, **options)
    table.add(rows().assign(other=["008", "NA"]))
    assert ResumableTable(path, SETTINGS, **options).rows.other.tolist() == [
        "008",
        "NA",
    ]


# --- settings -----------------------------------------------------------------------


def test_settings_stand_beside_the_rows(path: Path) -> None:
    """They are written as JSON before there is a row."""
    ResumableTable(path, SETTINGS)
    assert json.loads(path.with_suffix(".json").read_text()) == SETTINGS


@pytest.mark.parametrize(
    ("name", "now", "told"),
    [
        ("seed", 1, r"\(0, now 1\)"),
        ("model", "77b0", r"\(0f3a, now 77b0\)"),
        ("clips", ["007"], r"\(\['007', 'b'\], now \['007'\]\)"),
        ("domain", "mel", r"\(None, now mel\)"),
    ],
)
def test_other_settings_are_refused(path: Path, name: str, now: Any, told: str) -> None:
    """A table with other settings is not resumed; the error names the setting."""
    ResumableTable(path, SETTINGS).add(rows())
    before = {file: (path.parent / file).read_bytes() for file in files(path)}
    message = (
        f"^output_folder holds figures for another setting of {name} {told}: "
        "choose another folder, or remove that one$"
    )
    with pytest.raises(ValueError, match=message):
        ResumableTable(path, {**SETTINGS, name: now})
    assert {file: (path.parent / file).read_bytes() for file in files(path)} == before


def test_a_setting_that_nothing_depends_on_yet(path: Path) -> None:
    """None stands for it: it may be added to the rows there are, and then counts."""
    ResumableTable(path, {**SETTINGS, "speech": None}).add(rows())
    ResumableTable(path, {**SETTINGS, "speech": "a"})
    ResumableTable(path, {**SETTINGS, "speech": None})
    assert json.loads(path.with_suffix(".json").read_text())["speech"] == "a"
    with pytest.raises(ValueError, match=r"another setting of speech \(a, now b\)"):
        ResumableTable(path, {**SETTINGS, "speech": "b"})


def test_a_setting_that_is_gone_is_refused(path: Path) -> None:
    """A table that depends on a setting that no longer exists is not resumed."""
    ResumableTable(path, SETTINGS).add(rows())
    fewer = {k: v for k, v in SETTINGS.items() if k != "share"}
    with pytest.raises(ValueError, match=r"another setting of share \(0.2, now None\)"):
        ResumableTable(path, fewer)


def test_rows_of_unknown_settings_are_refused(path: Path) -> None:
    """A table without its settings may be of any."""
    ResumableTable(path, SETTINGS).add(rows())
    path.with_suffix(".json").unlink()
    with pytest.raises(
        ValueError, match=r"another setting of clips \(None, now \['007', 'b'\]\)"
    ):
        ResumableTable(path, SETTINGS)


def test_settings_are_compared_as_they_are_written(path: Path) -> None:
    """Neither order nor what JSON has no word for makes settings different."""
    ResumableTable(path, {**SETTINGS, "shares": [0.1, 0.2]}).add(rows())
    again = {"shares": (0.1, 0.2), **dict(reversed(SETTINGS.items()))}
    assert len(ResumableTable(path, again).rows) == 2


def test_settings_without_rows_are_replaced(path: Path) -> None:
    """A run that ended before its first batch binds nobody."""
    ResumableTable(path, SETTINGS)
    other = {**SETTINGS, "seed": 1}
    ResumableTable(path, other).add(rows())
    assert len(ResumableTable(path, other).rows) == 2
    with pytest.raises(ValueError, match=r"another setting of seed \(1, now 0\)"):
        ResumableTable(path, SETTINGS)


def test_tables_of_one_folder_do_not_meet(path: Path) -> None:
    """Each table has settings of its own."""
    ResumableTable(path, SETTINGS).add(rows())
    other = ResumableTable(path.with_name("curves.csv"), {"seed": 5})
    assert other.rows.empty
    assert len(ResumableTable(path, SETTINGS).rows) == 2


# --- files that were damaged ---------------------------------------------------------


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("lost", [1, 5, 30])
def test_a_table_that_was_cut_in_a_row(
    path: Path, caplog: pytest.LogCaptureFixture, quoted: bool, lost: int
) -> None:
    """That row is made anew, with a line; those before it stay as they are."""
    ids = ("a", 'line\nbreak, "quoted"' if quoted else "b")
    ResumableTable(path, SETTINGS).add(rows("clean", ids))
    content = path.read_bytes()
    path.write_bytes(content[:-lost])
    table = ResumableTable(path, SETTINGS)
    assert list(table.rows.id) == ["a"]
    assert table.rows.AI.iloc[0] == pytest.approx(rows("clean", ids).AI.iloc[0])
    assert "per_clip.csv was cut in a row: that row is made anew" in caplog.text
    table.add(rows("clean", ids)[1:])
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["per_clip.csv", "per_clip.json"])
@pytest.mark.parametrize("kept", [0, 3])
def test_a_table_without_a_whole_row_or_settings(
    path: Path, caplog: pytest.LogCaptureFixture, name: str, kept: int
) -> None:
    """It is made anew, with a line, not a traceback."""
    ResumableTable(path, SETTINGS).add(rows())
    before = path.read_bytes()
    damaged = path.with_name(name)
    damaged.write_bytes(damaged.read_bytes()[:kept])
    table = ResumableTable(path, SETTINGS)
    assert table.rows.empty
    assert "is damaged" in caplog.text and "made anew" in caplog.text
    table.add(rows())
    assert path.read_bytes() == before
    assert ResumableTable(path, SETTINGS).keys("id") == {("007",), ("b",)}


def test_a_journal_that_was_cut(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its rows are computed again."""
    ResumableTable(path, SETTINGS).add(rows())
    path.with_suffix(".part").write_text('{"offset": 3, "te')
    assert len(ResumableTable(path, SETTINGS).rows) == 2
    assert "per_clip.part is damaged" in caplog.text
    assert files(path) == ["per_clip.csv", "per_clip.json"]


def test_recordings_of_a_table_of_an_older_version(path: Path) -> None:
    """They are not known: any agree; once they are noted, others are refused."""
    ResumableTable(path, SETTINGS).add(rows())
    for _ in range(2):
        ResumableTable(path, {**SETTINGS, "recordings": "a1"})
    with pytest.raises(InputError, match="another setting of recordings"):
        ResumableTable(path, {**SETTINGS, "recordings": "b2"})


def test_ids_that_are_formulas_to_a_spreadsheet(path: Path) -> None:
    """Escaped in the file, and as they are when it is opened again."""
    ids = ("=1+1", "-0Gj8", "b")
    ResumableTable(path, SETTINGS).add(rows(ids=ids))
    assert "clean,'=1+1," in path.read_text()
    table = ResumableTable(path, SETTINGS)
    assert list(table.rows.id) == list(ids)
    table.drop("id", ["b"])
    assert list(ResumableTable(path, SETTINGS).rows.id) == ["=1+1", "-0Gj8"]


def test_rows_of_another_version_are_said(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also of a folder to which one version after another has added rows."""
    for ids in (("a",), ("b",)):
        ResumableTable(path, SETTINGS, code="1.0").add(rows(ids=ids))
    assert not caplog.records
    ResumableTable(path, SETTINGS, code="1.1")  # which adds nothing
    assert "has rows that lmaczs 1.0 made, and this is 1.1" in caplog.text
    ResumableTable(path, SETTINGS, code="1.1").add(rows(ids=("c",)))
    caplog.clear()
    table = ResumableTable(path, SETTINGS, code="1.1")
    assert "has rows that lmaczs 1.0 and 1.1 made" in caplog.text
    assert list(table.rows.id) == ["a", "b", "c"]
