"""Digests: what changes them, and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import lmaczs
from lmaczs.utils.digests import clips_digest, code_digest, files_digest, fingerprint


def clips(folder: Path) -> pd.DataFrame:
    """Two clips whose files are in a folder."""
    folder.mkdir()
    for name in ("a.wav", "b.wav"):
        (folder / name).write_bytes(b"sound")
    columns = {"id": ["a", "b"], "label": ["dog", "rain"], "split": "train"}
    paths = [str(folder / name) for name in ("a.wav", "b.wav")]
    return pd.DataFrame({**columns, "path": paths, "start": float("nan")})


@pytest.mark.parametrize(
    "change",
    [
        {"label": ["dog", "dog"]},
        {"split": ["train", "test"]},
        {"start": [0.0, float("nan")]},
        {"id": ["a", "c"]},
    ],
)
def test_clips_that_differ(tmp_path: Path, change: dict[str, Any]) -> None:
    """By a name, a word, a split or a cut."""
    table = clips(tmp_path / "one")
    assert clips_digest(table.assign(**change)) != clips_digest(table)


def test_clips_that_were_moved_or_changed(tmp_path: Path) -> None:
    """Where they lie does not count, how large they are and how many does."""
    table = clips(tmp_path / "one")
    digest = clips_digest(table)
    assert digest.startswith("2 (digest ")
    assert clips_digest(clips(tmp_path / "two")) == digest
    assert clips_digest(table[:1]).startswith("1 (digest ")
    (tmp_path / "one" / "b.wav").write_bytes(b"another sound")
    assert clips_digest(table) != digest


def test_another_content_of_the_same_size(tmp_path: Path) -> None:
    """It counts where its digest is in the table."""
    table = clips(tmp_path / "one")
    one, two = (table.assign(sha256=["1", x]) for x in ("2", "3"))
    assert len({clips_digest(x) for x in (table, one, two)}) == 3


def test_the_code_is_known_by_its_content() -> None:
    """Other parts of the package left out are another one; the version leads."""
    assert code_digest() == code_digest()
    assert code_digest().startswith(f"{lmaczs.__version__} (digest ")
    assert len({code_digest(), code_digest("app"), code_digest("app", "cli")}) == 3
    assert code_digest("no_part") == code_digest()


def test_contents_of_files(tmp_path: Path) -> None:
    """Of a model's folder every file counts, of a Hub id its name."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
    one, two = tmp_path / "one", tmp_path / "two"
    assert files_digest([one]) == files_digest([two])
    (two / "model.safetensors").write_bytes(b"heights")
    assert files_digest([one]) != files_digest([two])
    found = {files_digest([x]) for x in (None, "a/b", "a/c", one / "config.json")}
    assert len(found) == 4


def test_fingerprint_of_weights() -> None:
    """Another value or another name makes another one."""
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(other)
    with torch.no_grad():
        other.bias[0] += 1
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) != fingerprint(nn.Sequential(one))
