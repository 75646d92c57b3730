"""recipes/quality.py with its real YAML file and the embedded default."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from lmaczs.data.esc50 import ESC10
from lmaczs.evaluation import sanity_checks as checks

ROOT = Path(__file__).parents[2]
LABELS = ["dog", "rain", "siren"]  # the last one is not of ESC-10
ROWS = {"presence": 9, "known_sources": 6, "silence": 3, "paraphrases": 2}


@pytest.fixture(scope="module")
def data(write_esc50: Callable[..., Path]) -> Path:
    """Three labels, folds 1 to 5: three clips of 5 s to measure on."""
    return write_esc50(LABELS, folds=5, esc10=True)


@pytest.fixture(scope="module")
def measure(
    recipe: Callable[[str], ModuleType], data: Path
) -> Callable[..., dict[str, float]]:
    """Function that runs the recipe into a folder, with options."""

    def run(folder: Path, *options: str) -> dict[str, float]:
        places = [f"--data_folder={data}", f"--output_folder={folder}"]
        yaml = str(ROOT / "hparams/quality.yaml")
        return recipe("quality").main([yaml, *places, *options])

    return run


@pytest.fixture(scope="module")
def measured(
    measure: Callable[..., dict[str, float]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, float]]:
    """Folder and figures of a run."""
    folder = tmp_path_factory.mktemp("quality") / "out"
    return folder, measure(folder)


@pytest.mark.slow
def test_every_sample_and_every_figure_is_written(
    measured: tuple[Path, dict[str, float]],
) -> None:
    """The figures are finite, and those that the written tables give."""
    folder, figures = measured
    assert {path.name for path in folder.iterdir()} == {
        "quality.json",
        *(f"{name}.csv" for name in ROWS),
    }
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ROWS}
    assert {name: len(table) for name, table in tables.items()} == ROWS
    assert json.loads((folder / "quality.json").read_text()) == figures
    assert all(math.isfinite(value) for value in figures.values())
    assert figures == pytest.approx(checks.summary(tables, ESC10), abs=1e-4)
    assert len(figures) == 22
    assert set(tables["presence"].id) == {"5-5-A-0", "5-105-A-1", "5-205-A-2"}
    assert set(tables["paraphrases"].label) == {"dog", "rain"}


@pytest.mark.slow
def test_the_seed_decides_on_what_is_drawn(
    measured: tuple[Path, dict[str, float]],
    measure: Callable[..., dict[str, float]],
    tmp_path: Path,
) -> None:
    """The same seed draws and measures the same again; another one draws anew."""
    folder, figures = measured
    assert measure(tmp_path / "same") == pytest.approx(figures, abs=1e-4)
    others = []
    for seed in (1, 2):
        measure(tmp_path / str(seed), f"--seed={seed}")
        others.append(pd.read_csv(tmp_path / str(seed) / "known_sources.csv").other)
    first = pd.read_csv(folder / "known_sources.csv").other
    assert first.equals(pd.read_csv(tmp_path / "same" / "known_sources.csv").other)
    assert not all(other.equals(first) for other in others)


@pytest.mark.slow
def test_verdicts_of_the_same_clips(
    recipe: Callable[[str], ModuleType],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """recipes/verdicts.py takes the same YAML; what it prints is made of its rows."""
    places = [f"--data_folder={data}", f"--output_folder={tmp_path}"]
    module = recipe("verdicts")
    tables = module.main([str(ROOT / "hparams/quality.yaml"), *places])
    assert {path.stem for path in tmp_path.glob("*.csv")} == set(tables)
    written = pd.read_csv(tmp_path / "verdicts.csv")
    assert set(written.id) == {"5-5-A-0", "5-105-A-1", "5-205-A-2"}
    shares = tables["rates"][["kept", "partly kept", "not kept", "not heard"]]
    shares = shares.sum(axis=1)
    assert shares.tolist() == pytest.approx([100] * len(shares))
    module.show(tables)
    assert "ranked first" in capsys.readouterr().out


@pytest.mark.slow
def test_contrast_of_the_same_clips(
    recipe: Callable[[str], ModuleType],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """recipes/contrast.py takes the same YAML; each label is explained in four ways."""
    places = [f"--data_folder={data}", f"--output_folder={tmp_path}", "--sums=1"]
    module = recipe("contrast")
    words = [str(ROOT / "hparams/quality.yaml"), *places]
    tables = module.main(words)
    written = pd.read_csv(tmp_path / "sums.csv")
    assert len(written) == len(tables["sums"]) == 8
    module.show(tables)
    assert "decoder, contrast" in capsys.readouterr().out
