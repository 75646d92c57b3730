"""facts.json of an evaluation: when, where and with what its figures were made."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lmaczs import __version__
from lmaczs.utils.files import atomic_write

logger = logging.getLogger(__name__)

FACTS = "facts.json"
PACKAGES = ("torch", "transformers", "speechbrain", "numpy", "scipy", "captum")


def machine_facts(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Date, machine with the device that models run on, and versions."""
    system = f"{platform.system()} {platform.machine()}"
    words = [system, f"{os.cpu_count()} cores, {torch.get_num_threads()} used at once"]
    if torch.device(device).type == "cuda":
        words.append(torch.cuda.get_device_name(device))
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machines": [", ".join(words)],
        "versions": {
            "lmaczs": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
    }


def shown_options(argv: Iterable[str]) -> list[str]:
    """Options of a command line, with the last part of absolute paths alone."""
    return [re.sub(r"(?<![\w.])/(?:[^\s,\[\]{}\"']+/)*", "", word) for word in argv]


def tested_set(hparams: Mapping[str, Any]) -> str:
    """Name of the set that is tested, without this machine's paths."""
    if hparams["manifest"] is not None:
        return Path(hparams["manifest"]).name
    if hparams["urbansound8k_folder"] is not None:
        return "urbansound8k"
    return str(hparams["dataset"])


def write_facts(
    folder: str | Path,
    facts: Mapping[str, Any],
    others: Sequence[str | Path] = (),
) -> None:
    """Write facts.json; seconds, passes and machines of earlier calls are added to.

    `facts` has seconds (of this call), machines and passes (encoder passes a clip, by
    method), in addition to what the caller wants. `others` are folders whose rows were
    taken over; their machines come last.
    """
    every = [read_facts(folder), facts, *map(read_facts, others)]
    every = [one for one in every if one]
    machines = [name for one in every for name in one["machines"]]
    passes = [one["passes"] for one in every]
    joined = {
        **facts,
        "seconds": sum(one["seconds"] for one in every),
        "machines": list(dict.fromkeys(machines)),
        "passes": {name: value for one in passes for name, value in one.items()},
    }
    with atomic_write(Path(folder) / FACTS) as part:
        part.write_text(
            json.dumps(joined, indent=1, ensure_ascii=False) + "\n", "utf-8"
        )


def read_facts(folder: str | Path) -> dict[str, Any]:
    """facts.json of a folder; empty without one, or, with a line, if it was cut."""
    path = Path(folder) / FACTS
    try:
        return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError) as error:
        logger.warning("%s is damaged (%s): it is made anew", path, error)
        return {}
