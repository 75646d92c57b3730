r"""Write the page of results from finished folders.

    python recipes/results_page.py FOLDER... [--output=docs/results.md]

FOLDER is one that recipes/evaluate.py, figures.py, robustness.py, frechet.py or
quality.py wrote, or "TITLE=FOLDER" with the heading that it has on the page:

    python recipes/results_page.py "ESC-50, development split=results/esc50" \
        "UrbanSound8K, fold 2=results/fold2" results/figures

Every figure, verdict and sentence about them is made from the rows of these folders; a
folder that is not finished gives a page of what it has.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

import argparse
from pathlib import Path

from lmaczs.evaluation.results_page import results_page
from lmaczs.utils.errors import run_recipe
from lmaczs.utils.extras import EVALUATION, require_packages
from lmaczs.utils.files import atomic_write


def main(argv: list[str]) -> Path:
    """Write the page and return its path."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=Path("docs/results.md"))
    options = parser.parse_args(argv)
    require_packages(EVALUATION, "eval")
    page = results_page([titled(word) for word in options.folders])
    with atomic_write(options.output) as part:
        part.write_text(page, encoding="utf-8")
    return options.output


def titled(word: str) -> tuple[str, Path]:
    """Title and folder of an argument; the title is empty where none is given."""
    title, _, folder = word.rpartition("=")
    return ("", Path(word)) if Path(word).is_dir() else (title, Path(folder))


if __name__ == "__main__":
    run_recipe(main, print)
