"""recipes/frechet.py with its real YAML: sets of clips from folder to table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from lmaczs.data.build import read_rows
from lmaczs.utils.errors import LmaczsError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(write_esc50: Callable[..., Path]) -> Path:
    """Three labels, folds 1 to 5: nine clips to train on, three to test on."""
    return write_esc50(["dog", "rain", "siren"], folds=5)


@pytest.fixture(scope="module")
def frechet(
    recipe: Callable[[str], ModuleType], tiny_clap_folder: Path
) -> Callable[..., Any]:
    """Function that runs the recipe on sets, in YAML, into a folder."""

    def run(sets: str, folder: Path, *options: str) -> pd.DataFrame:
        line = [str(ROOT / "hparams/frechet.yaml"), f"--sets={sets}"]
        line += [f"--clap_source={tiny_clap_folder}", f"--output_folder={folder}"]
        return recipe("frechet").main([*line, *options])

    return run


def test_folders_manifests_and_data_sets(
    frechet: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    """The same clips have no distance, however they are named."""
    read_rows(data).to_csv(tmp_path / "all.csv", index=False)
    train = f"{{data_folder: {data}, dataset: esc50, part: train}}"
    sets = f"{{all: {data / 'audio'}, listed: {tmp_path / 'all.csv'}, train: {train}}}"
    found = frechet(sets, tmp_path / "out")
    assert found.first_clips.tolist() == [15, 15, 15]
    assert found.second_clips.tolist() == [15, 9, 9]
    assert found.distance[0] == pytest.approx(0, abs=1e-6)
    assert found.distance[1] == pytest.approx(found.distance[2], rel=1e-3)
    assert found.distance[1] > 1e-5
    written = pd.read_csv(tmp_path / "out/frechet.csv")
    pd.testing.assert_frame_equal(written, found)
    few = frechet(sets, tmp_path / "few", "--max_clips=4")
    assert few.first_clips.tolist() == few.second_clips.tolist() == [4] * 3


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ("{one: DATA}", "sets names fewer than two"),
        ("DATA", "sets names fewer than two"),
        ("{one: DATA, other: nowhere}", "nowhere is no folder"),
        ("{one: DATA, other: {data_folder: DATA, part: x}}", "no clip of part x"),
    ],
)
def test_sets_that_cannot_be_compared(
    frechet: Callable[..., Any], data: Path, tmp_path: Path, sets: str, message: str
) -> None:
    """Before a model is loaded; nothing is written."""
    with pytest.raises(LmaczsError, match=message):
        frechet(sets.replace("DATA", str(data)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
