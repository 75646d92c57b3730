"""recipes/robustness.py with its real YAML file and the embedded default."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from lmaczs.evaluation.explainers import KEEP_ALL, MAIN
from lmaczs.evaluation.results_page import results_page
from lmaczs.evaluation.robustness import TRANSFORMS
from lmaczs.evaluation.robustness_page import recognised

ROOT = Path(__file__).parents[2]
YAML = str(ROOT / "hparams/robustness.yaml")
METHODS = [MAIN, f"{MAIN} refined", "Grad-CAM", KEEP_ALL]
FEW = [
    f"--methods=[{MAIN} refined, Grad-CAM, {KEEP_ALL}]",
    *("--slow_passes=10", "--slow_clips=1", "--randomisation_clips=1"),
]

Recipe = Callable[[str], ModuleType]


@pytest.mark.slow
def test_tables_of_three_clips(
    recipe: Recipe,
    write_esc50: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Rows for every clip, method and transform; without a tagger it says so."""
    data = write_esc50(["dog", "rain", "siren"], folds=5)
    places = [f"--data_folder={data}", f"--output_folder={tmp_path}"]
    with caplog.at_level(logging.WARNING):
        page = recipe("robustness").main([YAML, *places, *FEW])
    assert "give --tagger_model and --tagger_class_map" in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {
        *("robustness.csv", "randomised.csv", "robustness.md"),
    }
    table = pd.read_csv(tmp_path / "robustness.csv")
    assert list(table.method.unique()) == METHODS
    counts = table.groupby(["method", "transform"]).size()
    for method in METHODS:
        expected = 1 if method == f"{MAIN} refined" else 3
        assert (counts[method] == expected).all()
    assert set(table["transform"]) == set(TRANSFORMS)
    assert (table.AD[table.method == KEEP_ALL] == 0).all()
    random = pd.read_csv(tmp_path / "randomised.csv")
    assert random.groupby("method").size().to_dict() == dict.fromkeys(METHODS, 2)
    assert (tmp_path / "robustness.md").read_text("utf-8") == page
    whole = results_page([("", tmp_path)])
    assert "\n## Is it an explanation or an attack? ESC-50\n\n3 clips" in whole


def test_options_are_checked_first(recipe: Recipe, tmp_path: Path) -> None:
    """Both of the tagger's files or neither; numbers of clips are positive."""
    main = recipe("robustness").main
    with pytest.raises(ValueError, match="--clips=0: give one or more"):
        main([YAML, "--clips=0", f"--data_folder={tmp_path}"])
    with pytest.raises(ValueError, match="give both --tagger_model and"):
        main([YAML, "--tagger_model=x.tflite", f"--data_folder={tmp_path}"])
    with pytest.raises(ValueError, match="methods names 'RISEN': did you mean"):
        main([YAML, "--methods=[RISEN]", f"--data_folder={tmp_path}"])
    with pytest.raises(FileNotFoundError, match="x.tflite"):
        tagger = ["--tagger_model=x.tflite", "--tagger_class_map=x.csv"]
        main([YAML, *tagger, f"--data_folder={tmp_path}"])


@pytest.mark.real_clips
def test_the_real_tagger_recognises_what_is_kept(
    recipe: Recipe, esc50_folder: Path, tmp_path: Path
) -> None:
    """Everything kept is the input to YAMNet, and silence is left."""
    teachers = Path(os.environ.get("LMACZS_TEACHERS", ROOT.parent / "shared/teachers"))
    tagger = [
        f"--tagger_model={teachers / 'yamnet_spectra_in.tflite'}",
        f"--tagger_class_map={teachers / 'yamnet_class_map.csv'}",
    ]
    places = [f"--data_folder={esc50_folder}", f"--output_folder={tmp_path}"]
    recipe("robustness").main(
        [YAML, *places, *tagger, *FEW, "--split=development", "--clips=6"]
    )
    table = pd.read_csv(tmp_path / "tagged.csv")
    kept = table[table.method == KEEP_ALL]
    assert len(kept) >= 4
    assert (kept.score_kept - kept.score_input).abs().max() < 0.1
    assert not recognised(kept, "left").any()
    assert recognised(kept, "input").sum() >= 3
    assert "What another model recognises" in (tmp_path / "robustness.md").read_text()
