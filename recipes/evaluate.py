"""Score a decoder beside other methods: faithfulness, localisation, curves.

    python recipes/evaluate.py hparams/evaluate.yaml --data_folder=ESC50
        [--source=DIR] [--paper_source=DIR] [--lmac_source=DIR] [--speech_folder=DIR]
        [--decoders="{LMAC-ZS: [DIR1, DIR2], a quarter of the data: DIR3}"]
        [--output_folder=DIR]

Other clips than ESC-50's: --urbansound8k_folder=DIR (--test_folds="[1, 2]": folds other
than 10), --manifest=FILE.csv, or --data_folder=DIR --dataset=folder, with a subfolder
of recordings for each label. Inputs are checked before anything is computed.

Needs the extra eval: pip install -e ".[eval]". --device=cuda runs on a GPU.
Writes results.csv, results_unscaled.csv (without the logit scale), equal_area.csv,
localisation.csv and areas.csv (a row a method and condition), a CSV with a row a clip
for each, tests.csv (every method against LMAC-ZS+ in every table), seeds.csv where a
method has several seeds, left_out.csv where the decoder was not trained on some of the
classes, facts.json (date, machine, versions) and results.md; recipes/results_page.py
makes a page of several folders. What the output folder holds already is not computed
again: methods may be added to it later. No row depends on what is computed beside it,
so one figure can be computed alone, with --methods, --conditions and --ids.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

import time
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from lmaczs import ZeroShotInterpreter
from lmaczs.data.esc50 import ESC10
from lmaczs.data.recordings import (
    RECORDINGS,
    changed_recordings,
    inspect_recordings,
    read_recordings,
    with_digests,
    write_recordings,
)
from lmaczs.evaluation.decoders import further_sources, load_decoders, load_source
from lmaczs.evaluation.explainers import (
    EXPLAINERS,
    MAIN,
    ExplainerSuite,
    choose_methods,
    require_name,
)
from lmaczs.evaluation.facts import (
    machine_facts,
    shown_options,
    tested_set,
    write_facts,
)
from lmaczs.evaluation.left_out import left_out_results, require_labels
from lmaczs.evaluation.run import (
    Evaluation,
    EvaluationPlan,
    rows_of,
    write_results,
)
from lmaczs.evaluation.source_mixtures import require_two_labels
from lmaczs.evaluation.training_data import card_of, left_out_labels, training_section
from lmaczs.hub import decoder_folder, resolve
from lmaczs.training.learnt import joined, learnt_by, named, unlearnt
from lmaczs.training.run_identity import held
from lmaczs.utils.errors import InputError, run_recipe
from lmaczs.utils.extras import EVALUATION, require_packages
from lmaczs.utils.options import load_hparams, parse_options


def main(argv: list[str]) -> pd.DataFrame:
    """Evaluate, write the tables and return results.csv."""
    start = time.monotonic()
    hparams_file, run_opts, overrides = parse_options(argv)
    require_packages(EVALUATION, "eval")
    hparams = load_hparams(hparams_file, overrides)
    sources = further_sources(hparams)
    known = [MAIN, *sources, *EXPLAINERS]
    names = choose_methods(known, hparams["methods"], hparams["without"])
    clips, labels = hparams["test_clips"]()
    if hparams["esc10_only"]:
        clips, labels = clips[clips.label.isin(ESC10)], sorted(ESC10)
        if clips.empty:
            raise InputError("--esc10_only: no clip to test on has a label of ESC-10")
    rows_of(clips.id, hparams["ids"])
    for name in hparams["recompute"]:
        require_name(name, names, "recompute")
    plan = plan_of(hparams)
    if plan.localisation or "mixture" in plan.conditions:
        require_two_labels(clips, "localisation and condition mixture")
    with held(hparams["output_folder"]):
        sources = {name: one for name, one in sources.items() if name in names}
        rest = {name: EXPLAINERS[name] for name in names if name in EXPLAINERS}
        interpreter = load_source(hparams, run_opts.device)
        decoders = load_decoders(interpreter, sources, hparams["trust_remote_code"])
        suite = ExplainerSuite(interpreter.clap, decoders, hparams["domain"], rest)
        others = map(decoder_folder, sources.values())
        folders = [interpreter.hparams.source_folder, *others]
        clips = clips_to_test(clips, hparams["output_folder"], folders)
        left_out = labels_left_out(interpreter, hparams["left_out"], labels)
        template, folder = interpreter.hparams.template, hparams["output_folder"]
        found = Evaluation(suite, clips, labels, template, plan, folder).run()
        cards = cards_of(interpreter, sources)
        section = training_section(clips, tested_set(hparams), *cards)
        more = left_out_results(found["per_clip"], clips, left_out)
        sections = {**more[1], "What the models were trained on": section}
        title = f"Faithfulness in the {suite.domain} domain"
        results = write_results(found, title, folder, more[0], sections)
        facts = {
            **facts_of(suite, plan, template, argv),
            "tested": tested_set(hparams),
            "training": section,
            "seconds": time.monotonic() - start,
        }
        here = machine_facts(interpreter.clap.device)
        write_facts(folder, {**here, **facts}, plan.join)
        return results


def clips_to_test(
    clips: pd.DataFrame, output_folder: str, folders: Iterable[str | Path]
) -> pd.DataFrame:
    """Clips with their digests, but those that a decoder in these folders has learnt.

    What is found of the recordings is noted in the output folder. `InputError` if one
    cannot be read, or is another than the folder's figures are for.
    """
    noted = Path(output_folder, RECORDINGS)
    known = read_recordings(noted)
    found = inspect_recordings(clips.path, known)
    problems = [f"{path}: {one.problem}" for path, one in found.items() if one.problem]
    if problems:
        raise InputError(
            f"{len(problems)} of {len(found)} recordings cannot be tested on "
            f"({named(problems)}): mend them or take them out of the list"
        )
    changed = changed_recordings(known, found)
    if changed and Path(output_folder, "per_clip.csv").exists():
        raise InputError(
            f"output_folder {output_folder} holds figures for other contents of "
            f"{named(changed)}: choose another folder, or remove that one"
        )
    write_recordings(noted, {**known, **found})
    learnt = joined(map(learnt_by, folders))
    return unlearnt(with_digests(clips, found), learnt, "test")


def facts_of(
    suite: ExplainerSuite, plan: EvaluationPlan, template: str, argv: list[str]
) -> dict:
    """What facts.json has of an evaluation's methods, plan and options."""
    options = [word for word in argv[1:] if not word.startswith("--join=")]
    return {
        "options": shown_options(options),
        "seed": plan.seed,
        "domain": suite.domain,
        "template": template,
        "power_exponent": plan.power_exponent,
        "slow_every": plan.slow_every,
        "passes": {name: method.passes for name, method in suite.methods.items()},
    }


def plan_of(hparams: Mapping[str, Any]) -> EvaluationPlan:
    """The keys of an evaluation's YAML that its plan has."""
    return EvaluationPlan(**{f.name: hparams[f.name] for f in fields(EvaluationPlan)})


def labels_left_out(
    interpreter: ZeroShotInterpreter, given: list[str] | None, labels: list[str]
) -> list[str]:
    """Labels that the decoder was not trained on: those given, or by its card."""
    if given is not None:
        require_labels(given, labels)
        return given
    card = card_of(interpreter.hparams.source_folder)
    return [label for label in left_out_labels(card) if label in labels]


def cards_of(
    interpreter: ZeroShotInterpreter, sources: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """Card of the CLAP, and those of the decoders by the names of their rows."""
    folder = interpreter.hparams.source_folder
    clap = card_of(resolve(interpreter.hparams.clap_source, folder))
    return clap, {MAIN: card_of(folder), **{k: card_of(v) for k, v in sources.items()}}


if __name__ == "__main__":
    run_recipe(main, lambda table: print(table.round(3).to_string(index=False)))
