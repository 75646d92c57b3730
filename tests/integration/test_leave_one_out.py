"""Fine-tuning on a class that a decoder does not know, from command line to table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from lmaczs.metrics.faithfulness import METRICS
from lmaczs.training.export import export_run

ROOT = Path(__file__).parents[2]
LABELS = ["dog", "rain", "sea waves", "siren"]
FLAGS = ["--noprogressbar", "--num_threads=1", "--device=cpu", "--batch_size=1"]


@pytest.fixture(scope="module")
def data(write_esc50: Callable[..., Path]) -> Path:
    """Four labels, folds 1 to 5: three clips of each to train on."""
    return write_esc50(LABELS, folds=5)


@pytest.fixture(scope="module")
def source(
    recipe: Callable[[str], ModuleType],
    data: Path,
    tiny_clap_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A decoder that was trained without sea waves, exported."""
    out = tmp_path_factory.mktemp("without")
    line = [str(ROOT / "hparams/esc50.yaml"), *FLAGS, "--width=8"]
    line += [f"--data_folder={data}", f"--clap_source={tiny_clap_folder}"]
    line += ["--number_of_epochs=1", "--leave_out=[sea waves]"]
    recipe("train").main([*line, f"--output_folder={out / 'run'}"])
    return export_run(out / "run", out / "exported")


@pytest.mark.slow
def test_every_label_is_learnt_by_itself(
    recipe: Callable[[str], ModuleType],
    data: Path,
    source: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Each label is trained and tested on its own clips, with all labels as prompts."""
    script = recipe("leave_one_out")
    line = [f"--data_folder={data}", f"--source={source}"]
    line += [f"--output_folder={tmp_path}", *FLAGS, "--number_of_epochs=2"]
    table = script.main([*line, "--labels", "sea waves"])
    assert table.stage.tolist() == ["before", "after"]
    assert table.clips.tolist() == [1, 1]
    names = {"before": "before.json", "after": "test.json"}
    for row in table.itertuples():
        figures = json.loads((tmp_path / "sea_waves" / names[row.stage]).read_text())
        assert row.FF == figures["FF"]
        assert row.MM == figures["MM"]
        assert row.MM_absent == figures["MM_absent"]
    assert list(table) == ["label", "clips", "stage", *METRICS, "MM_absent"]
    clips = pd.read_csv(tmp_path / "sea_waves.csv")
    assert clips.label.eq("sea waves").all()
    assert clips.split.value_counts().to_dict() == {"train": 3, "valid": 1, "test": 1}
    assert pd.read_csv(tmp_path / "leave_one_out.csv").equals(table)
    log = (tmp_path / "sea_waves/train_log.txt").read_text()
    assert [f"epoch: {n} - " in log for n in (0, 1, 2)] == [True] * 3
    hyperparams = (tmp_path / "sea_waves/hyperparams.yaml").read_text()
    assert all(label in hyperparams for label in ("dog", "rain", "siren"))


@pytest.mark.slow
def test_labels_that_do_not_exist_are_named(
    recipe: Callable[[str], ModuleType], data: Path, source: Path, tmp_path: Path
) -> None:
    """Before anything is written."""
    line = [f"--data_folder={data}", f"--source={source}", "--labels", "dog", "owl"]
    with pytest.raises(ValueError, match=r"--labels names \['owl'\]"):
        recipe("leave_one_out").main([*line, f"--output_folder={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()
