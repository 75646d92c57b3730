"""rows.py: what other programs read from stdout."""

from __future__ import annotations

import argparse
import csv
import io
import json

import pytest

from lmaczs.cli.rows import RowWriter, add_format

ROWS = [
    {"file": "a,1.wav", "presence": 0.5, "empty": False, "more": [1]},
    {"file": "é\n\r.wav", "presence": None, "empty": True, "more": []},
]
Capture = pytest.CaptureFixture[str]


def written(kind: str, columns: list[str] | None, capsys: Capture) -> str:
    """What a writer prints of the rows, written in two steps."""
    with RowWriter(kind, columns) as writer:
        writer.write(ROWS[:1])
        writer.write([])
        writer.write(ROWS[1:])
    return capsys.readouterr().out


def test_csv_reads_back(capsys: Capture) -> None:
    """A header, six decimals, an empty cell for None."""
    text = written("csv", ["file", "presence", "empty"], capsys)
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["file", "presence", "empty"],
        ["a,1.wav", "0.500000", "False"],
        ["é\n\r.wav", "", "True"],
    ]


def test_json_reads_back(capsys: Capture) -> None:
    """An array, or a line each; some keys or all."""
    for columns in (None, ["file", "presence"]):
        wanted = [{k: v for k, v in r.items() if k in (columns or r)} for r in ROWS]
        assert json.loads(written("json", columns, capsys)) == wanted
        lines = written("jsonl", columns, capsys).splitlines()
        assert list(map(json.loads, lines)) == wanted


@pytest.mark.parametrize(
    "kind, text", [("csv", "file\n"), ("json", "[]\n"), ("jsonl", "")]
)
def test_no_row(kind: str, text: str, capsys: Capture) -> None:
    """What is printed of nothing can be read, too."""
    with RowWriter(kind, ["file"]):
        pass
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@a", "\t=1"])
def test_no_cell_is_a_formula(name: str, capsys: Capture) -> None:
    """A spreadsheet shows it as text; numbers stay numbers, and JSON is as it is."""
    for kind in ("csv", "jsonl"):
        with RowWriter(kind, ["file", "similarity"]) as writer:
            writer.write([{"file": name, "similarity": -0.5}])
    table, line = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert list(csv.reader(io.StringIO(table)))[1] == [f"'{name}", "-0.500000"]
    assert json.loads(line) == {"file": name, "similarity": -0.5}


def test_options() -> None:
    """For people where there is no default."""
    for default in (None, "csv"):
        parser = argparse.ArgumentParser()
        add_format(parser, default)
        assert parser.parse_args([]).format == default
        args = parser.parse_args(["--format", "json", "--quiet"])
        assert args.format == "json" and args.quiet
