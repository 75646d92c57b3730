"""Folders of somebody who means harm, each in a process: none runs code or hangs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "faults" / "hostile_models.py"


FEW = "!apply$|in place of a part|overrides|a pipe|pickles|auto_map|bomb of|depths|NaN"


@pytest.mark.slow
def test_hostile_folders_are_refused_or_loaded_without_their_code(
    tmp_path: Path,
) -> None:
    """The script ends with 0 if all are safe; the table says what became of them."""
    table = tmp_path / "table.json"
    line = [sys.executable, str(SCRIPT), "--only", FEW, "--json", str(table)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    rows = json.loads(table.read_text())
    assert sum(row["tried"] for row in rows) > 30
    assert all(row.keys() >= {"fault", "how", "before", "now"} for row in rows)
    assert all("code ran in 0;" in row["now"] for row in rows)
