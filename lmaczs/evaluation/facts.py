"""facts.json of an evaluation: when, where and with what its figures were made."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lmaczs import __version__
from lmaczs.utils.files import atomic_write

FACTS = "facts.json"
PACKAGES = ("torch", "transformers", "speechbrain", "numpy", "scipy", "captum")


def machine_facts() -> dict[str, Any]:
    """Date, machine, threads and versions."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {
            "lmaczs": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
    }


def shown_options(argv: Sequence[str]) -> list[str]:
    """Options of a command line, with the last part of absolute paths alone."""
    return [re.sub(r"(?<![\w.])/(?:[^\s,\[\]{}\"']+/)*", "", word) for word in argv]


def tested_set(hparams: Mapping[str, Any]) -> str:
    """Name of the set that is tested, without this machine's paths."""
    if hparams["manifest"] is not None:
        return Path(hparams["manifest"]).name
    if hparams["urbansound8k_folder"] is not None:
        return "urbansound8k"
    return str(hparams["dataset"])


def write_facts(folder: str | Path, facts: Mapping[str, Any]) -> None:
    """Write facts.json; seconds and passes of earlier calls are added to.

    `facts` has seconds (of this call) and passes (encoder passes a clip, by method), in
    addition to what the caller wants.
    """
    earlier = read_facts(folder)
    joined = {
        **facts,
        "seconds": facts["seconds"] + earlier.get("seconds", 0.0),
        "passes": {**earlier.get("passes", {}), **facts["passes"]},
    }
    with atomic_write(Path(folder) / FACTS) as part:
        part.write_text(
            json.dumps(joined, indent=1, ensure_ascii=False) + "\n", "utf-8"
        )


def read_facts(folder: str | Path) -> dict[str, Any]:
    """facts.json of a folder; empty without one."""
    path = Path(folder) / FACTS
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}
