"""The table of faults and attacks in docs/faults.md: everything in it is tried.

    python benchmarks/faults_table.py [--results results/faults] [--page docs/faults.md]

Runs the scripts of `SCRIPTS`, each of which writes its rows as JSON into --results, and
makes the page of them. A script whose rows are there is not run again: --again runs
all. Hours on two cores; each script has its own options for a shorter try.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from common.timing import machine

from lmaczs.report.markdown import table
from lmaczs.utils.errors import InputError, run_recipe
from lmaczs.utils.files import atomic_write

HERE = Path(__file__).parent
SCRIPTS: Mapping[str, tuple[str, ...]] = {
    "Recordings": ("fuzz.py", "--cases=20000"),
    "Models of strangers": ("faults/hostile_models.py",),
    "A Hub that is not there": ("faults/absent_hub.py",),
    "Training": ("faults/training.py",),
    "Processes that are killed": ("faults/kills.py",),
    "A corpus of 3,000 clips": ("corpus.py", "--clips=3000", "--kills=5"),
}
"""Heading -> script beside this one, and its options."""

COLUMNS = {
    "fault": "fault or attack",
    "how": "how it was tried",
    "tried": "how often",
    "before": "before",
    "now": "now",
}
INTRODUCTION = """\
# Faults and attacks

What was done to lmaczs on purpose, how often, and what came of it. "Before" is what
came of it when that was first tried. Made by `make faults`, in hours;
[SECURITY.md](../SECURITY.md) has what is trusted and what is not.
"""


def main(argv: list[str]) -> Path:
    """Run what has not been run, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=Path("results/faults"))
    parser.add_argument("--page", type=Path, default=Path("docs/faults.md"))
    parser.add_argument("--again", action="store_true", help="run every script")
    options = parser.parse_args(argv)
    options.results.mkdir(parents=True, exist_ok=True)
    sections = {}
    for heading, (script, *words) in SCRIPTS.items():
        path = options.results / f"{Path(script).stem}.json"
        if options.again or not path.is_file():
            _run(script, [*words, f"--json={path}"])
        found = json.loads(path.read_text(encoding="utf-8"))
        sections[heading] = found["rows"] if isinstance(found, dict) else found
    with atomic_write(options.page) as part:
        part.write_text(page(sections), encoding="utf-8")
    return options.page


def _run(script: str, words: Iterable[str]) -> None:
    print(f"== {script}", flush=True)
    done = subprocess.run([sys.executable, HERE / script, *words])
    if done.returncode:
        raise InputError(f"{script} ended with status {done.returncode}: see above")


def page(sections: Mapping[str, Iterable[Mapping[str, object]]]) -> str:
    """The page, from rows of `COLUMNS` under headings."""
    facts = machine("cpu")
    made = f"{facts['processor']}, {facts['cores']} cores, torch {torch.__version__}"
    parts = [INTRODUCTION, f"Machine: {made}.\n"]
    for heading, rows in sections.items():
        cells = [[_cell(row[name]) for name in COLUMNS] for row in rows]
        parts += [f"## {heading}\n", table(list(COLUMNS.values()), cells)]
    return "\n".join(parts)


def _cell(value: object) -> str:
    """Text that stays in its cell."""
    return " ".join(str(value).split()).replace("|", "\\|")


if __name__ == "__main__":
    run_recipe(main, print)
