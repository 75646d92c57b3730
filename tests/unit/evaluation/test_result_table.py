"""kept_table.py: what was computed is there again, and nothing else is taken for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmaczs.evaluation.result_table import KeptTable

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
    assert KeptTable(path, SETTINGS).rows.empty
    KeptTable(path, SETTINGS).add(rows("clean"))
    table = KeptTable(path, SETTINGS)
    table.add(rows("speech"))
    table.add(rows("white noise"))
    parts = [rows("clean"), rows("speech"), rows("white noise")]
    expected = pd.concat(parts, ignore_index=True)
    for found in (table.rows, KeptTable(path, SETTINGS).rows):
        pd.testing.assert_frame_equal(found, expected, rtol=1e-14)


def test_every_batch_is_written(path: Path) -> None:
    """What was added is on disk at once, and nothing but the table and its settings."""
    table = KeptTable(path, SETTINGS)
    for count, condition in enumerate(("clean", "speech"), 1):
        table.add(rows(condition))
        assert len(pd.read_csv(path)) == 2 * count
        assert files(path) == ["per_clip.csv", "per_clip.json"]


def test_ids_stay_strings(path: Path) -> None:
    """Names that look like numbers keep their zeros, however often they are read."""
    ids = ("007", "1e3", "12")
    for _ in range(3):
        table = KeptTable(path, SETTINGS)
        table.add(rows(ids=ids))
    found = KeptTable(path, SETTINGS).rows.id
    assert found.tolist() == [*ids] * 3


def test_has(path: Path) -> None:
    """Values count together, in one row, before and after reading."""
    table = KeptTable(path, SETTINGS)
    assert not table.has(condition="clean")
    table.add(rows("clean"))
    table.add(rows("speech", ids=("c",)).assign(batch=8))
    for found in (table, KeptTable(path, SETTINGS)):
        assert found.has(condition="clean") and found.has(id="007")
        assert found.has(condition="clean", batch=0)
        assert found.has(condition="speech", batch=8, id="c")
        assert not found.has(condition="clean", batch=8)
        assert not found.has(condition="mixture")
        assert not found.has(condition="speech", id="007")


def test_an_exception_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails half-way leaves the older rows, no remains, and can go on."""
    table = KeptTable(path, SETTINGS)
    table.add(rows("clean"))
    before = path.read_bytes()

    def to_csv(self: pd.DataFrame, part: Path, **options: Any) -> None:
        Path(part).write_text("condition,id\nspee")
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", to_csv)
        with pytest.raises(OSError, match="the disk is full"):
            table.add(rows("speech"))
    assert path.read_bytes() == before
    assert files(path) == ["per_clip.csv", "per_clip.json"]
    again = KeptTable(path, SETTINGS)
    assert again.has(condition="clean") and not again.has(condition="speech")
    again.add(rows("speech"))
    assert len(KeptTable(path, SETTINGS).rows) == 4


# --- settings -----------------------------------------------------------------------


def test_settings_stand_beside_the_rows(path: Path) -> None:
    """They are written as JSON before there is a row."""
    KeptTable(path, SETTINGS)
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
    """Rows of other settings are not gone on with; the setting is named."""
    KeptTable(path, SETTINGS).add(rows())
    before = {file: (path.parent / file).read_bytes() for file in files(path)}
    message = (
        f"^output_folder holds figures for another setting of {name} {told}: "
        "choose another output_folder, or remove that one$"
    )
    with pytest.raises(ValueError, match=message):
        KeptTable(path, {**SETTINGS, name: now})
    assert {file: (path.parent / file).read_bytes() for file in files(path)} == before


def test_a_setting_that_nothing_depends_on_yet(path: Path) -> None:
    """None stands for it: it may be added to the rows there are, and then counts."""
    KeptTable(path, {**SETTINGS, "speech": None}).add(rows())
    KeptTable(path, {**SETTINGS, "speech": "a"})
    KeptTable(path, {**SETTINGS, "speech": None})
    assert json.loads(path.with_suffix(".json").read_text())["speech"] == "a"
    with pytest.raises(ValueError, match=r"another setting of speech \(a, now b\)"):
        KeptTable(path, {**SETTINGS, "speech": "b"})


def test_a_setting_that_is_gone_is_refused(path: Path) -> None:
    """Rows that depend on a setting which there no longer is are not gone on with."""
    KeptTable(path, SETTINGS).add(rows())
    fewer = {k: v for k, v in SETTINGS.items() if k != "share"}
    with pytest.raises(ValueError, match=r"another setting of share \(0.2, now None\)"):
        KeptTable(path, fewer)


def test_rows_of_unknown_settings_are_refused(path: Path) -> None:
    """A table without its settings may be of any."""
    KeptTable(path, SETTINGS).add(rows())
    path.with_suffix(".json").unlink()
    with pytest.raises(
        ValueError, match=r"another setting of clips \(None, now \['007', 'b'\]\)"
    ):
        KeptTable(path, SETTINGS)


def test_settings_are_compared_as_they_are_written(path: Path) -> None:
    """Neither order nor what JSON has no word for makes settings different."""
    KeptTable(path, {**SETTINGS, "shares": [0.1, 0.2]}).add(rows())
    again = {"shares": (0.1, 0.2), **dict(reversed(SETTINGS.items()))}
    assert len(KeptTable(path, again).rows) == 2


def test_settings_without_rows_are_replaced(path: Path) -> None:
    """A run that ended before its first batch binds nobody."""
    KeptTable(path, SETTINGS)
    other = {**SETTINGS, "seed": 1}
    KeptTable(path, other).add(rows())
    assert len(KeptTable(path, other).rows) == 2
    with pytest.raises(ValueError, match=r"another setting of seed \(1, now 0\)"):
        KeptTable(path, SETTINGS)


def test_tables_of_one_folder_do_not_meet(path: Path) -> None:
    """Each table has settings of its own."""
    KeptTable(path, SETTINGS).add(rows())
    other = KeptTable(path.with_name("curves.csv"), {"seed": 5})
    assert other.rows.empty
    assert len(KeptTable(path, SETTINGS).rows) == 2
