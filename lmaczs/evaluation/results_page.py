"""A page of results from finished evaluations: tables, verdicts, and what they say.

The text that stays is in ``results_page.md.j2``. Every sentence about who is ahead is
made from the tests of `every_test`, on the rows that a folder holds.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from lmaczs.evaluation import tables
from lmaczs.evaluation.comparisons import (
    BETTER,
    areas_of,
    better_maps,
    compared_metrics,
    equal_area_rows,
    every_test,
    first_condition,
    verdicts_of,
)
from lmaczs.evaluation.equal_area import TIMES_POWER
from lmaczs.evaluation.explainers import EXPLAINERS, KEEP_ALL, MAIN, REFINED
from lmaczs.evaluation.facts import read_facts
from lmaczs.evaluation.insertion_deletion import AREAS
from lmaczs.evaluation.left_out import NOTE
from lmaczs.evaluation.seeds import SEEDED, seeds_page
from lmaczs.evaluation.source_mixtures import localisation_columns
from lmaczs.evaluation.statistics import AHEAD, BEHIND, SIGN_FLIPS, TIE
from lmaczs.metrics.faithfulness import METRICS
from lmaczs.metrics.metric import Column
from lmaczs.report import markdown
from lmaczs.utils.errors import InputError
from lmaczs.utils.spreadsheets import read_csv

PER_CLIP, EQUAL = "per_clip.csv", "equal_area_per_clip.csv"
MAIN_AREA = "0.2"
Reader = Callable[[str, Path], tuple[str, str]]
"""From a title, "" for the default one, and a folder: title and Markdown."""

NAMES = {"esc50": "ESC-50", "urbansound8k": "UrbanSound8K"}


def results_page(folders: Sequence[tuple[str, Path]]) -> str:
    """Make the page of folders, each with its title; "" for one by its contents.

    Folders of recipes/evaluate.py (also unfinished), figures.py, robustness.py,
    frechet.py and quality.py. Raises InputError for any other.
    """
    sections = [found for title, path in folders for found in sections_of(title, path)]
    every = [read_facts(path) for _, path in folders]
    exponents = {f["power_exponent"] for f in every if "power_exponent" in f}
    environment = Environment(
        loader=PackageLoader("lmaczs.evaluation", ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown
    )
    environment.filters["anchor"] = anchor
    page = environment.get_template("results_page.md.j2").render(
        MAIN=MAIN,
        KEEP_ALL=KEEP_ALL,
        marks=tables.MARKS_LEGEND,
        exponent=listed(
            [f"{value:g}" for value in sorted(exponents)] or ["of the run"]
        ),
        flips=f"{SIGN_FLIPS:,}",
        titles=[title for title, _ in sections],
        sections=sections,
    )
    return re.sub(r"\n{3,}", "\n\n", page).rstrip() + "\n"


def anchor(title: str) -> str:
    """Anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def sections_of(title: str, folder: Path) -> list[tuple[str, str]]:
    """Titles and Markdown of what a folder holds."""
    readers: dict[str, Reader] = {
        PER_CLIP: evaluation_section,
        "randomisation.md": _page_of("randomisation.md"),
        "robustness.md": _page_of("robustness.md"),
        "frechet.csv": _frechet,
        "quality.json": _quality,
    }
    there = [read for name, read in readers.items() if (folder / name).is_file()]
    if not there:
        raise InputError(
            f"{folder} holds none of {', '.join(readers)}: name folders that recipes "
            "evaluate.py, figures.py, robustness.py, frechet.py or quality.py wrote"
        )
    first, *rest = there  # the title is that of the first
    return [first(title, folder), *(read("", folder) for read in rest)]


# --- one evaluation -----------------------------------------------------------------


def read_rows(path: Path) -> pd.DataFrame:
    """Rows of a CSV with a row a clip: LMAC-ZS+ first, other decoders, explainers."""
    rows = read_csv(
        path, dtype={"id": str, "area": str}, keep_default_na=False, na_values=[""]
    )
    names = [MAIN, *(n for n in rows.method.unique() if n not in EXPLAINERS)]
    places = {name: at for at, name in enumerate(dict.fromkeys([*names, *EXPLAINERS]))}
    return rows.sort_values(
        "method", key=lambda column: column.map(places), kind="stable"
    ).reset_index(drop=True)


def evaluation_section(title: str, folder: Path) -> tuple[str, str]:
    """Title and Markdown of a folder of recipes/evaluate.py, also an unfinished one."""
    facts, per_clip = read_facts(folder), read_rows(folder / PER_CLIP)
    equal = read_rows(folder / EQUAL) if (folder / EQUAL).is_file() else None
    tests = every_test(per_clip, equal)
    tested = str(facts.get("tested", folder.name))
    conditions = list(per_clip.condition.unique())
    first = first_condition(conditions)
    parts = [
        facts_text(facts, per_clip),
        "### What the tests say\n",
        summary(tests, first),
        *_refined_tests(per_clip, equal, first),
        f"### Own masks, {first}\n",
        _own_table(per_clip, tests, first, facts.get("passes", {})),
    ]
    if equal is not None:
        parts += _equal_area(equal, tests, first)
    others = [condition for condition in conditions if condition != first]
    parts += _details(per_clip, equal, tests, first, others)
    parts += _more(folder, facts)
    return title or NAMES.get(tested, tested), "\n".join(part for part in parts if part)


def _refined_tests(
    per_clip: pd.DataFrame, equal: pd.DataFrame | None, condition: str
) -> list[str]:
    """The same tests with the refined masks against the others, folded."""
    if REFINED not in set(per_clip.method):
        return []
    tests = every_test(per_clip, equal, REFINED)
    text = summary(tests, condition, REFINED)
    return [folded(f"The same tests with {REFINED} in its place", text)]


def facts_text(facts: Mapping[str, Any], per_clip: pd.DataFrame) -> str:
    """Clips, accuracies, and what is known about the run."""
    clips = per_clip.drop_duplicates(["condition", "id"]).groupby("condition")
    accuracy = ", ".join(
        f"{name} {clips.accuracy.mean()[name]:.3f}"
        for name in per_clip.condition.unique()
    )
    counts = sorted(set(per_clip.groupby(["condition", "method"]).size()))
    text = f"{per_clip.id.nunique()} clips. Accuracy of the CLAP: {accuracy}."
    if len(counts) > 1:
        text += f" Methods have {counts[0]} to {counts[-1]} clips, see n."
    if not facts:
        return text + " The folder has no facts.json, which says when and where.\n"
    versions = ", ".join(f"{name} {v}" for name, v in facts["versions"].items())
    options = " ".join(_quoted(word) for word in facts["options"])
    return (
        f"{text}\n\n{facts['date']}; {machines_text(facts['machines'])}; "
        f"{facts['seconds'] / 60:.0f} minutes in all; seed "
        f"{facts['seed']}; domain {facts['domain']}; {versions}.\n\n"
        f"```\npython recipes/evaluate.py hparams/evaluate.yaml {options}\n```\n"
    )


def machines_text(machines: Sequence[str]) -> str:
    """What computed the rows; on the first of several, seconds were taken."""
    if len(machines) == 1:
        return machines[0]
    return f"{machines[0]} (seconds are of it alone); {'; '.join(machines[1:])}"


def _quoted(word: str) -> str:
    """Option for a shell."""
    name, equals, value = word.partition("=")
    return f"{name}{equals}{shlex.quote(value)}" if equals else shlex.quote(word)


def _own_table(
    per_clip: pd.DataFrame,
    tests: pd.DataFrame,
    condition: str,
    passes: Mapping[str, int],
) -> str:
    rows = per_clip[per_clip.condition == condition]
    counts = rows.groupby("method").size().to_dict()
    seconds = rows.groupby("method").seconds.mean()
    more = {
        "n": counts,
        "passes": {name: passes.get(name, _passes(name)) for name in counts},
    }
    if seconds.notna().any():
        more["s"] = {n: "–" if pd.isna(x) else f"{x:.3f}" for n, x in seconds.items()}
    columns = [*compared_metrics(), METRICS["MM"]]
    own = verdicts_of(tests, condition)
    return tables.markdown_table(rows, columns, own, intervals=False, more=more)


def _passes(method: str) -> int:
    """Encoder passes where a folder does not say: a decoder has one."""
    return EXPLAINERS[method].passes if method in EXPLAINERS else 1


def _equal_area(equal: pd.DataFrame, tests: pd.DataFrame, condition: str) -> list[str]:
    """Main table of equal area, if there is one."""
    rows = equal[equal.condition == condition]
    if rows.empty:
        return []
    area, better = main_area(areas_of(rows)), better_maps(equal)
    cut = equal_area_rows(rows, area, BETTER, better)
    shown = {
        n: "× power" if kind == TIMES_POWER else kind for n, kind in better.items()
    }
    more = {"n": cut.groupby("method").size().to_dict(), "map": shown}
    own = verdicts_of(tests, condition, area, BETTER)
    table = tables.markdown_table(cut, compared_metrics(), own, False, more)
    return [f"### Equal area {area}, {condition}\n", table]


def main_area(areas: Sequence[str]) -> str:
    """Area of the main table: `MAIN_AREA`, or the first."""
    return MAIN_AREA if MAIN_AREA in areas else areas[0]


def _details(
    per_clip: pd.DataFrame,
    equal: pd.DataFrame | None,
    tests: pd.DataFrame,
    first: str,
    others: Sequence[str],
) -> list[str]:
    """Folded tables: other conditions, other areas, differences with intervals."""
    columns, parts = compared_metrics(), []
    if others:
        own = [
            (per_clip[per_clip.condition == name], verdicts_of(tests, name))
            for name in others
        ]
        heading = f"Own masks: {' · '.join(others)}"
        parts.append(folded(heading, tables.joined_table(own, columns)))
    parts.append(
        folded(
            f"Differences to {MAIN}, own masks, {first}",
            differences(verdicts_of(tests, first)),
        )
    )
    if equal is None:
        return parts
    better = better_maps(equal)
    for condition, rows in equal.groupby("condition", sort=False):
        areas = areas_of(rows)
        every = [
            (
                equal_area_rows(rows, area, BETTER, better),
                verdicts_of(tests, str(condition), area, BETTER),
            )
            for area in areas
        ]
        table = tables.joined_table(every, columns)
        parts.append(folded(f"Equal area, {condition}: {' · '.join(areas)}", table))
        if condition == first:
            area = main_area(areas)
            table = differences(verdicts_of(tests, first, area, BETTER))
            heading = f"Differences to {MAIN}, equal area {area}, {first}"
            parts.append(folded(heading, table))
    return parts


def folded(heading: str, text: str) -> str:
    """Markdown that is shown when its heading is clicked."""
    return f"<details><summary>{heading}</summary>\n\n{text}\n</details>\n"


def differences(tests: pd.DataFrame) -> str:
    """Mean differences of one table of tests, with their 95 % intervals."""
    columns = compared_metrics()
    by_cell = {(row.method, row.metric): row for row in tests.itertuples()}
    lines = []
    for method in tests.method.unique():
        cells = []
        for column in columns:
            row = by_cell.get((method, column.name))
            if row is None:
                cells.append("")
                continue
            mean, low, high = (
                tables.printed(float(value), column.digits)
                for value in (row.difference, row.low, row.high)
            )
            cells.append(f"{mean} [{low}, {high}] {tables.MARKS[row.verdict]}")
        lines.append([method, *cells])
    return markdown.table(["method", *(column.name for column in columns)], lines)


# --- in words -----------------------------------------------------------------------


def summary(tests: pd.DataFrame, condition: str, main: str = MAIN) -> str:
    """Where a method is ahead, tied and behind: sentences, and a table of counts.

    `tests` are of the method `main` with the others.
    """
    if tests.empty:
        return f"There is nothing to compare {main} with yet.\n"
    own = verdicts_of(tests, condition)
    parts = [sentences(own, f"With own masks, {condition}", main)]
    areas = [a for a in tests.area.unique() if a]
    if areas:
        area = main_area(areas)
        some = verdicts_of(tests, condition, area, BETTER)
        parts.append(sentences(some, f"At area {area}, {condition}", main))
    parts += [
        f"In every table: methods that {main} is ahead of / tied with / behind.\n",
        counts(tests, main),
    ]
    return "\n".join(part for part in parts if part)


def rivals(tests: pd.DataFrame, main: str = MAIN) -> pd.DataFrame:
    """Tests of other methods: neither keep-all nor other seeds of `main`."""
    seeded = tests.method.str.extract(SEEDED, expand=True)["method"]
    return tests[(tests.method != KEEP_ALL) & (seeded != main)]


def sentences(tests: pd.DataFrame, where: str, main: str = MAIN) -> str:
    """One line a metric: who is behind `main`, tied with it, ahead of it."""
    others = rivals(tests, main)
    if others.empty:
        return ""
    lines = [f"{where}, {main} is\n"]
    for column in compared_metrics():
        own = others[others.metric == column.name]
        text = f"- on {column.name} ahead of {(own.verdict == BEHIND).sum()} of "
        text += f"{len(own)} methods"
        for verdict, words in ((TIE, "tied with"), (AHEAD, "**behind**")):
            names = own[own.verdict == verdict].method
            if len(names):
                text += f"; {words} {listed(names)}"
        lines.append(text)
    kept = tests[(tests.method == KEEP_ALL) & (tests.verdict == AHEAD)].metric
    if len(kept):
        lines.append(
            f"\n{KEEP_ALL}, which explains nothing, is ahead of it on {listed(kept)}."
        )
    return "\n".join(lines) + "\n"


def listed(names: Iterable[str]) -> str:
    """Names in a sentence: ``a, b and c``."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def counts(tests: pd.DataFrame, main: str = MAIN) -> str:
    """Numbers of methods that `main` is ahead of / tied with / behind, by table."""
    columns, others = compared_metrics(), rivals(tests, main)
    others = others[others["map"].isin(["", BETTER])]
    lines = []
    places = others[["condition", "area"]].drop_duplicates()
    for condition, area in places.sort_values(
        "condition", key=lambda c: c.map(list(c.unique()).index), kind="stable"
    ).itertuples(index=False):
        rows = others[(others.condition == condition) & (others.area == area)]
        cells = []
        for column in columns:
            found = rows[rows.metric == column.name].verdict.value_counts()
            three = [found.get(name, 0) for name in (BEHIND, TIE, AHEAD)]
            cells.append(" / ".join(map(str, three)))
        scoring = f"equal area {area}" if area else "own masks"
        lines.append([condition, scoring, *cells])
    names = [column.name for column in columns]
    return markdown.table(["condition", "scoring", *names], lines)


# --- what some folders have ---------------------------------------------------------


def _more(folder: Path, facts: Mapping[str, Any]) -> list[str]:
    """Seeds, known sources, curves, classes left out, and training data."""
    parts = []
    if (path := folder / "seeds.csv").is_file():
        columns = [*compared_metrics(), METRICS["MM"]]
        parts += ["### Over seeds\n", seeds_page(read_csv(path), columns)]
    if (path := folder / "left_out.csv").is_file():
        parts += ["### Classes left out\n", left_out_page(read_csv(path))]
    if (path := folder / "localisation.csv").is_file():
        for arrangement, rows in read_csv(path).groupby("condition", sort=False):
            table = means_table(rows, list(localisation_columns().values()))
            parts.append(folded(f"Known sources: {arrangement}", table))
    if (path := folder / "areas.csv").is_file():
        table = means_table(read_csv(path), AREAS)
        parts.append(folded("Areas under insertion and deletion curves, clean", table))
    if "training" in facts:
        parts += ["### Trained on what is tested?\n", str(facts["training"])]
    return parts


def means_table(means: pd.DataFrame, columns: Sequence[Column]) -> str:
    """Markdown of a CSV with a row a method; columns without any value left out."""
    known = [c for c in columns if c.name in means and means[c.name].notna().any()]
    return tables.markdown_table(means, known, intervals=False)


def left_out_page(table: pd.DataFrame) -> str:
    """Clean clips of classes that the decoder was not trained on, beside the others."""
    first = first_condition(list(table.condition))
    parts = []
    for classes, rows in table[table.condition == first].groupby("classes", sort=False):
        parts.append(f"Classes {classes}, {rows.n.max()} clips, {first}:\n")
        parts.append(means_table(rows, [*compared_metrics(), METRICS["MM"]]))
    return "\n".join([*parts, NOTE])


def _page_of(name: str) -> Reader:
    """Reader of a folder's Markdown file, whose heading is the default title."""

    def read(title: str, folder: Path) -> tuple[str, str]:
        text = (folder / name).read_text("utf-8")
        heading, _, rest = text.partition("\n")
        return title or heading.removeprefix("# "), rest.strip() + "\n"

    return read


def _frechet(title: str, folder: Path) -> tuple[str, str]:
    table = read_csv(folder / "frechet.csv")
    rows = [
        [
            f"{row.first}, {row.second}",
            f"{row.first_clips}, {row.second_clips}",
            f"{row.distance:.4f}",
            f"{row.extrapolated:.4f}",
        ]
        for row in table.itertuples()
    ]
    header = ["sets", "clips", "Frechet distance", "extrapolated"]
    text = markdown.table(header, rows) + (
        "\nOf CLAP embeddings (recipes/frechet.py). Distances of few clips are too "
        "large; the last column extrapolates to sets of unlimited size.\n"
    )
    return title or "Frechet audio distances", text


def _quality(title: str, folder: Path) -> tuple[str, str]:
    figures = json.loads((folder / "quality.json").read_text("utf-8"))
    rows = [[name, f"{value:.3f}"] for name, value in figures.items()]
    text = markdown.table(["measurement", "value"], rows) + (
        "\nBy recipes/quality.py; `lmaczs.evaluation.sanity_checks` explains them.\n"
    )
    return title or "Sanity checks of the decoder", text
