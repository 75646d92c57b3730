"""What cards state of the training, beside what is tested."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lmaczs import default_source
from lmaczs.evaluation.training_data import (
    card_of,
    clap_data,
    decoder_data,
    left_out_labels,
    training_section,
    training_values,
)
from lmaczs.training.model_card import model_card
from lmaczs.utils.errors import InputError

RUN_CARD = {
    **{"clap_source": "owner/clap", "model_name": "tiny", "domain": "mel"},
    **{"width": 8, "template": "{}", "checkpoint_metric": "loss"},
    **{"checkpoint_mode": "min", "split": "folds"},
}


@pytest.fixture
def card(tmp_path: Path) -> str:
    """Card of a decoder without two labels, as an export writes it."""
    lines = [
        "# Generated 2026-11-21 from:",
        "# /home/me/hparams/esc50.yaml",
        *("split: auto", "train_folds: [1, 2]", "valid_folds: [4]", "test_folds: [5]"),
        *("train_fraction: 0.25", "leave_out: [dog, sea waves]", "lr: 0.1", ""),
    ]
    (tmp_path / "hyperparams.yaml").write_text("\n".join(lines))
    return model_card(tmp_path, RUN_CARD, {"epoch": 1, "loss": 0.5}, False)


def test_a_decoders_card_says_what_it_was_trained_on(card: str) -> None:
    """Recipe, folds, fraction and the labels that were left out."""
    assert left_out_labels(card) == ["dog", "sea waves"]
    assert training_values(card)["lr"] == 0.1
    assert decoder_data(card) == (
        "`esc50.yaml`, split folds, train_folds [1, 2], valid_folds [4], test_folds "
        "[5], train_fraction 0.25, without dog, sea waves"
    )


BOMB = "a: &a [x, x]\nleave_out: [*a, *a]"


@pytest.mark.parametrize(
    "text",
    [BOMB, "a: [", "a: !!int ''", "a: !!python/name:os.system", "a: " + "[" * 9999],
)
def test_a_strangers_card_is_one_sentence_at_most(text: str, tmp_path: Path) -> None:
    """Aliases that multiply, tags, damage; a card that is none of a model's."""
    with pytest.raises(
        InputError, match=r"README\.md of a model cannot be read"
    ) as found:
        left_out_labels(f"# Card\n\n```yaml\n{text}\n```\n")
    assert "\n" not in str(found.value)
    for content in (b"\xff", b"a" * (1 << 21)):
        (tmp_path / "README.md").write_bytes(content)
        with pytest.raises(InputError, match="put the model's own there"):
            card_of(tmp_path)


def test_embedded_models_say_what_they_were_trained_on() -> None:
    """The default's own cards are read as they are."""
    source = default_source()
    assert decoder_data(card_of(source)) == "`esc50.yaml`, split development"
    assert left_out_labels(card_of(source)) == []
    assert clap_data(card_of(source.parent / "clap_small")).startswith(
        "407 clips of ESC-50 (Piczak, 2015)"
    )


def test_a_folder_without_a_card_does_not_say(tmp_path: Path) -> None:
    """Nor does a card of somebody else's make."""
    assert card_of(tmp_path) == ""
    for card in ("", "# A model\n\n```yaml\n- 1\n```\n"):
        assert decoder_data(card) == clap_data(card) == "its card does not say"
        assert left_out_labels(card) == []


def test_a_hub_id_that_cannot_be_reached_does_not_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An evaluation that is computed does not end for want of a card."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert card_of("nobody/has-this-model") == ""


def test_section_names_all_models_and_the_clips(card: str) -> None:
    """A line each, and what follows from it."""
    clips = pd.DataFrame({"label": ["dog", "dog", "rain"]})
    clap = "# CLAP\n\n## Data\n\nNine\nrecordings.\n\nMore.\n"
    page = training_section(clips, "esc50", clap, {"ours": card, "other": ""})
    assert "- tested: 3 clips of 2 labels, esc50\n- CLAP: Nine recordings.\n" in page
    assert "- ours: `esc50.yaml`" in page
    assert "- other: its card does not say\n" in page
    assert "trained on the set that is tested" in page
