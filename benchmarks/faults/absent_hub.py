"""A Hub that is not there, or accepts and never answers: how long a command takes.

python benchmarks/faults/absent_hub.py --json absent_hub.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from lmaczs.hub import default_source

OPTIONS = {
    "a CLAP": ["--clap", "nobody/none"],
    "a decoder": ["--source", "nobody/none"],
}
LONGEST = 120.0  # seconds until a command is ended
BEFORE = {
    "offline": "17 and 20 s",
    "unreachable": "42 and 22 s",
    "silent": "more than 100 s, both",
}
"""Measured at commit 749d64a by these commands, on two busy cores."""

PUSH_BEFORE = "38 s"
"""Measured at commit 6523a58, on two busy cores."""

HOW = {
    "offline": "HF_HUB_OFFLINE=1, and nothing in the cache",
    "unreachable": "a port at which nobody listens",
    "silent": "a socket on loopback that accepts and never answers",
}


def seconds(words: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Time of a command that needs the Hub, and what it printed last."""
    line = [sys.executable, "-m", "lmaczs.cli", *words]
    start = time.monotonic()
    try:
        done = subprocess.run(
            line,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
    except subprocess.TimeoutExpired:
        return LONGEST, "killed"
    return time.monotonic() - start, done.stderr.strip()


def measured(place: Path) -> list[dict[str, Any]]:
    """A row for each kind of absence."""
    clip = place / "clip.wav"
    soundfile.write(clip, np.zeros(16000, "float32"), 16000)
    common = ["interpret", str(clip), "--prompt", "dog", "--out", str(place / "out")]
    pushing = ["push", str(exported(place / "exported")), "nobody/none"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = f"http://127.0.0.1:{server.getsockname()[1]}"
        environments = {
            "offline": {"HF_HUB_OFFLINE": "1"},
            "unreachable": {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"},
            "silent": {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": silent},
        }
        rows = []
        for name, environment in environments.items():
            environment |= {"HF_HOME": str(place / "home")}
            runs = [seconds([*common, *w], environment) for w in OPTIONS.values()]
            rows.append(row(name, "interpret", runs, BEFORE[name]))
        runs = [seconds(pushing, environments["silent"])]
        rows.append(row("silent", "push", runs, PUSH_BEFORE))
    return rows


def row(
    name: str, command: str, runs: list[tuple[float, str]], before: str
) -> dict[str, Any]:
    """A row of the table: how long each run took, and whether it said why."""
    one_line = all(text.count("\n") == 0 and text for _, text in runs)
    return {
        "fault": f"the Hub is {name}",
        "how": f"lmaczs {command} with {HOW[name]}",
        "tried": len(runs),
        "before": before,
        "now": f"{' and '.join(f'{took:.1f}' for took, _ in runs)} s, "
        f"{'one sentence' if one_line else 'more than one line'}",
    }


def exported(folder: Path) -> Path:
    """The embedded decoder with a copy of its CLAP, as `lmaczs export` writes it."""
    shutil.copytree(default_source(), folder)
    shutil.copytree(default_source().with_name("clap_small"), folder / "clap")
    for path in (folder / "hyperparams.yaml", folder / "interpreter.json"):
        path.write_text(path.read_text().replace("../clap_small", "clap"))
    return folder


def main() -> None:
    """Measure, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the table is written")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = measured(Path(name))
    for row in rows:
        print(f"{row['fault']} ({row['how']}): {row['now']}; before: {row['before']}")
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
