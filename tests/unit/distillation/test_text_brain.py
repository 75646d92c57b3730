"""Distillation of the text tower: data, training, metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.utils.train_logger import FileTrainLogger
from torch import Tensor
from transformers import ClapTextConfig

from lmaczs.data.esc50 import ESC10, ESC50_LABELS
from lmaczs.distillation.text_brain import (
    TextBrain,
    collate,
    split_texts,
    text_metrics,
)
from lmaczs.distillation.text_corpus import Corpus
from lmaczs.distillation.text_tower import TextTower, clap_tokenizer, train_bpe
from lmaczs.training.checkpoints import AtomicCheckpointer

TEXTS = [f"{noun} {verb}" for noun in "abcdefghij" for verb in ("barks", "rings")]
CORPUS = Corpus(tuple(TEXTS), tuple(index < 6 for index in range(20)))


def test_sounds_are_repeated_and_texts_held_out() -> None:
    """Every text is in one of the two sets; one about a sound is there twice."""
    ids = [[0, 5 + index, 2] for index in range(20)]
    targets = torch.arange(20.0)[:, None]
    train, held_out = split_texts(CORPUS, ids, targets, 4, 2, seed=1)
    assert len(held_out) == 4
    for row in range(20):
        expected = 2 if CORPUS.is_sound[row] else 1
        text = (ids[row], targets[row])
        assert train.count(text) == (0 if text in held_out else expected)
    again, _ = split_texts(CORPUS, ids, targets, 4, 2, seed=1)
    assert again == train


def test_collate_pads_on_the_right() -> None:
    """With the padding token, which the mask leaves out."""
    batch = collate([([0, 7, 2], torch.ones(2)), ([0, 2], torch.zeros(2))])
    assert batch["input_ids"].tolist() == [[0, 7, 2], [0, 2, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["targets"].tolist() == [[1, 1], [0, 0]]


def test_training_approaches_the_targets(tmp_path: Path) -> None:
    """The loss falls, each epoch is measured, and the best checkpoint is loaded."""
    tokenizer = clap_tokenizer(train_bpe(TEXTS * 20, vocab_size=300), max_tokens=12)
    torch.manual_seed(0)
    config = ClapTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        projection_dim=4,
    )
    student = TextTower(config)
    targets = torch.nn.functional.normalize(torch.randn(4), dim=0).expand(20, 4)
    encoded = tokenizer(TEXTS, truncation=True, max_length=12).input_ids
    train, _ = split_texts(CORPUS, encoded, targets, 4, 2, seed=1)
    measured = []

    def measure(embed: object) -> dict[str, float]:
        measured.append(embed(["a barks"]))  # type: ignore[operator]
        return {"norm": float(measured[-1].norm())}

    brain = TextBrain(
        student,
        tokenizer,
        measure,
        lr=0.02,
        warmup_steps=2,
        weight_decay=0.0,
        number_of_epochs=4,
        run_opts={"device": "cpu", "noprogressbar": True},
        checkpointer=AtomicCheckpointer(tmp_path / "save"),
        train_logger=FileTrainLogger(tmp_path / "log.txt"),
    )
    lengths = [len(ids) for ids, _ in train]
    sampler = DynamicBatchSampler(
        train, 60, bucket_boundaries=[8], lengths_list=lengths, seed=1
    )
    before = float((student.embed(TEXTS, tokenizer) * targets).sum(1).mean())
    brain.train(train, train, sampler)
    after = float((student.embed(TEXTS, tokenizer) * targets).sum(1).mean())
    assert after > before + 0.3
    assert len(measured) == 4 + 1
    assert brain.metrics["norm"] == pytest.approx(1)
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 4
    (kept,) = brain.checkpointer.list_checkpoints()
    best = kept.meta["held_out_cosine"]
    assert brain.metrics["held_out_cosine"] == pytest.approx(best)


def test_text_metrics() -> None:
    """Paraphrases next to their prompts are right, the one that is moved is wrong."""
    axes = torch.eye(52)

    def embed(texts: Sequence[str]) -> Tensor:
        return torch.stack([axes[place(text)] for text in texts])

    def place(text: str) -> int:
        label = text.removeprefix("the sound of ").removeprefix("like ")
        return 51 if label == "silence" else ESC50_LABELS.index(label)

    paraphrases = {label: f"like {label}" for label in ESC50_LABELS}
    found = text_metrics(embed, "the sound of {}", paraphrases)
    assert found == {
        "esc10_among_10": 1,
        "esc10_among_50": 1,
        "esc50_among_50": 1,
        "off_diagonal_cosine": 0,
        "prompt_to_bare_cosine": 1,
        "silence_max_cosine": 0,
    }
    paraphrases[ESC10[0]] = f"like {ESC50_LABELS[-1]}"
    found = text_metrics(embed, "the sound of {}", paraphrases)
    assert found["esc10_among_50"] == pytest.approx(0.9)
    assert found["esc50_among_50"] == pytest.approx(0.98)
