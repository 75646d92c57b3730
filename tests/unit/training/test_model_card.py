"""Properties of the model card: this checkpoint's metrics, plain values, no paths."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from lmaczs import default_source
from lmaczs.metrics.faithfulness import MEANINGS
from lmaczs.objectives.terms import TERMS
from lmaczs.training.model_card import model_card

CARD = {
    "clap_source": "/home/me/clap",
    "model_name": "tiny",
    "domain": "mel",
    "width": 8,
    "template": "the sound of {}",
    "checkpoint_metric": "loss",
    "checkpoint_mode": "min",
}
META = {"epoch": 3, "loss": 0.123456, "AI": 40.0, "unixtime": 1e9, "end-of-epoch": True}
HYPERPARAMS = """\
# Generated 2026-11-21 from:
# /home/me/lmaczs/hparams/esc50.yaml
# yamllint disable
lr: 0.001
train_folds: [1, 2]
train_fraction: 0.25
templates:
    - the sound of {{}}
data_folder: /home/me/ESC50
weights: &id001
    similarity: 1.0
same: *id001
made: !apply:os.mkdir [{marker}]
also: !!python/object/apply:os.mkdir [{marker}]
"""


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """Run folder with a training YAML that makes a folder when it is executed."""
    text = HYPERPARAMS.format(marker=tmp_path / "executed")
    (tmp_path / "hyperparams.yaml").write_text(text)
    return tmp_path


def test_metrics_are_the_checkpoints(run_folder: Path) -> None:
    """Every metric of the checkpoint is a row; what is no metric is not."""
    card = model_card(run_folder, CARD, META, True)
    assert "the lowest loss on the validation split" in " ".join(card.split())
    assert "| loss | 0.1235 |  |" in card
    assert "| epoch | 3 |  |" in card
    assert "unixtime" not in card


def test_the_fraction_of_the_training_clips_is_stated(run_folder: Path) -> None:
    """A decoder of a quarter of the data says so."""
    card = model_card(run_folder, CARD, META, True)
    assert "trained on 0.25 of the training clips" in " ".join(card.split()).lower()
    path = run_folder / "hyperparams.yaml"
    path.write_text(path.read_text().replace("fraction: 0.25", "fraction: 1.0"))
    assert "of the training clips" not in model_card(run_folder, CARD, META, True)


def test_labels_that_were_left_out_are_stated(run_folder: Path) -> None:
    """The decoder was not trained on them; without any the card says nothing."""
    path = run_folder / "hyperparams.yaml"
    whole = model_card(run_folder, CARD, META, True)
    path.write_text(path.read_text() + "leave_out: [dog, sea waves]\n")
    card = model_card(run_folder, CARD, META, True)
    assert "No clip of these labels was trained on: dog, sea waves." in card
    assert "No clip of these labels" not in whole


def test_metrics_have_a_legend_and_a_number_of_clips(run_folder: Path) -> None:
    """What each means, terms included; older runs do not know how many there were."""
    meta = {**META, "mask_diversity": 0.5}
    card = model_card(run_folder, CARD, meta, True)
    assert "\n| metric | validation | test |\n" in card
    for name in ("loss", "AI"):
        assert f"{name}: {MEANINGS[name]}" in card
    assert f"mask_diversity: {TERMS['mask_diversity'].meaning}" in card
    assert "end-of-epoch:" not in card
    clips = {"train": 30, "valid": 8, "test": 12}
    card = model_card(run_folder, {**CARD, "clips": clips}, meta, True)
    assert "\n| metric | validation, 8 clips | test, 12 clips |\n" in card


def test_last_epoch_is_called_so(run_folder: Path) -> None:
    """It is not the one with the highest epoch on the validation split."""
    last = CARD | {"checkpoint_metric": "epoch", "checkpoint_mode": "max"}
    assert "Of the last epoch:" in model_card(run_folder, last, META, True)


def test_card_calls_the_method_what_it_is(run_folder: Path) -> None:
    """LMAC-ZS+ is not the paper's LMAC-ZS; a decoder of L-MAC's terms is neither."""
    assert "trained as LMAC-ZS+" in model_card(run_folder, CARD, META, True)
    path = run_folder / "hyperparams.yaml"
    path.write_text(path.read_text() + "objective: lmac\n")
    card = model_card(run_folder, CARD, META, True)
    assert "terms of\nL-MAC (arXiv" in card
    assert "LMAC-ZS" not in card
    path.write_text(path.read_text().replace("lmac\n", "lmaczs_paper\n"))
    card = model_card(run_folder, CARD, META, True)
    assert "LMAC-ZS (arXiv 2405.17615, eqs. 6 and 7)" in card
    assert "LMAC-ZS+" not in card


def test_embedded_cards_are_of_the_same_words() -> None:
    """The decoder in the package is called LMAC-ZS+, and no fold that is not there."""
    card = (default_source() / "README.md").read_text()
    assert "trained as LMAC-ZS+" in card
    assert "\nsplit: development\n" in card
    assert "_folds" not in card


@pytest.mark.parametrize(
    ("split", "shown"),
    [
        ("development", ["split: development"]),
        ("folds", ["split: folds", "train_folds:"]),
        ("", ["split: auto", "train_folds:"]),
    ],
)
def test_card_states_the_split_that_was_used(
    run_folder: Path, split: str, shown: list[str]
) -> None:
    """Folds that `auto` did not use are not shown; older runs show what they have."""
    path = run_folder / "hyperparams.yaml"
    path.write_text(path.read_text() + "split: auto\n")
    card = model_card(run_folder, {**CARD, "split": split}, META, True)
    lines = card.splitlines()
    assert [x for x in lines if x.startswith(("split:", "train_folds:"))] == sorted(
        shown, key=lines.index
    )


def test_card_names_the_folds_that_were_used(run_folder: Path) -> None:
    """Above the metrics; none where another split was used."""
    path = run_folder / "hyperparams.yaml"
    path.write_text(path.read_text() + "valid_folds: [3]\ntest_folds: [4, 5]\n")
    card = model_card(run_folder, {**CARD, "split": "folds"}, META, True)
    assert "(folds, training: 1, 2; validation: 3; test: 4, 5):" in card
    card = model_card(run_folder, {**CARD, "split": "development"}, META, True)
    assert "folds" not in card.split("## Training")[0]


def test_hub_shows_the_metrics_of_the_test(run_folder: Path) -> None:
    """As results of the model, with the data set's name; none without a test."""
    assert ModelCard(model_card(run_folder, CARD, META, True)).data.eval_results is None
    hyperparams = run_folder / "hyperparams.yaml"
    hyperparams.write_text(hyperparams.read_text() + "dataset: esc50\n")
    path = run_folder / "test.json"
    path.write_text(json.dumps({"loss": 0.5, "AI": 25.0}))
    os.utime(path, (META["unixtime"] + 1,) * 2)
    data = ModelCard(model_card(run_folder, CARD, META, True)).data
    found = {one.metric_type: one.metric_value for one in data.eval_results}
    assert found == {"loss": 0.5, "AI": 25.0}
    assert {one.dataset_name for one in data.eval_results} == {"esc50"}
    assert data.library_name == "lmaczs"


def test_test_metrics_stand_beside_if_they_are_this_checkpoints(
    run_folder: Path,
) -> None:
    """test.json from before the checkpoint was saved measured another one."""
    path = run_folder / "test.json"
    path.write_text(json.dumps({"loss": 0.5}))
    os.utime(path, (META["unixtime"] + 1,) * 2)
    assert "| loss | 0.1235 | 0.5 |" in model_card(run_folder, CARD, META, True)
    os.utime(path, (META["unixtime"] - 1,) * 2)
    assert "| loss | 0.1235 |  |" in model_card(run_folder, CARD, META, True)


def test_training_values_are_shown_without_paths(run_folder: Path) -> None:
    """Recipe and plain values are named, nobody's home folder is."""
    card = model_card(run_folder, CARD, META, True)
    assert "`esc50.yaml`" in card
    for line in ["lr: 0.001", "- 2", "- the sound of {}", "  similarity: 1.0"]:
        assert f"\n{line}\n" in card
    assert "/home/me" not in card
    assert "made" not in card.split("```yaml")[1]


def test_reading_the_training_yaml_runs_nothing(run_folder: Path) -> None:
    """Tags that build or call something are left alone."""
    model_card(run_folder, CARD, META, True)
    assert not (run_folder / "executed").exists()


def test_run_without_training_yaml_has_a_card(tmp_path: Path) -> None:
    """What is not known is left out."""
    assert "| loss | 0.1235 |" in model_card(tmp_path, CARD, META, True)


def test_card_says_whose_clap_it_is(tmp_path: Path) -> None:
    """A copy is pointed to, a checkpoint of the Hub is named."""
    assert "`clap/` is a copy" in model_card(tmp_path, CARD, META, True)
    hub = model_card(tmp_path, {**CARD, "clap_source": "owner/clap"}, META, False)
    assert "CLAP model `owner/clap`" in hub
    assert "is a copy" not in hub


def test_what_an_adaptation_measured_is_a_section(run_folder: Path) -> None:
    """The decoder beside fitted masks, and what it was trained on; else neither."""
    assert "fitted" not in model_card(run_folder, CARD, META, True)
    row = {name: 0.5 for name in ("AI", "AD", "AG", "FF", "Fid-In", "MM", "s a clip")}
    found = {
        "made": True,
        "clips": 9,
        "classes": 40,
        "rows": {"decoder": row, "fitted": {**row, "AI": 77.7}},
    }
    path = run_folder / "held_out.json"
    path.write_text(json.dumps(found))
    card = model_card(run_folder, CARD, META, True)
    section = card.split("## Beside masks fitted without a decoder")[1]
    assert "| fitted | 77.7 | 0.5 |" in section.split("## Training")[0]
    assert "9 held-out clips" in section
    assert "Trained with `lmaczs adapt`" in section
    assert "sounds that were made by lmaczs, without labels" in section
    shown = ModelCard(card).data.eval_results
    assert {one.metric_type for one in shown} == set(row) - {"s a clip"}
    assert {one.dataset_name for one in shown} == {"sounds made by lmaczs"}
    path.write_text(json.dumps({**found, "made": False}))
    assert "Trained on recordings" in model_card(run_folder, CARD, META, True)
    os.utime(path, (1, 1))  # older than the checkpoint: of another one
    assert "fitted" not in model_card(run_folder, CARD, META, True)
