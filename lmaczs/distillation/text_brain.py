"""Distilling a sentence encoder into a text tower: the Brain, its data and metrics."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import speechbrain as sb
import torch
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.train_logger import TrainLogger
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lmaczs.data.esc50 import ESC10, ESC50_LABELS
from lmaczs.distillation.text_corpus import Corpus
from lmaczs.distillation.text_tower import TextTower, mean_off_diagonal
from lmaczs.metrics.classification import top_k_hits
from lmaczs.training.schedule import cosine_decay

Batch = dict[str, Tensor]
Embed = Callable[[Sequence[str]], Tensor]
PAD = 1  # token of the student's tokenizer

Texts = list[tuple[list[int], Tensor]]
"""Token ids and target [D] of each text: a data set."""


def split_texts(
    corpus: Corpus,
    input_ids: Sequence[list[int]],
    targets: Tensor,
    held_out: int,
    sound_repeats: int,
    seed: int,
) -> tuple[Texts, Texts]:
    """Split N texts with targets [N, D] at random, to train on and `held_out`.

    A text about a sound is in an epoch `sound_repeats` times.
    """
    rows = list(range(len(corpus.texts)))
    random.Random(seed).shuffle(rows)
    texts = [(input_ids[row], targets[row]) for row in rows]
    repeated = [
        text
        for row, text in zip(rows[held_out:], texts[held_out:], strict=True)
        for _ in range(sound_repeats if corpus.is_sound[row] else 1)
    ]
    return repeated, texts[:held_out]


def collate(items: Texts) -> Batch:
    """Pad a batch's token ids on the right."""
    width = max(len(ids) for ids, _ in items)
    ids = torch.tensor([ids + [PAD] * (width - len(ids)) for ids, _ in items])
    mask = torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i, _ in items])
    targets = torch.stack([target for _, target in items])
    return {"input_ids": ids, "attention_mask": mask, "targets": targets}


class TextBrain(sb.Brain):
    """Trains a text tower on a teacher's projected embeddings: loss 1 - cosine.

    `measure` computes the `metrics` of each epoch, e.g. by `text_metrics`; numbers have
    the names of hparams/text_small.yaml.
    """

    def __init__(
        self,
        student: TextTower,
        tokenizer: PreTrainedTokenizerBase,
        measure: Callable[[Embed], dict[str, float]],
        *,
        lr: float,
        warmup_steps: int,
        weight_decay: float,
        number_of_epochs: int,
        run_opts: Mapping[str, Any],
        checkpointer: Checkpointer,
        train_logger: TrainLogger,
        ckpt_interval_steps: int = 0,
    ) -> None:
        super().__init__(
            {"student": student},
            lambda parameters: torch.optim.AdamW(
                parameters, lr, weight_decay=weight_decay
            ),
            {"ckpt_interval_steps": ckpt_interval_steps},
            run_opts,
            checkpointer,
        )
        self.tokenizer, self.measure_texts = tokenizer, measure
        self.lr, self.warmup_steps = lr, warmup_steps
        self.epoch_counter = EpochCounter(number_of_epochs)
        self.train_logger = train_logger
        self.metrics: dict[str, float] = {}
        self.total_steps = 0
        checkpointer.add_recoverables(
            {"student": student, "counter": self.epoch_counter}
        )

    def train(
        self, texts: Texts, held_out: Texts, sampler: DynamicBatchSampler
    ) -> None:
        """Fit the student, then load the checkpoint that is best on held-out texts."""
        self.train_sampler = sampler  # Brain.fit reshuffles it at each epoch
        self.total_steps = len(sampler) * self.epoch_counter.limit
        valid = {"batch_size": 128, "collate_fn": collate}
        self.fit(
            self.epoch_counter,
            texts,
            held_out,
            train_loader_kwargs={"batch_sampler": sampler, "collate_fn": collate},
            valid_loader_kwargs=dict(valid),
        )
        self.evaluate(
            held_out, max_key="held_out_cosine", test_loader_kwargs=dict(valid)
        )

    def compute_forward(self, batch: Batch, stage: sb.Stage) -> Tensor:
        """Embed B texts: [B, projection_dim]."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        return self.modules.student(ids.to(self.device), mask.to(self.device))

    def compute_objectives(
        self, predictions: Tensor, batch: Batch, stage: sb.Stage
    ) -> Tensor:
        """Mean of 1 - cosine over the batch."""
        cosine = (predictions * batch["targets"].to(self.device)).sum(-1)
        if stage != sb.Stage.TRAIN:
            self.cosines.append(cosine.detach())
        return (1 - cosine).mean()

    def on_fit_batch_start(self, batch: Batch, should_step: bool) -> None:
        """Set the learning rate."""
        done, total = self.optimizer_step + 1, self.total_steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * cosine_decay(done, total, self.warmup_steps)

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Reset the cosines of a validation."""
        self.cosines: list[Tensor] = []

    def on_stage_end(
        self, stage: sb.Stage, stage_loss: float, epoch: int | None = None
    ) -> None:
        """Measure the student after each epoch, and keep the best checkpoint."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = float(stage_loss)
            return
        student = self.modules.student
        self.metrics = self.measure_texts(
            lambda texts: student.embed(texts, self.tokenizer)
        )
        self.metrics["held_out_cosine"] = torch.cat(self.cosines).mean().item()
        if not all(map(math.isfinite, self.metrics.values())):
            raise ValueError(f"Validation is not finite: {self.metrics}")
        if stage != sb.Stage.VALID:
            return
        train = {"loss": self.train_loss}
        self.train_logger.log_stats({"epoch": epoch}, train, self.metrics)
        self.checkpointer.save_and_keep_only(
            meta=self.metrics, max_keys=["held_out_cosine"]
        )


def text_metrics(
    embed: Embed, template: str, paraphrases: Mapping[str, str]
) -> dict[str, float]:
    """How well text embeddings separate the labels of ESC-50.

    Fraction of `paraphrases`, one for each label, whose nearest prompt is that of their
    label: esc10_among_10, esc10_among_50, esc50_among_50. Cosines: off_diagonal_cosine
    (mean of different prompts), prompt_to_bare_cosine (mean of prompt and label),
    silence_max_cosine (highest of the prompt for silence and another).
    """
    prompts = embed([template.format(label) for label in ESC50_LABELS])
    texts = embed([paraphrases[label] for label in ESC50_LABELS])
    bare = embed(list(ESC50_LABELS))
    silence = embed([template.format("silence")])
    ten = [ESC50_LABELS.index(label) for label in ESC10]
    own = torch.arange(len(ESC50_LABELS))

    def accuracy(similar: Tensor, target: Tensor) -> float:
        return float(top_k_hits(similar, target).double().mean())

    similar = texts @ prompts.T
    return {
        "esc10_among_10": accuracy(similar[ten][:, ten], own[: len(ten)]),
        "esc10_among_50": accuracy(similar[ten], own[ten]),
        "esc50_among_50": accuracy(similar, own),
        "off_diagonal_cosine": mean_off_diagonal(prompts),
        "prompt_to_bare_cosine": (prompts * bare).sum(-1).mean().item(),
        "silence_max_cosine": (prompts @ silence.T).max().item(),
    }
