"""facts.py: what a page needs to know about a run, without this machine's paths."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import pytest
import torch

from lmaczs import __version__
from lmaczs.evaluation.facts import (
    FACTS,
    machine_facts,
    read_facts,
    shown_options,
    write_facts,
)
from lmaczs.evaluation.facts import (
    tested_set as name_of_set,
)


def test_machine_facts_are_json() -> None:
    """Date, machine, and versions of what figures depend on."""
    found = json.loads(json.dumps(machine_facts()))
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} used at once"
    assert found["machines"] == [f"{platform.system()} {platform.machine()}, {cores}"]
    assert found["versions"]["lmaczs"] == __version__
    assert {"python", "torch", "transformers"} <= set(found["versions"])
    assert len(found["date"].split("-")) == 3


def test_absolute_paths_lose_their_folders() -> None:
    """Also inside a mapping; relative paths and other values stay."""
    given = [
        "--data_folder=/home/me/ESC50",
        "--decoders={LMAC-ZS: [/a/b/one, /a/b/two], part: runs/three}",
        "--source=models/mine",
        "--test_folds=[1, 2]",
    ]
    assert shown_options(given) == [
        "--data_folder=ESC50",
        "--decoders={LMAC-ZS: [one, two], part: runs/three}",
        "--source=models/mine",
        "--test_folds=[1, 2]",
    ]


def test_calls_add_up(tmp_path: Path) -> None:
    """A folder that was filled in two calls has the time and methods of both."""
    assert read_facts(tmp_path) == {}
    one = {"seconds": 2.0, "passes": {"a": 1}, "machines": ["x"], "seed": 1}
    write_facts(tmp_path, one)
    write_facts(tmp_path, {**one, "seconds": 3.0, "passes": {"b": 2}})
    both = {**one, "seconds": 5.0, "passes": {"a": 1, "b": 2}}
    assert read_facts(tmp_path) == both
    more = {**one, "passes": {"c": 3}, "machines": ["y"]}
    write_facts(tmp_path / "joined", more, [tmp_path])
    every = {"a": 1, "b": 2, "c": 3}
    expected = {**both, "seconds": 7.0, "passes": every, "machines": ["y", "x"]}
    assert read_facts(tmp_path / "joined") == expected
    assert (tmp_path / FACTS).read_text().endswith("}\n")


def test_name_of_what_is_tested() -> None:
    """The set's, or the manifest's without its folder."""
    none = {"manifest": None, "urbansound8k_folder": None, "dataset": "esc50"}
    assert name_of_set(none) == "esc50"
    assert name_of_set({**none, "urbansound8k_folder": "x"}) == "urbansound8k"
    assert name_of_set({**none, "manifest": "/data/birds.csv"}) == "birds.csv"


def test_facts_that_were_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are made anew, with a line."""
    (tmp_path / "facts.json").write_text('{"seconds": 1')
    assert read_facts(tmp_path) == {}
    assert "facts.json is damaged" in caplog.text
