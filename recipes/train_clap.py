"""Train the small CLAP: its audio tower against a frozen text tower.

    python recipes/train_clap.py hparams/clap_small.yaml --data_folder=ESC50
        [--text_tower=DIR] [--tagger_model=F --tagger_class_map=F]
        [--unlabelled_folder=DIR] [--source=CLAP] [--debug]

--manifest=FILE.csv instead of --data_folder trains on clips of one's own
(lmaczs.data.manifest). --source starts from a CLAP; its text tower stays as it is.
Writes <output_folder>/save/clap, a Hugging Face folder with a model card. A run that
was killed resumes from its last checkpoint (every `valid_every` epochs) when the same
line is given again; another run needs another --output_folder. With --debug nothing is
saved.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from torch import Tensor

from lmaczs.distillation.brain import ClapBrain
from lmaczs.distillation.clip_cache import ClipBank, load_clips, load_table
from lmaczs.distillation.composite_cache import (
    CompositeBank,
    Composites,
    load_composites,
)
from lmaczs.distillation.model import build_clap, load_clap, save_clap
from lmaczs.distillation.model_card import write_clap_card
from lmaczs.frontend import FrontEnd
from lmaczs.training.run_identity import (
    begin_run,
    settings_of,
)
from lmaczs.utils.digests import clips_digest, files_digest
from lmaczs.utils.errors import run_recipe
from lmaczs.utils.options import parse_options


def main(argv: list[str]) -> dict[str, Any]:
    """Train, test and save.

    Parameters
    ----------
    argv : list of str
        Command line without the program's name.

    Returns
    -------
    dict
        Figures on the test clips.
    """
    hparams_file, run_opts, overrides = parse_options(argv)
    with open(hparams_file) as file:
        hparams = load_hyperpyyaml(file, overrides)
    begin_run(
        hparams["output_folder"],
        hparams["save_folder"],
        lambda: {**settings_of(hparams_file, overrides, run_opts), **digests(hparams)},
        debug=run_opts.debug,
    )
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    torch.set_num_threads(hparams["num_threads"])
    extractor = hparams["feature_extractor"]
    if hparams["source"] is None:
        parts = hparams["audio_config"], extractor, hparams["text_tower"]
        model, tokenizer = build_clap(*parts)
    else:
        model, tokenizer = load_clap(hparams["source"], extractor)
    clips = load_clips(hparams)
    brain = ClapBrain(model, tokenizer, clips, hparams, run_opts)
    if hparams.get("composites"):
        brain.hear_composites(*composites_of(clips, hparams))
    brain.fit(hparams["epoch_counter"], brain.train_loader())
    figures = brain.test()
    if brain.debug:
        return figures
    folder = Path(hparams["clap_folder"])
    save_clap(folder, brain.averaged_model(), extractor, tokenizer)
    facts = facts_of(hparams, Path(hparams_file).name)
    write_clap_card(
        folder,
        figures,
        facts,
        clips.table,
        hparams["attribution"],
        with_tagger=bool(clips.class_names),
        composites=hparams.get("composites", 0),
    )
    return figures


def digests(hparams: dict[str, Any]) -> dict[str, str]:
    """What a training learns from: clips, tagger, and the model that it starts from.

    Parameters
    ----------
    hparams : dict
        Of hparams/clap_small.yaml.

    Returns
    -------
    dict of str to str
        See `lmaczs.training.run_identity`.
    """
    tagger = hparams["tagger_model"], hparams["tagger_class_map"]
    start = {"source": hparams["source"]}
    if hparams["source"] is None:
        start = {"text_tower": hparams["text_tower"]}
    return {
        **{name: files_digest([place]) for name, place in start.items()},
        "tagger": files_digest(tagger),
        "clips": clips_digest(load_table(hparams)),
    }


def composites_of(
    clips: ClipBank, hparams: dict[str, Any]
) -> tuple[CompositeBank, Tensor]:
    """Make the composites that a YAML asks for, or read them.

    Parameters
    ----------
    clips : ClipBank
        What they are made of.
    hparams : dict
        Of hparams/clap_composites.yaml.

    Returns
    -------
    tuple
        See `lmaczs.distillation.composite_cache.load_composites`.

    Raises
    ------
    ValueError
        If there is no tagger to hear them.
    """
    tagger = hparams["tagger_model"], hparams["tagger_class_map"]
    if None in tagger:
        raise ValueError(
            "composites need a tagger: give --tagger_model and --tagger_class_map"
        )
    front_end = FrontEnd(hparams["feature_extractor"])
    parts = clips, front_end, hparams["composer"], tagger, hparams
    folder = Path(hparams["output_folder"]) / "composites"
    return load_composites(Composites(*parts), folder, hparams["num_workers"])


def facts_of(hparams: dict[str, Any], yaml: str) -> dict[str, Any]:
    """What the model card says of a run beyond its figures.

    Parameters
    ----------
    hparams : dict
        Of hparams/clap_small.yaml.
    yaml : str
        Name of the file that they come from.

    Returns
    -------
    dict
        See `lmaczs.distillation.model_card.write_clap_card`.
    """
    extractor, manifest = hparams["feature_extractor"], hparams["manifest"]
    options = ["--data_folder=ESC50" if manifest is None else "--manifest=FILE.csv"]
    if hparams["tagger_model"] is not None:
        options.append("--tagger_model=F --tagger_class_map=F")
    for name in ("unlabelled_folder", "source"):
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
    run_recipe(main, lambda figures: print(json.dumps(figures, indent=1)))
