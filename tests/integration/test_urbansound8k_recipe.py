"""recipes/train.py with hparams/urbansound8k.yaml, on a little made-up UrbanSound8K."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

HPARAMS = Path(__file__).parents[2] / "hparams"
CLASSES = ("car_horn", "dog_bark", "siren")
# rate in Hz, channels, sample format, seconds
STORED_AS = [
    (44100, 1, "PCM_16", 1.0),
    (96000, 2, "PCM_24", 1.0),
    (8000, 1, "PCM_U8", 4.0),
    (44100, 1, "FLOAT", 0.05),
]


@pytest.fixture(scope="module")
def urbansound8k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of noise of each of three classes in each of ten folds, four formats."""
    folder = tmp_path_factory.mktemp("US8K")
    (folder / "metadata").mkdir()
    rng, rows = np.random.default_rng(0), []
    for fold in range(1, 11):
        (folder / f"audio/fold{fold}").mkdir(parents=True)
        for number, label in enumerate(CLASSES):
            name = f"{100 * fold}-{number}-0-0.wav"
            rate, channels, subtype, seconds = STORED_AS[len(rows) % len(STORED_AS)]
            wav = rng.uniform(-0.5, 0.5, (round(seconds * rate), channels))
            path = folder / f"audio/fold{fold}" / name
            soundfile.write(path, wav, rate, subtype=subtype)
            rows.append((name, 100 * fold, 0.0, seconds, 1, fold, number, label))
    header = "slice_file_name fsID start end salience fold classID class".split()
    table = pd.DataFrame(rows, columns=header)
    table.to_csv(folder / "metadata/UrbanSound8K.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def options(urbansound8k: Path, tiny_clap_folder: Path) -> Callable[..., list[str]]:
    """Function that makes a command line of recipes/train.py from options."""

    def make(output_folder: Path, **changes: Any) -> list[str]:
        values = {
            "data_folder": urbansound8k,
            "output_folder": output_folder,
            "clap_source": tiny_clap_folder,
            "device": "cpu",
            "num_threads": 1,
            "width": 8,
            "batch_size": 6,
            "number_of_epochs": 1,
            "examples_every": 100,
            **changes,
        }
        written = [f"--{name}={value}" for name, value in values.items()]
        return [str(HPARAMS / "urbansound8k.yaml"), "--noprogressbar", *written]

    return make


@pytest.mark.slow
def test_training_on_ten_folds(
    recipe: Callable[[str], ModuleType],
    options: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    """An epoch over clips of every format ends with figures on fold 10 and a card."""
    module, brains = recipe("train"), []
    make_brain = module.make_brain
    module.make_brain = lambda *args: (  # type: ignore[attr-defined]
        brains.append(make_brain(*args)) or brains[0]
    )
    figures = module.main(options(tmp_path / "out"))
    assert {"loss", "AI", "Fid-In"} <= set(figures)
    assert all(math.isfinite(value) for value in figures.values())
    assert json.loads((tmp_path / "out/test.json").read_text()) == figures
    data = brains[0].hparams
    sets = (data.train_data, data.valid_data, data.test_data)
    assert [set(one.table.fold) for one in sets] == [set(range(1, 9)), {9}, {10}]
    assert brains[0].optimizer_step == 4  # 24 clips, 6 at a time


def test_folds_on_the_command_line_may_not_overlap(
    recipe: Callable[[str], ModuleType],
    options: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    """Refused before anything is trained or written."""
    with pytest.raises(ValueError, match="a fold is in two splits"):
        recipe("train").main(options(tmp_path / "out", test_folds="[9]"))
    assert not (tmp_path / "out").exists()
