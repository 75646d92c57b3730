"""A Hub that is not there, or accepts and never answers: how long a command takes.

python benchmarks/faults/absent_hub.py --json absent_hub.json
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

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

HOW = {
    "offline": "HF_HUB_OFFLINE=1, and nothing in the cache",
    "unreachable": "a port at which nobody listens",
    "silent": "a socket on loopback that accepts and never answers",
}


def seconds(words: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Time of `lmaczs interpret` with a model of the Hub, and what it printed last."""
    line = [sys.executable, "-m", "lmaczs.cli", "interpret", *words]
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
    common = [str(clip), "--prompt", "dog", "--out", str(place / "out")]
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
            one_line = all(text.count("\n") == 0 and text for _, text in runs)
            rows.append(
                {
                    "fault": f"the Hub is {name}",
                    "how": f"lmaczs interpret with {HOW[name]}",
                    "tried": len(runs),
                    "before": BEFORE[name],
                    "now": f"{' and '.join(f'{took:.1f}' for took, _ in runs)} s, "
                    f"{'one sentence' if one_line else 'more than one line'}",
                }
            )
    return rows


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
