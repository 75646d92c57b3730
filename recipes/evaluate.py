"""Score a decoder beside other methods: faithfulness, localisation, curves.

    python recipes/evaluate.py hparams/evaluate.yaml --data_folder=ESC50
        [--source=DIR] [--lmac_source=DIR] [--speech_folder=DIR] [--output_folder=DIR]

Needs the extra eval: pip install -e ".[eval]".
Writes results.csv (a row a method and condition), localisation.csv and areas.csv
(likewise), a CSV with a row a clip for each, and results.md. What the output folder
holds already is not computed again.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from hyperpyyaml import load_hyperpyyaml
from tqdm import tqdm

from lmaczs import ZeroShotInterpreter
from lmaczs.data.esc50 import ESC10
from lmaczs.data.lists import recordings_in
from lmaczs.evaluation import insertion_deletion as curves
from lmaczs.evaluation import tables
from lmaczs.evaluation.conditions import HeardUnder, seed_of
from lmaczs.evaluation.explainers import MAIN, Methods
from lmaczs.evaluation.result_table import KeptTable
from lmaczs.evaluation.scoring import (
    Explained,
    Task,
    explain_predicted,
    fill_tables,
    score_batch,
)
from lmaczs.evaluation.source_mixtures import (
    LOCALISATION,
    KnownSources,
    locate,
    prompts_of,
)
from lmaczs.utils.digests import clips_digest, fingerprint
from lmaczs.utils.errors import run_recipe
from lmaczs.utils.extras import EVALUATION, require_packages
from lmaczs.utils.files import atomic_write
from lmaczs.utils.options import parse_options

logger = logging.getLogger(__name__)

KEPT = ("domain", "seed", "batch_size", "share", "curve_shares")


def main(argv: list[str]) -> pd.DataFrame:
    """Evaluate and write the tables.

    Parameters
    ----------
    argv : list of str
        Command line without the program's name.

    Returns
    -------
    DataFrame
        results.csv.
    """
    hparams_file, _, overrides = parse_options(argv)
    require_packages(EVALUATION, "eval")
    with open(hparams_file) as file:
        hparams = load_hyperpyyaml(file, overrides)
    run = Evaluation(hparams)
    found = run.fill_tables()
    results = tables.summarise(found["per_clip"])
    written = {"results": results}
    more = {}
    if "localisation_per_clip" in found:
        located = found["localisation_per_clip"]
        written["localisation"] = means_of(located, [*LOCALISATION, "seconds"])
        for kind, rows in located.groupby("condition", sort=False):
            named = [c for c in LOCALISATION if rows[c].notna().any()]
            text = tables.markdown_table(rows, named, tables.DIGITS)
            more[f"Known sources: {kind}"] = text
    if "curves_per_clip" in found:
        areas = curves.areas(found["curves_per_clip"]).assign(condition="clean")
        names = ["insertion", "deletion"]
        written["areas"] = means_of(areas, names)
        text = tables.markdown_table(areas, names, dict.fromkeys(names, 3))
        more["Areas under insertion and deletion curves"] = text
    for name, table in written.items():
        with atomic_write(run.folder / f"{name}.csv") as part:
            table.to_csv(part, index=False)
    with atomic_write(run.folder / "results.md") as part:
        part.write_text(tables.results_page(found["per_clip"], run.title, more))
    return results


def means_of(per_clip: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Means over clips of each condition and method.

    Parameters
    ----------
    per_clip : DataFrame
        condition, method and `columns`.
    columns : list of str
        What is averaged.

    Returns
    -------
    DataFrame
    """
    groups = per_clip.groupby(["condition", "method"], sort=False)
    return groups[columns].mean().reset_index()


class Evaluation:
    """One run: models, clips, and the tables that it fills.

    Parameters
    ----------
    hparams : dict
        Of hparams/evaluate.yaml.
    """

    def __init__(self, hparams: dict[str, Any]) -> None:
        self.hparams = hparams
        self.folder = Path(hparams["output_folder"])
        interpreter = ZeroShotInterpreter.from_hparams(hparams["source"])
        self.clap = interpreter.clap
        self.template = interpreter.hparams.template
        decoders = {MAIN: interpreter.mods["decoder"]}
        if hparams["lmac_source"] is not None:
            other = ZeroShotInterpreter.from_hparams(hparams["lmac_source"])
            require_same_clap(other.clap, self.clap)
            decoders["L-MAC"] = other.mods["decoder"]
        self.methods = Methods(self.clap, decoders, hparams["domain"])
        self.clips, self.labels = hparams["test_clips"]()
        if hparams["esc10_only"]:
            self.clips = self.clips[self.clips.label.isin(ESC10)]
            self.labels = sorted(ESC10)
        folder = hparams["speech_folder"]
        self.speech = recordings_in(folder) if folder is not None else []
        self.prompts = prompts_of(self.clap, self.labels, self.template)
        self.class_text = torch.stack(list(self.prompts.values()))
        self.settings = {
            "model": fingerprint(self.clap),
            "decoders": {k: fingerprint(v) for k, v in decoders.items()},
            "clips": clips_digest(self.clips),
            "speech": self.speech_digest(),
            "labels": self.labels,
            "template": self.template,
            **{k: hparams[k] for k in KEPT},
        }
        self.title = f"Faithfulness in the {hparams['domain']} domain"

    def speech_digest(self) -> str | None:
        """Names and sizes of the recordings of speech; None where none is needed.

        Returns
        -------
        str or None
        """
        if not self.speech or "speech" not in self.hparams["conditions"]:
            return None
        names = [str(p.relative_to(self.hparams["speech_folder"])) for p in self.speech]
        return clips_digest(pd.DataFrame({"id": names, "path": self.speech}))

    def fill_tables(self) -> dict[str, pd.DataFrame]:
        """Compute what the output folder lacks, in one pass over the clips.

        Returns
        -------
        dict of str to DataFrame
            per_clip: every clip, method and condition; localisation_per_clip: every
            sum and sequence, and method; curves_per_clip: every clip, method and share
            of cells. The last two where they are asked for. Each is a CSV, too.
        """
        tasks = {**self.conditions(), **self.known_sources()}
        names = list(dict.fromkeys(n for task in tasks.values() for n in task.scorers))
        kept = {n: KeptTable(self.folder / f"{n}.csv", self.settings) for n in names}
        progress = partial(tqdm, desc="evaluate", unit="batch")
        fill_tables(kept, tasks, self.hparams["batch_size"], progress)
        found = {}
        for name, table in kept.items():
            asked_for = [c for c, task in tasks.items() if name in task.scorers]
            found[name] = table.rows[table.rows.condition.isin(asked_for)]
        return found

    def conditions(self) -> dict[str, Task]:
        """Clips as they are, and disturbed; curves are drawn of clean ones.

        Returns
        -------
        dict of str to Task

        Raises
        ------
        ValueError
            If there is no condition.
        """
        conditions, speech = list(self.hparams["conditions"]), self.speech
        if "speech" in conditions and not speech:
            logger.warning("condition speech is left out: it needs --speech_folder")
            conditions.remove("speech")
        if not conditions:
            raise ValueError(
                "conditions names none that can be heard: add clean to it, or give "
                "--speech_folder"
            )
        options = {name: self.hparams[name] for name in ("share", "seed")}
        score = partial(score_batch, labels=self.labels)
        scorers = {name: {"per_clip": score} for name in conditions}
        if self.hparams["curve_shares"]:
            draw = partial(curves.draw_curves, shares=self.hparams["curve_shares"])
            scorers.setdefault("clean", {})["curves_per_clip"] = draw
        return {
            name: Task(
                HeardUnder(
                    self.clips, self.clap.front_end, name, speech=speech, **options
                ),
                partial(self.explain, condition=name),
                made,
            )
            for name, made in scorers.items()
        }

    def explain(self, batch: dict[str, Any], condition: str) -> Explained:
        """See `explain_predicted`.

        Parameters
        ----------
        batch : dict
            Clips.
        condition : str
            Under which they are heard.

        Returns
        -------
        Explained
        """
        seed = self.seed_of(batch, condition)
        return explain_predicted(self.clap, self.methods, self.class_text, batch, seed)

    def known_sources(self) -> dict[str, Task]:
        """Sums and sequences of two clips, where they are asked for.

        Returns
        -------
        dict of str to Task
        """
        if not self.hparams["localisation"]:
            return {}
        front_end, seed = self.clap.front_end, self.hparams["seed"]

        def located(batch: dict[str, Any], kind: str) -> pd.DataFrame:
            seed = self.seed_of(batch, kind)
            return locate(self.clap, self.methods, self.prompts, batch, kind, seed)

        return {
            kind: Task(
                KnownSources(self.clips, front_end, kind, seed),
                partial(located, kind=kind),
                {"localisation_per_clip": lambda rows: rows},
            )
            for kind in ("sum", "sequence")
        }

    def seed_of(self, batch: dict[str, Any], condition: str) -> int:
        """What a method draws for a batch depends on its place in the data alone.

        Parameters
        ----------
        batch : dict
            With the clips' ids.
        condition : str
            Its condition.

        Returns
        -------
        int
        """
        return seed_of(self.hparams["seed"], condition, batch["id"][0])


def require_same_clap(one: Any, other: Any) -> None:
    """Refuse decoders of two models in one table.

    Parameters
    ----------
    one : FrozenClap
        A model.
    other : FrozenClap
        The other one.

    Raises
    ------
    ValueError
        If their weights differ.
    """
    if fingerprint(one) != fingerprint(other):
        raise ValueError("lmac_source explains another CLAP than source does")


if __name__ == "__main__":
    run_recipe(main, lambda table: print(table.round(3).to_string(index=False)))
