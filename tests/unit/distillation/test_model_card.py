"""The model card of a CLAP trained here."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lmaczs.distillation.model_card import write_clap_card

TABLE = pd.DataFrame(
    {
        "id": ["1-1-A-0", "1-2-A-1", "1-3-A-1"],
        "label": ["dog", "rain", "rain"],
        "text": "",
        "split": ["train", "train", "test"],
    }
)
FACTS = {
    "name": "tiny",
    "seconds": 5,
    "rate": 32000,
    "template": "A {}.",
    "data": "ESC-50 (Piczak, 2015)",
    "command": "python recipes/train_clap.py hparams/clap_small.yaml --manifest=M.csv",
}


def _attribution(folder: Path, files: list[str]) -> Path:
    path = folder / "clips.csv"
    columns = {"license": "CC-BY", "title": "t", "author": "somebody", "url": "u"}
    pd.DataFrame({"filename": files}).assign(**columns).to_csv(path, index=False)
    return path


def test_card_holds_figures_and_counts(tmp_path: Path) -> None:
    """Each figure under its name, and how many clips it is of."""
    path = write_clap_card(tmp_path, {"accuracy_esc10": 0.5}, FACTS, TABLE)
    text = path.read_text()
    assert "accuracy_esc10: 0.500" in text
    assert "On 1 clips" in text
    assert "2 clips of ESC-50" in text
    assert not (tmp_path / "ATTRIBUTION.csv").exists()


def test_card_of_captions_and_unlabelled_clips(tmp_path: Path) -> None:
    """Captions count as labels; clips without either are counted apart."""
    table = TABLE.assign(label=["", "", "rain"], text=["a dog barks", "", ""])
    source = _attribution(tmp_path, ["1-1-A-0.wav"])
    text = write_clap_card(tmp_path, {}, FACTS, table, source).read_text()
    assert "1 clips of ESC-50" in text
    assert "and 1 recordings without labels" in text
    assert "its 2 labels" in text
    assert "--manifest=M.csv" in text


def test_card_names_its_teacher(tmp_path: Path) -> None:
    """What of the tagger was learnt, and of how many composites."""
    texts = [
        write_clap_card(tmp_path, {}, FACTS, TABLE, None, *how).read_text()
        for how in ((), (True,), (True, 70))
    ]
    assert ["YAMNet" in text for text in texts] == [False, True, True]
    assert ["embeddings of 70 sounds" in text for text in texts] == [False] * 2 + [True]


def test_every_training_clip_is_credited(tmp_path: Path) -> None:
    """Exactly the clips that were trained on, with their authors."""
    source = _attribution(tmp_path, ["1-1-A-0.wav", "1-2-A-1.wav", "1-3-A-1.wav"])
    write_clap_card(tmp_path, {}, FACTS, TABLE, source)
    credited = pd.read_csv(tmp_path / "ATTRIBUTION.csv")
    assert credited.id.tolist() == ["1-1-A-0", "1-2-A-1"]
    assert (credited.author == "somebody").all()


def test_a_clip_without_credit_is_named(tmp_path: Path) -> None:
    """No card goes out that leaves an author out."""
    source = _attribution(tmp_path, ["1-1-A-0.wav"])
    with pytest.raises(ValueError, match="1-2-A-1"):
        write_clap_card(tmp_path, {}, FACTS, TABLE, source)
