"""The figures of the LMAC-ZS paper for a decoder of yours.

    python recipes/figures.py hparams/figures.yaml --data_folder=ESC50 [--source=DIR]
        [--no_diversity_source=DIR] [--output_folder=DIR]

Other clips: see recipes/evaluate.py.

Needs the extra eval: pip install -e ".[eval]".
Writes, as PNG and as PDF: similarity (figure 3, left), masked_similarity (figure 10: of
the decoder, and of one without the diversity term where it is given), prompts (figure
4), cascade and ssim (figure 5; figure 3, right; randomisation.md has the paper's claim
beside what was found), curves where recipes/evaluate.py left them in `evaluation`, and
diversity (with and without that term) where a decoder without it is given. The numbers
that they show are in CSV files of the same names.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lmaczs.decoder import Decoder
from lmaczs.evaluation.decoders import load_source
from lmaczs.evaluation.explainer import Explainer
from lmaczs.evaluation.explainers import MAIN, chosen, decoder_method
from lmaczs.evaluation.figure_data import (
    LabelledClips,
    decoded_masks,
    labels_of_figures,
    prompt_masks,
    randomisation_table,
    similarity_table,
)
from lmaczs.evaluation.randomisation import PAPER_CLAIM, randomisation_page, verdict
from lmaczs.report import paper_figures
from lmaczs.report.figures import save_figure
from lmaczs.utils.errors import InputError, run_recipe
from lmaczs.utils.extras import EVALUATION, require_packages
from lmaczs.utils.files import atomic_write
from lmaczs.utils.options import load_hparams, parse_options
from lmaczs.utils.spreadsheets import read_csv, write_csv

FORMATS = ("png", "pdf")
CURVES = "curves_per_clip.csv"
WITHOUT = f"{MAIN} without diversity"


def main(argv: list[str]) -> list[Path]:
    """Draw, write and return the pictures' paths."""
    hparams_file, run_opts, overrides = parse_options(argv)
    require_packages(EVALUATION, "eval")
    hparams = load_hparams(hparams_file, overrides)
    if hparams["evaluation"] is not None:
        require_curves(Path(hparams["evaluation"]))
    clips, labels = hparams["test_clips"]()
    hparams["figure_labels"] = labels_of_figures(clips, hparams["figure_labels"])
    explainers = chosen(hparams["explainers"])
    folder = Path(hparams["output_folder"])
    return [
        save_figure(figure, folder / f"{name}.{suffix}", dpi=150)
        for name, figure in figures(
            hparams, (clips, labels), explainers, folder, run_opts.device
        )
        for suffix in FORMATS
    ]


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
    table = read_csv(path)
    if "method" not in table or MAIN not in set(table.method):
        raise InputError(
            f"--evaluation={evaluation}: {CURVES} has no row of {MAIN}: run "
            "recipes/evaluate.py again with another --output_folder"
        )


def figures(
    hparams: dict[str, Any],
    test_clips: tuple[pd.DataFrame, list[str]],
    compared: Mapping[str, Explainer],
    folder: Path,
    device: str | None = None,
) -> Iterator[tuple[str, Figure]]:
    """Compute and draw, one figure after the other.

    Parameters
    ----------
    hparams : dict
        Of hparams/figures.yaml, with labels in figure_labels.
    test_clips : tuple of DataFrame and list of str
        Clips (id, path, label), and all labels.
    compared : mapping of str to Explainer
        Explainers beside the decoder.
    folder : Path
        Where the tables of the figures are written.
    device : str, optional
        On which the models run; default: the CPU.

    Yields
    ------
    str
        Name of a figure.
    Figure
        The figure.
    """
    interpreter = load_source(hparams, device)
    clap, template = interpreter.clap, interpreter.hparams.template
    grid = clap.front_end.sample_rate, clap.front_end.hop_length
    clips = LabelledClips(
        clap, *test_clips, template, hparams["batch_size"], hparams["seed"]
    )
    ours = decoder_method(MAIN, interpreter.mods["decoder"])
    explainers = {MAIN: ours, **compared}

    def prompts_figure(explainers: dict[str, Explainer]) -> Figure:
        labels = hparams["figure_labels"]
        arrays = prompt_masks(clips, explainers, labels)
        return paper_figures.prompts_figure(*arrays, labels, labels, *grid)

    methods = {name: clips.clip_masks(one) for name, one in explainers.items()}
    methods[MAIN] = decoded_masks(clap, interpreter.mods["decoder"])
    other = decoder_of({**hparams, "source": hparams["no_diversity_source"]}, device)
    if other is not None:
        methods[WITHOUT] = decoded_masks(clap, other)
    table = similarity_table(
        clap, methods, clips.sounds(), clips.labels, template, with_masked=True
    )
    write(folder / "similarity.csv", table)
    pairs = dict(iter(table.groupby("method", sort=False)))
    shown = {name: pairs[name] for name in explainers}
    yield "similarity", paper_figures.similarity_figure(shown)
    decoders = {name: pairs[name] for name in (MAIN, WITHOUT) if name in pairs}
    yield "masked_similarity", paper_figures.similarity_figure(decoders, masked=True)
    yield "prompts", prompts_figure(explainers)
    ssim, masks = randomisation_table(clips, explainers, hparams["randomisation_clips"])
    write(folder / "ssim.csv", ssim)
    yield "cascade", paper_figures.cascade_figure(masks, ssim, *grid)
    with atomic_write(folder / "randomisation.md") as part:
        part.write_text(randomisation_page(ssim, MAIN), encoding="utf-8")
    caption = f"{PAPER_CLAIM} {verdict(ssim, MAIN)}"
    yield "ssim", paper_figures.ssim_figure(ssim, caption)
    if other is not None:
        without = decoder_method("without", other)
        yield "diversity", prompts_figure({"with": ours, "without": without})
    if hparams["evaluation"] is not None:
        curves = read_csv(Path(hparams["evaluation"], CURVES))
        yield "curves", paper_figures.curves_figure(curves)


def decoder_of(hparams: dict[str, Any], device: str | None) -> Decoder | None:
    """Decoder of an exported folder, `source`; None without one."""
    if hparams["source"] is None:
        return None
    decoder: Decoder = load_source(hparams, device).mods["decoder"]
    return decoder


def write(path: Path, table: pd.DataFrame) -> None:
    """Write the numbers of a figure as CSV."""
    write_csv(path, table)


if __name__ == "__main__":
    run_recipe(main, lambda pictures: print("\n".join(map(str, pictures))))
