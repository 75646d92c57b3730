"""Train the small CLAP: its audio tower against a frozen text tower.

    python recipes/train_clap.py hparams/clap_small.yaml --data_folder=ESC50
        [--text_tower=DIR] [--tagger_model=F --tagger_class_map=F] [--debug]

Writes <output_folder>/save/clap, a Hugging Face folder with a model card. A run that
was killed goes on from its last checkpoint (every `valid_every` epochs) when it is
started again. With --debug nothing is saved.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml

from lmaczs.clap_card import write_clap_card
from lmaczs.clap_training import ClapBrain, build_clap, load_clips, save_clap


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
    hparams_file, run_opts, overrides = sb.parse_arguments(argv)
    with open(hparams_file) as file:
        hparams = load_hyperpyyaml(file, overrides)
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    torch.set_num_threads(hparams["num_threads"])
    model, tokenizer = build_clap(
        hparams["audio_config"], hparams["feature_extractor"], hparams["text_tower"]
    )
    clips = load_clips(hparams)
    brain = ClapBrain(model, tokenizer, clips, hparams, run_opts)
    brain.fit(hparams["epoch_counter"], brain.train_loader())
    figures = brain.test()
    if brain.debug:
        return figures
    folder = Path(hparams["clap_folder"])
    save_clap(folder, brain.averaged_model(), hparams["feature_extractor"], tokenizer)
    extractor = hparams["feature_extractor"]
    facts = {
        "name": hparams["model_name"],
        "seconds": extractor.max_length_s,
        "rate": extractor.sampling_rate,
        "template": hparams["templates"][0],
    }
    write_clap_card(
        folder,
        figures,
        facts,
        clips.table,
        hparams["attribution"],
        with_tagger=bool(clips.class_names),
    )
    return figures


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=1))
