"""Runs code in a child process.

Importing a package that was compiled for another version of torch can raise, kill the
process, or hang.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TIMEOUT = 300
"""Seconds after which a child process counts as hanging."""

RUNNER = """
import json, sys
task = json.load(sys.stdin)
sys.path[:] = task["path"]
for name, code in task["codes"].items():
    result = {"info": None, "error": ""}
    try:
        space = {}
        exec(code, space)
        result["info"] = space.get("info")
    except BaseException as error:
        result["error"] = f"{type(error).__name__}: {error}"
    print("\\n" + task["marker"] + json.dumps([name, result]), flush=True)
"""
MARKER = "lmaczs doctor: "


@dataclass(frozen=True)
class ProbeResult:
    """Outcome of a piece of code."""

    info: Any = None
    """The code's variable `info`."""
    error: str = ""
    """Why it failed, on one line; empty if it did not."""


def probe(codes: Mapping[str, str], timeout: float = TIMEOUT) -> dict[str, ProbeResult]:
    """Run pieces of Python source, by name, in a child process of `timeout` seconds.

    If one ends the process, the next ones get a new one.
    """
    results: dict[str, ProbeResult] = {}
    while left := {name: code for name, code in codes.items() if name not in results}:
        output, end = _run(left, timeout)
        for line in output.splitlines():
            if line.startswith(MARKER):
                name, result = json.loads(line.removeprefix(MARKER))
                error = " ".join(result["error"].split())
                results[name] = ProbeResult(result["info"], error)
        lost = next((name for name in left if name not in results), None)
        if lost is not None:
            results[lost] = ProbeResult(error=end)
    return results


def _run(codes: Mapping[str, str], timeout: float) -> tuple[str, str]:
    """Output of a child process, and how it ended in words."""
    task = {"path": sys.path, "codes": codes, "marker": MARKER}
    child = subprocess.Popen(
        [sys.executable, "-c", RUNNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"},
    )
    try:
        output, _ = child.communicate(json.dumps(task), timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        output, _ = child.communicate()
        return output, f"it hangs: no answer within {timeout:g} s"
    return output, f"it ends Python with exit status {child.returncode}"
