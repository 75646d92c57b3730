"""The figures of the LMAC-ZS paper for a decoder of one's own.

    python recipes/figures.py hparams/figures.yaml --data_folder=ESC50 [--source=DIR]
        [--no_diversity_source=DIR] [--output_folder=DIR]

Needs the extra eval: pip install -e ".[eval]".
Writes, as PNG and as PDF: similarity (figure 3, left), prompts (figure 4), cascade and
ssim (figure 5; figure 3, right), curves where recipes/evaluate.py left them in
`evaluation`, and diversity (with and without that term) where a decoder without it is
given. The numbers beneath are in CSV files of the same names.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from hyperpyyaml import load_hyperpyyaml
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from lmaczs import ZeroShotInterpreter
from lmaczs.evaluation.conditions import ContaminatedClips
from lmaczs.evaluation.explainer import Explainer, ExplainerInput
from lmaczs.evaluation.explainers import MAIN, chosen, decoder_method
from lmaczs.evaluation.randomisation import randomise
from lmaczs.evaluation.scoring import as_batch
from lmaczs.report import paper_figures
from lmaczs.report.figures import save_figure
from lmaczs.utils.errors import InputError, run_recipe
from lmaczs.utils.extras import EVALUATION, require_packages
from lmaczs.utils.files import atomic_write
from lmaczs.utils.options import parse_options

FORMATS = ("png", "pdf")
CURVES = "curves_per_clip.csv"


def main(argv: list[str]) -> list[Path]:
    """Draw and write.

    Parameters
    ----------
    argv : list of str
        Command line without the program's name.

    Returns
    -------
    list of Path
        The pictures.
    """
    hparams_file, _, overrides = parse_options(argv)
    require_packages(EVALUATION, "eval")
    with open(hparams_file) as file:
        hparams = load_hyperpyyaml(file, overrides)
    if hparams["evaluation"] is not None:
        require_curves(Path(hparams["evaluation"]))
    drawing = Drawing(hparams)
    names = ["similarity", "prompts", "cascade"]
    if hparams["no_diversity_source"] is not None:
        names.append("diversity")
    if hparams["evaluation"] is not None:
        names.append("curves")
    written = []
    for name in names:
        for stem, figure in getattr(drawing, name)().items():
            for suffix in FORMATS:
                path = drawing.folder / f"{stem}.{suffix}"
                written.append(save_figure(figure, path, dpi=150))
    return written


def require_curves(evaluation: Path) -> None:
    """Refuse a folder without the curves that are to be drawn, before any work.

    Parameters
    ----------
    evaluation : Path
        That recipes/evaluate.py wrote.

    Raises
    ------
    InputError
        If it holds no curves, or none of `MAIN`.
    """
    path = evaluation / CURVES
    if not path.is_file():
        raise InputError(
            f"--evaluation={evaluation} holds no {CURVES}: run recipes/evaluate.py "
            "with the condition clean and without --insertion_fractions=[], or leave "
            "--evaluation out"
        )
    table = pd.read_csv(path)
    if "method" not in table or MAIN not in set(table.method):
        raise InputError(
            f"--evaluation={evaluation}: {CURVES} has no row of {MAIN}: run "
            "recipes/evaluate.py again with another --output_folder"
        )


class Drawing:
    """Models, clips, and a method for each figure.

    Parameters
    ----------
    hparams : dict
        Of hparams/figures.yaml.
    """

    def __init__(self, hparams: dict[str, Any]) -> None:
        self.hparams = hparams
        self.folder = Path(hparams["output_folder"])
        interpreter = ZeroShotInterpreter.from_hparams(hparams["source"])
        self.clap = interpreter.clap
        self.template = interpreter.hparams.template
        clips, self.labels = hparams["test_clips"]()
        self.data = ContaminatedClips(clips, self.clap.front_end, "clean")
        self.table = self.data.clips
        self.text = self.encode(self.labels)
        self.methods: dict[str, Explainer] = {
            MAIN: decoder_method(MAIN, interpreter.mods["decoder"]),
            **chosen(hparams["explainers"]),
        }

    def encode(self, labels: list[str]) -> Tensor:
        """Embeddings of labels' prompts.

        Parameters
        ----------
        labels : list of str
            Names of sounds.

        Returns
        -------
        Tensor [K, D]
        """
        prompts = [self.template.format(label) for label in labels]
        return self.clap.encode_text(prompts)

    def load(self, rows: list[int]) -> ExplainerInput:
        """Clips of these rows, each with the prompt of its predicted class."""
        clips = as_batch([self.data[row] for row in rows])
        front_end = self.clap.front_end
        spectrum = front_end.stft(clips["wav"].to(self.clap.device))
        log_mel = front_end.stft_to_log_mel(spectrum)
        with torch.no_grad():
            predicted = (self.clap.audio_embedding(log_mel) @ self.text.T).argmax(1)
        return ExplainerInput(
            self.clap,
            spectrum[..., : front_end.n_frames],
            log_mel,
            self.text[predicted],
            clips["samples"],
            seed=self.hparams["seed"],
        )

    def masks(self, explain: Explainer, batch: ExplainerInput, text: Tensor) -> Tensor:
        """Masks [B, P, F, T] of every prompt [P, D] for every clip of a batch."""
        parts = text.split(self.hparams["batch_size"])
        found = [
            torch.cat([explain(batch.with_prompts(row, part)) for part in parts])
            for row in range(len(batch.text))
        ]
        return torch.stack(found)

    @torch.no_grad()
    def similarity(self) -> dict[str, Figure]:
        """Mean mask against similarity, of all clips and prompts.

        Returns
        -------
        dict of str to Figure
        """
        rows = []
        for index in tqdm(range(len(self.data)), desc="similarity", unit="clip"):
            batch = self.load([index])
            embedding = self.clap.audio_embedding(batch.log_mel)
            similar = (embedding @ self.text.T)[0].tolist()
            clip = self.table.iloc[index]
            for name, explain in self.methods.items():
                means = self.masks(explain, batch, self.text)[0].mean((1, 2))
                rows += [
                    (clip.id, clip.label, name, *pair)
                    for pair in zip(self.labels, similar, means.tolist(), strict=True)
                ]
        columns = ["id", "label", "method", "prompt", "similarity", "mask_mean"]
        table = pd.DataFrame(rows, columns=columns)
        self.write("similarity", table)
        pairs = dict(iter(table.groupby("method", sort=False)))
        return {"similarity": paper_figures.similarity_figure(pairs)}

    def chosen(self) -> list[int]:
        """One clip of each label of `figure_labels`.

        Returns
        -------
        list of int
            Rows of the table.

        Raises
        ------
        InputError
            If there is no clip of a label.
        """
        rows = []
        for label in self.hparams["figure_labels"]:
            found = self.table.index[self.table.label == label]
            if found.empty:
                raise InputError(f"figure_labels: no clip of split test is {label!r}")
            rows.append(int(found[0]))
        return rows

    def prompts(self) -> dict[str, Figure]:
        """Clips against prompts, for all methods.

        Returns
        -------
        dict of str to Figure
        """
        return {"prompts": self.grid(self.methods)}

    def diversity(self) -> dict[str, Figure]:
        """Clips against prompts, with and without the diversity term.

        Returns
        -------
        dict of str to Figure
        """
        other = ZeroShotInterpreter.from_hparams(self.hparams["no_diversity_source"])
        pair = {
            "with": self.methods[MAIN],
            "without": decoder_method("without", other.mods["decoder"]),
        }
        return {"diversity": self.grid(pair)}

    def grid(self, methods: dict[str, Explainer]) -> Figure:
        """Clips of `figure_labels` against these labels.

        Parameters
        ----------
        methods : dict of str to Explainer
            A row each for every prompt.

        Returns
        -------
        Figure
        """
        labels = self.hparams["figure_labels"]
        batch = self.load(self.chosen())
        text = self.encode(labels)
        masks = {name: self.masks(e, batch, text) for name, e in methods.items()}
        front_end = self.clap.front_end
        rate, hop = front_end.sample_rate, front_end.hop_length
        return paper_figures.prompts_figure(
            batch.cells, masks, labels, labels, rate, hop
        )

    def cascade(self) -> dict[str, Figure]:
        """Masks while the audio encoder is randomised from the top.

        Returns
        -------
        dict of str to Figure
        """
        count, size = self.hparams["randomisation_clips"], self.hparams["batch_size"]
        step = max(1, len(self.data) // count)
        rows = list(range(0, len(self.data), step))[:count]
        parts, first = [], {}
        for start in tqdm(range(0, len(rows), size), desc="cascade", unit="batch"):
            batch = self.load(rows[start : start + size])
            ssim, masks = randomise(self.methods, batch)
            parts.append(ssim.assign(clip=ssim["clip"] + start))
            first = first or {key: mask[0] for key, mask in masks.items()}
        table = pd.concat(parts, ignore_index=True)
        self.write("ssim", table)
        front_end = self.clap.front_end
        draw = partial(
            paper_figures.cascade_figure,
            sample_rate=front_end.sample_rate,
            hop_length=front_end.hop_length,
        )
        return {
            "cascade": draw(first, table),
            "ssim": paper_figures.ssim_figure(table),
        }

    def curves(self) -> dict[str, Figure]:
        """Insertion and deletion curves that recipes/evaluate.py computed.

        Returns
        -------
        dict of str to Figure
        """
        table = pd.read_csv(Path(self.hparams["evaluation"], CURVES))
        return {"curves": paper_figures.curves_figure(table)}

    def write(self, name: str, table: pd.DataFrame) -> None:
        """Keep the numbers of a figure.

        Parameters
        ----------
        name : str
            Of the CSV.
        table : DataFrame
            Its rows.
        """
        with atomic_write(self.folder / f"{name}.csv") as part:
            table.to_csv(part, index=False)


if __name__ == "__main__":
    run_recipe(main, lambda pictures: print("\n".join(map(str, pictures))))
