"""Score a decoder beside other methods: faithfulness, localisation, curves.

    python recipes/evaluate.py hparams/evaluate.yaml --data_folder=ESC50
        [--source=DIR] [--lmac_source=DIR] [--speech_folder=DIR] [--output_folder=DIR]

Writes results.csv (a row a method and condition), localisation.csv and areas.csv
(likewise), a CSV with a row a clip for each, and results.md. What the output folder
holds already is not computed again.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from lmaczs import ZeroShotInterpreter, curves, tables
from lmaczs.conditions import HeardUnder, seed_of
from lmaczs.datasets import ESC10, labelled_clips, recordings_in
from lmaczs.evaluation import fill_table, score_batch
from lmaczs.files import written_whole
from lmaczs.kept_table import KeptTable
from lmaczs.known_sources import LOCALISATION, KnownSources, locate, prompts_of
from lmaczs.methods import MAIN, Methods

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
    hparams_file, _, overrides = sb.parse_arguments(argv)
    with open(hparams_file) as file:
        hparams = load_hyperpyyaml(file, overrides)
    run = Evaluation(hparams)
    per_clip = run.faithfulness()
    results = tables.summarise(per_clip)
    written = {"results": results}
    more = {}
    if hparams["localisation"]:
        located = run.localisation()
        written["localisation"] = means_of(located, [*LOCALISATION, "seconds"])
        for kind, rows in located.groupby("condition", sort=False):
            named = [c for c in LOCALISATION if rows[c].notna().any()]
            text = tables.markdown_table(rows, named, tables.DIGITS)
            more[f"Known sources: {kind}"] = text
    if hparams["curve_shares"]:
        found = curves.areas(run.curves()).assign(condition="clean")
        names = ["insertion", "deletion"]
        written["areas"] = means_of(found, names)
        text = tables.markdown_table(found, names, dict.fromkeys(names, 3))
        more["Areas under insertion and deletion curves"] = text
    for name, table in written.items():
        with written_whole(run.folder / f"{name}.csv") as part:
            table.to_csv(part, index=False)
    with written_whole(run.folder / "results.md") as part:
        part.write_text(tables.results_page(per_clip, run.title, more))
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
        self.clips, self.labels = labelled_clips(
            hparams["data_folder"], hparams["manifest"], hparams["splits"]
        )
        if hparams["esc10_only"]:
            self.clips = self.clips[self.clips.label.isin(ESC10)]
            self.labels = sorted(ESC10)
        folder = hparams["speech_folder"]
        self.speech = recordings_in(folder) if folder is not None else []
        self.prompts = prompts_of(self.clap, self.labels, self.template)
        self.settings = {
            "model": fingerprint(self.clap),
            "decoders": {k: fingerprint(v) for k, v in decoders.items()},
            "clips": [str(clip) for clip in self.clips.id],
            "labels": self.labels,
            "template": self.template,
            **{k: hparams[k] for k in KEPT},
        }
        self.title = f"Faithfulness in the {hparams['domain']} domain"

    def faithfulness(self) -> pd.DataFrame:
        """per_clip.csv: every clip, method and condition.

        Returns
        -------
        DataFrame
        """
        speech = self.speech
        conditions = list(self.hparams["conditions"])
        if "speech" in conditions and not speech:
            logger.warning("condition speech is left out: it needs --speech_folder")
            conditions.remove("speech")
        front_end = self.clap.front_end
        named = ("share", "seed")
        options = {name: self.hparams[name] for name in named}
        datasets = {
            name: HeardUnder(self.clips, front_end, name, speech=speech, **options)
            for name in conditions
        }
        text = self.class_text()

        def score(batch: dict[str, Any], condition: str) -> pd.DataFrame:
            seed = self.seed_of(batch, condition)
            return score_batch(self.clap, self.methods, text, self.labels, batch, seed)

        return self.fill("per_clip", datasets, score)

    def localisation(self) -> pd.DataFrame:
        """localisation_per_clip.csv: every sum and sequence, and method.

        Returns
        -------
        DataFrame
        """
        datasets = {
            kind: KnownSources(
                self.clips, self.clap.front_end, kind, self.hparams["seed"]
            )
            for kind in ("sum", "sequence")
        }

        def score(batch: dict[str, Any], kind: str) -> pd.DataFrame:
            seed = self.seed_of(batch, kind)
            return locate(self.clap, self.methods, self.prompts, batch, kind, seed)

        return self.fill("localisation_per_clip", datasets, score)

    def curves(self) -> pd.DataFrame:
        """curves_per_clip.csv: every clip, method and share of cells.

        Returns
        -------
        DataFrame
        """
        shares = self.hparams["curve_shares"]
        clean = HeardUnder(self.clips, self.clap.front_end, "clean")
        draw = partial(curves.draw_curves, self.clap, self.methods, self.class_text())

        def score(batch: dict[str, Any], condition: str) -> pd.DataFrame:
            return draw(batch, shares, self.seed_of(batch, condition))

        return self.fill("curves_per_clip", {"clean": clean}, score)

    def fill(
        self,
        name: str,
        datasets: dict[str, Dataset],
        score: Callable[[dict[str, Any], str], pd.DataFrame],
    ) -> pd.DataFrame:
        """Compute what a table lacks.

        Parameters
        ----------
        name : str
            Of the CSV.
        datasets : dict
            Of each condition.
        score : callable
            See `lmaczs.evaluation.fill_table`.

        Returns
        -------
        DataFrame
            All rows.
        """
        table = KeptTable(self.folder / f"{name}.csv", self.settings)
        progress = partial(tqdm, desc=name, unit="batch")
        size = self.hparams["batch_size"]
        rows = fill_table(table, datasets, score, size, progress)
        return rows[rows.condition.isin(list(datasets))]

    def class_text(self) -> Tensor:
        """Embeddings of the class prompts.

        Returns
        -------
        Tensor [K, D]
        """
        prompts = [self.template.format(label) for label in self.labels]
        return self.clap.encode_text(prompts)

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


def fingerprint(module: Any) -> str:
    """Digest of a model's weights.

    Parameters
    ----------
    module : Module
        The model.

    Returns
    -------
    str
        Eight hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


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
    print(main(sys.argv[1:]).round(3).to_string(index=False))
