"""Train the small CLAP: its audio tower against a frozen text tower.

    python recipes/train_clap.py hparams/clap_small.yaml --data_folder=ESC50
        [--text_tower=DIR] [--tagger_model=F --tagger_class_map=F]
        [--unlabelled_folder=DIR] [--clap_source=CLAP] [--debug]

--manifest=FILE.csv instead of --data_folder trains on your own clips
(lmaczs.data.manifest). --clap_source starts from a CLAP; its text tower stays as it is.
Writes <output_folder>/save/clap, a Hugging Face folder with a model card. A run that
was killed resumes from its last checkpoint (every `valid_every` epochs) when the same
line is given again; another run needs another --output_folder. With --debug nothing is
saved.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from transformers import ClapFeatureExtractor, ClapModel, PreTrainedTokenizerBase

from lmaczs.clap import FrozenClap
from lmaczs.data.splits import Splits
from lmaczs.distillation.batches import BatchBuilder
from lmaczs.distillation.brain import ClapDistillationBrain, DistillationOptions
from lmaczs.distillation.clip_cache import ClipFeatures, clip_table, load_clips
from lmaczs.distillation.composite_cache import (
    CompositeDataset,
    CompositeFeatures,
    load_composites,
)
from lmaczs.distillation.model import build_clap, load_clap, save_clap
from lmaczs.distillation.model_card import write_clap_card
from lmaczs.distillation.prompt_bank import PromptBank, embed_prompts
from lmaczs.distillation.yamnet import YAMNet, open_tagger
from lmaczs.frontend import FrontEnd
from lmaczs.hub import clap_folder
from lmaczs.presence import reference_text
from lmaczs.training.checkpoints import AtomicCheckpointer
from lmaczs.training.learnt import write_learnt
from lmaczs.training.run_clips import PLACES, RunClips, clips_of_run, note_clips
from lmaczs.training.run_identity import begin_run, held, settings_of
from lmaczs.utils.digests import clips_digest, files_digest
from lmaczs.utils.errors import InputError, run_recipe
from lmaczs.utils.options import parse_options

Parts = tuple[ClapModel, ClapFeatureExtractor, PreTrainedTokenizerBase]


def main(argv: list[str]) -> dict[str, float]:
    """Train, test and save: metrics on the test clips."""
    hparams_file, run_opts, overrides = parse_options(argv)
    with open(hparams_file) as file:
        hparams = load_hyperpyyaml(file, overrides)
    source = {name: hparams[name] for name in ("data_folder", "manifest", "split")}
    table = clip_table(hparams["unlabelled_folder"], **source)
    with held(hparams["output_folder"], run_opts.debug):
        start = hparams["clap_source"]
        clips = clips_of_run(
            Splits.of(table),
            **{name: hparams[name] for name in PLACES},
            starts=[] if start is None else [clap_folder(start)],
        )
        begin_run(
            hparams["output_folder"],
            hparams["save_folder"],
            lambda: {
                **settings_of(hparams_file, overrides, run_opts),
                **digests(hparams, clips.table),
            },
            debug=run_opts.debug,
            resume_anyway=hparams["resume_anyway"],
            changed=clips.changed,
        )
        if not run_opts.debug:
            note_clips(hparams["output_folder"], clips)
        sb.create_experiment_directory(
            hparams["output_folder"], hparams_file, overrides
        )
        return distil(hparams, Path(hparams_file).name, clips, run_opts)


def distil(
    hparams: dict[str, Any], yaml: str, clips: RunClips, run_opts: Any
) -> dict[str, float]:
    """Train, test and write the CLAP; `yaml` is the name of the options' file."""
    torch.set_num_threads(hparams["num_threads"])
    parts = clap_of(hparams)
    brain = brain_of(hparams, parts, clips.table, run_opts)
    brain.fit(brain.epoch_counter, brain.train_loader())
    metrics = brain.test()
    if brain.debug:
        return metrics
    _, extractor, tokenizer = parts
    folder = Path(hparams["clap_folder"])
    save_clap(folder, brain.averaged_model(), extractor, tokenizer)
    reference_text(FrozenClap.from_pretrained(folder), folder=folder)  # writes them
    write_learnt(folder, clips.learnt)
    write_clap_card(
        folder,
        metrics,
        facts_of(hparams, extractor, yaml),
        clips.table,
        hparams["attribution"],
        with_tagger=bool(brain.clips.class_names),
        composites=hparams.get("composites", 0),
    )
    return metrics


def clap_of(hparams: dict[str, Any]) -> Parts:
    """The CLAP to train: that of clap_source, or a new one on the text tower."""
    if hparams["clap_source"] is not None:
        return load_clap(hparams["clap_source"], hparams["trust_remote_code"])
    extractor = hparams["feature_extractor"]
    model, tokenizer = build_clap(
        hparams["audio_config"], extractor, hparams["text_tower"]
    )
    return model, extractor, tokenizer


def brain_of(
    hparams: dict[str, Any], parts: Parts, table: pd.DataFrame, run_opts: Any
) -> ClapDistillationBrain:
    """Read clips and composites, or compute their features, and make the Brain."""
    model, extractor, _ = parts
    front_end, tagger = FrontEnd(extractor), tagger_of(hparams)
    cache = Path(hparams["output_folder"]) / "clips.pt"
    clips = load_clips(table, front_end, hparams["speeds"], tagger, cache)
    prompts = embed_prompts(FrozenClap(*parts), clips, hparams["templates"])
    composites = composites_of(hparams, clips, front_end, tagger, prompts)
    batches = BatchBuilder(
        clips,
        composites,
        composites_in_batch=hparams.get("composites_in_batch", 0),
        augment=hparams["augment"],
        mix_prob=hparams["mix_prob"],
        mix_snr_db=hparams["mix_snr_db"],
        silent_prob=hparams["silent_prob"],
    )
    options = {field.name: hparams[field.name] for field in fields(DistillationOptions)}
    return ClapDistillationBrain(
        model,
        front_end,
        prompts,
        batches,
        DistillationOptions(**options),
        run_opts,
        AtomicCheckpointer(hparams["save_folder"]),
        hparams["train_logger"],
    )


def tagger_of(hparams: dict[str, Any]) -> YAMNet | None:
    """The audio tagger, if the options name its files."""
    tagger = open_tagger(hparams["tagger_model"], hparams["tagger_class_map"])
    if tagger is None and hparams.get("composites"):
        raise InputError(
            "composites need a tagger: give --tagger_model and --tagger_class_map"
        )
    return tagger


def composites_of(
    hparams: dict[str, Any],
    clips: ClipFeatures,
    front_end: FrontEnd,
    tagger: YAMNet | None,
    prompts: PromptBank,
) -> CompositeFeatures | None:
    """The composites that the YAML wants, read or made."""
    if tagger is None or not hparams.get("composites"):
        return None
    dataset = CompositeDataset(
        clips,
        front_end,
        hparams["composer"],
        tagger,
        hparams["composites"],
        hparams["class_balance"],
        hparams["seed"],
    )
    folder = Path(hparams["output_folder"]) / "composites"
    text = prompts.labels[0].cpu()
    return load_composites(dataset, folder, text, hparams["num_workers"])


def digests(hparams: dict[str, Any], table: pd.DataFrame) -> dict[str, str]:
    """Digests of clips, tagger, and the model that the training starts from."""
    tagger = hparams["tagger_model"], hparams["tagger_class_map"]
    start = "text_tower" if hparams["clap_source"] is None else "clap_source"
    return {
        start: files_digest([hparams[start]]),
        "tagger": files_digest(tagger),
        "clips": clips_digest(table),
    }


def facts_of(
    hparams: dict[str, Any], extractor: ClapFeatureExtractor, yaml: str
) -> dict[str, Any]:
    """Facts of the model card, see `write_clap_card`; `yaml` is the file's name."""
    manifest = hparams["manifest"]
    options = ["--data_folder=ESC50" if manifest is None else "--manifest=FILE.csv"]
    if hparams["tagger_model"] is not None:
        options.append("--tagger_model=F --tagger_class_map=F")
    for name in ("unlabelled_folder", "clap_source"):
        if hparams[name] is not None:
            options.append(f"--{name}=DIR")
    recipe = f"python recipes/train_clap.py hparams/{yaml}"
    return {
        "name": hparams["model_name"],
        "seconds": extractor.max_length_s,
        "rate": extractor.sampling_rate,
        "template": hparams["templates"][0],
        "data": "ESC-50 (Piczak, 2015)" if manifest is None else Path(manifest).name,
        "command": " ".join([recipe, *options]),
    }


if __name__ == "__main__":
    run_recipe(main, lambda metrics: print(json.dumps(metrics, indent=1)))
