"""tables.py: means, how sure they are, and which of them a paper prints in bold."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from lmaczs.evaluation.explainers import KEEP_ALL, MAIN
from lmaczs.evaluation.insertion_deletion import AREAS
from lmaczs.evaluation.source_mixtures import localisation_columns
from lmaczs.evaluation.statistics import compare
from lmaczs.evaluation.tables import (
    SECONDS,
    interval,
    joined_table,
    markdown_table,
    printed_metrics,
    results_columns,
    results_page,
    summarise,
)
from lmaczs.metrics.faithfulness import METRICS
from lmaczs.metrics.metric import Column, Metric

EVERY = [*METRICS.values(), *localisation_columns().values(), *AREAS, SECONDS]
DIRECTED = [column for column in EVERY if column.better]

CONDITIONS = ("white noise", "clean")
NAMES = (MAIN, "energy", KEEP_ALL)


def per_clip(clips: int = 5) -> pd.DataFrame:
    """Make rows of two conditions and three methods, batch by batch."""
    rng = np.random.default_rng(0)
    rows = []
    for condition in CONDITIONS:
        for start in range(0, clips, 2):
            for method in NAMES:
                for clip in range(start, min(start + 2, clips)):
                    values = dict(zip(METRICS, rng.random(len(METRICS)), strict=True))
                    values["accuracy"] = float((clip + len(condition)) % 3 == 0)
                    first = {"condition": condition, "id": f"{clip:03}"}
                    seconds = rng.random()
                    rows.append({**first, "method": method, **values})
                    rows[-1]["seconds"] = seconds
    return pd.DataFrame(rows)


def constant(column: str, means: dict[str, float]) -> pd.DataFrame:
    """Make two equal rows a method."""
    rows = [(method, value) for method, value in means.items() for _ in range(2)]
    return pd.DataFrame(rows, columns=["method", column])


def bold(table: str, column: int = 1) -> set[str]:
    """Methods whose mean is in bold, and nothing else of the cell."""
    found = set()
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if re.fullmatch(r"\*\*-?[0-9.]+\*\* \[.*\]", cells[column]):
            found.add(cells[0])
        else:
            assert "*" not in cells[column]
    return found


# --- means --------------------------------------------------------------------------


def test_summary_is_the_mean() -> None:
    """A row a condition and method, as they come, with the mean of every figure."""
    rows = per_clip()
    found = summarise(rows)
    assert list(found) == results_columns()
    assert (
        results_columns()
        == (
            "method condition n accuracy AI AD AD_sb AG FF Fid-In SPS COMP MM "
            "seconds_per_clip"
        ).split()
    )
    order = [(c, m) for c in CONDITIONS for m in NAMES]
    assert list(zip(found.condition, found.method, strict=True)) == order
    for row, (condition, method) in zip(found.to_dict("records"), order, strict=True):
        own = [
            clip
            for clip in rows.to_dict("records")
            if (clip["condition"], clip["method"]) == (condition, method)
        ]
        assert row["n"] == len(own) == 5
        for name in METRICS:
            expected = sum(clip[name] for clip in own) / len(own)
            assert row[name] == pytest.approx(expected)
        seconds = sum(clip["seconds"] for clip in own) / len(own)
        assert row["seconds_per_clip"] == pytest.approx(seconds)


# --- intervals ----------------------------------------------------------------------


def test_intervals_equal_slow_resampling() -> None:
    """The middle 95 % of means of what is drawn with replacement."""
    values = np.random.default_rng(0).exponential(size=40)
    rng = np.random.default_rng(1)
    means = sorted(
        float(np.mean([values[i] for i in rng.integers(0, 40, 40)]))
        for _ in range(4000)
    )
    low, high = interval(values)
    width = means[3900] - means[100]
    assert low == pytest.approx(means[100], abs=0.06 * width)
    assert high == pytest.approx(means[3900], abs=0.06 * width)
    assert low < values.mean() < high


def test_intervals_can_be_repeated() -> None:
    """The seed alone decides what is drawn."""
    values = np.random.default_rng(0).normal(size=30).tolist()
    found = interval(values)
    np.random.seed(0)
    assert interval(values) == found
    assert interval(values, seed=0) == found != interval(values, seed=1)
    assert all(type(end) is float for end in found)


def test_intervals_narrow_with_clips() -> None:
    """Nine times as many clips tell the mean three times as well."""
    values = np.random.default_rng(0).normal(size=40)
    few, many = interval(values), interval(np.tile(values, 9))
    ratio = (few[1] - few[0]) / (many[1] - many[0])
    assert ratio == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("values", [[0.25, 0.25, 0.25], [-3.5], [0, 0]])
def test_intervals_of_what_does_not_vary(values: list[float]) -> None:
    """Equal values, or a single one, have their mean twice."""
    assert interval(values) == (values[0], values[0])


# --- Markdown -----------------------------------------------------------------------


def test_table_is_markdown() -> None:
    """A header with arrows, a line a method, means with their intervals."""
    rows = pd.DataFrame(
        {
            "method": ["a", "b", KEEP_ALL] * 2,
            "AI": [50.0, 20.0, 0.0] * 2,
            "deletion": [0.25, 0.125, 0.0] * 2,
            "MM": [0.5, 0.75, 1.0] * 2,
        }
    )
    columns = [
        Column("AI", better="higher"),
        Column("deletion", better="lower", digits=3),
        Column("MM"),
    ]
    table = markdown_table(rows, columns)
    header, rule, *lines = table.splitlines()
    assert table.endswith("|\n")
    assert header == "| method | AI ↑ | deletion ↓ | MM |"
    assert rule.replace(" ", "") == "|---|---|---|---|"
    assert lines == [
        "| a | **50.00** [50.00, 50.00] | 0.250 [0.250, 0.250] | 0.50 [0.50, 0.50] |",
        "| b | 20.00 [20.00, 20.00] | **0.125** [0.125, 0.125] | 0.75 [0.75, 0.75] |",
        "| keep-all | 0.00 [0.00, 0.00] | 0.000 [0.000, 0.000] | 1.00 [1.00, 1.00] |",
    ]


def test_cells_hold_mean_and_interval() -> None:
    """The interval is that of the method's own values."""
    rng = np.random.default_rng(0)
    values = {"a": rng.normal(size=30), "b": 5 + rng.normal(size=20)}
    rows = [(method, value) for method, some in values.items() for value in some]
    rows = pd.DataFrame(rows, columns=["method", "x"]).sample(frac=1, random_state=0)
    table = markdown_table(rows, [Column("x", digits=1)])
    for method, some in values.items():
        low, high = interval(rows[rows.method == method].x)
        assert f"| {method} | {some.mean():.1f} [{low:.1f}, {high:.1f}] |\n" in table


@pytest.mark.parametrize("column", DIRECTED, ids=lambda column: column.name)
def test_the_best_is_bold(column: Column) -> None:
    """The highest or the lowest, by the metric's direction, which the header tells."""
    means = {"a": 0.2, "b": 0.9, "c": 0.4, "d": -0.3}
    table = markdown_table(constant(column.name, means), [column])
    assert bold(table) == {"b" if column.better == "higher" else "d"}
    arrow = "↑" if column.better == "higher" else "↓"
    assert table.startswith(f"| method | {column.name} {arrow} |\n")


def test_directions() -> None:
    """Every metric that is no mere description has the direction of its definition."""
    lower = {"AD", "AD_sb", "COMP", "deletion", "seconds"}
    assert {column.name for column in EVERY if column.better == "lower"} == lower
    undirected = {column.name for column in EVERY if column.better is None}
    assert undirected == {"accuracy", "MM"}


@pytest.mark.parametrize("name", ["AI", "AD"])
def test_keeping_everything_is_never_bold(name: str) -> None:
    """It is no competitor, neither as the best nor as the only one."""
    column = METRICS[name]
    best = 9.0 if column.better == "higher" else -9.0
    means = {"a": 0.2, KEEP_ALL: best, "b": 0.2 + best / 9}
    assert bold(markdown_table(constant(name, means), [column])) == {"b"}
    assert bold(markdown_table(constant(name, {KEEP_ALL: 1.0}), [column])) == set()


@pytest.mark.parametrize(("digits", "best"), [(1, {"a", "b"}), (2, {"b"})])
@pytest.mark.parametrize("sign", [1, -1])
def test_ties_are_all_bold(digits: int, best: set[str], sign: int) -> None:
    """Who prints the same as the best is in bold, too, but for keeping everything."""
    column = Column("x", better="higher" if sign > 0 else "lower", digits=digits)
    means = {"a": 0.32, KEEP_ALL: 0.34, "b": 0.34, "c": 0.11}
    rows = constant("x", {name: sign * mean for name, mean in means.items()})
    assert bold(markdown_table(rows, [column])) == best


def test_no_best_without_a_direction() -> None:
    """A mean mask is neither good nor bad."""
    table = markdown_table(constant("MM", {"a": 0.1, "b": 0.8}), [METRICS["MM"]])
    assert table.startswith("| method | MM |\n")
    assert bold(table) == set()


def test_missing_values_are_blank() -> None:
    """A method without a value has an empty cell; of the others it changes nothing."""
    rows = pd.DataFrame(
        {
            "method": ["a", "a", "b", "b", "c", "c"],
            "AI": [np.nan, np.nan, 1.0, np.nan, 0.5, 0.5],
            "FF": [0.75, 0.75, 0.5, 0.5, np.nan, np.nan],
        }
    )
    columns = [Column("AI", better="higher"), Column("FF", better="higher")]
    assert markdown_table(rows, columns).splitlines()[2:] == [
        "| a |  | **0.75** [0.75, 0.75] |",
        "| b | **1.00** [1.00, 1.00] | 0.50 [0.50, 0.50] |",
        "| c | 0.50 [0.50, 0.50] |  |",
    ]
    nobody = markdown_table(rows.assign(AI=np.nan), columns[:1])
    assert nobody.splitlines()[2:] == ["| a |  |", "| b |  |", "| c |  |"]


def two_metrics() -> tuple[pd.DataFrame, list[Column], pd.DataFrame]:
    """Rows of ours, a better, a worse and an equal method; their columns and tests."""
    rows = pd.DataFrame(
        [
            {"id": f"{clip}", "method": name, "AI": value + clip / 100, "AD": value}
            for name, value in {MAIN: 5.0, "up": 6.0, "down": 4.0, "same": 5.0}.items()
            for clip in range(20)
        ]
    )
    columns = [Column("AI", better="higher", digits=1), Column("AD", better="lower")]
    return rows, columns, compare(rows, columns, MAIN)


def test_marks_say_who_is_better_than_ours() -> None:
    """By the test, in the metric's direction; ours has no mark."""
    rows, columns, tests = two_metrics()
    table = markdown_table(rows, columns, tests, intervals=False)
    assert table.splitlines()[2:] == [
        f"| {MAIN} | 5.1 | 5.00 |",
        "| up | **6.1** ▲ | 6.00 ▼ |",
        "| down | 4.1 ▼ | **4.00** ▲ |",
        "| same | 5.1 = | 5.00 = |",
    ]
    with_intervals = markdown_table(rows, columns[1:], tests)
    assert "| up | 6.00 [6.00, 6.00] ▼ |" in with_intervals


def test_ties_with_the_best_are_bold() -> None:
    """Who is not told apart from the best is as bold, though its mean prints lower."""
    rows, columns, _ = two_metrics()
    rows.loc[rows.method == "same", "AI"] += np.tile([1.2, -0.8], 10)
    rows = rows[rows.method != "up"]
    tests = compare(rows, columns, MAIN)
    table = markdown_table(rows, columns[:1], tests, intervals=False)
    assert table.splitlines()[2:] == [
        f"| {MAIN} | **5.1** |",
        "| down | 4.1 ▼ |",
        "| same | **5.3** = |",
    ]


def test_further_columns_stand_before_the_metrics() -> None:
    """A method without an entry has a blank cell."""
    rows, columns, _ = two_metrics()
    more = {"n": {MAIN: 20, "up": 3}}
    lines = markdown_table(rows, columns[:1], intervals=False, more=more).splitlines()
    assert lines[0] == "| method | n | AI ↑ |"
    assert lines[1].count("|") == 4
    assert lines[3] == "| up | 3 | **6.1** |"
    assert lines[4] == "| down |  | 4.1 |"


def test_tables_are_joined_cell_by_cell() -> None:
    """Each cell has the means of all tables with their marks; - where none is."""
    rows, columns, tests = two_metrics()
    fewer = rows[rows.method != "down"]
    table = joined_table(
        [(rows, tests), (fewer, compare(fewer, columns, MAIN))], columns
    )
    assert table.splitlines() == [
        "| method | AI ↑ | AD ↓ |",
        "|--- | --- | --- |",
        f"| {MAIN} | 5.1 · 5.1 | 5.00 · 5.00 |",
        "| up | 6.1▲ · 6.1▲ | 6.00▼ · 6.00▼ |",
        "| down | 4.1▼ · - | 4.00▲ · - |",
        "| same | 5.1= · 5.1= | 5.00= · 5.00= |",
    ]


# --- the page -----------------------------------------------------------------------


def test_page_has_a_section_a_condition() -> None:
    """In the order of the rows: clips, accuracy and the methods' figures."""
    rows = per_clip()
    page = results_page(rows, "Faithfulness in the stft domain")
    assert page.startswith("# Faithfulness in the stft domain\n\n## white noise\n\n")
    assert re.findall("^## (.*)$", page, re.M) == list(CONDITIONS)
    for condition, section in zip(CONDITIONS, page.split("\n## ")[1:], strict=True):
        right = [(clip + len(condition)) % 3 == 0 for clip in range(5)]
        accuracy = sum(right) / 5
        assert section.startswith(
            f"{condition}\n\n5 clips, accuracy {accuracy:.3f}\n\n"
        )
        header, _, *lines = [x for x in section.splitlines() if x.startswith("|")]
        named = [cell.split()[0] for cell in header.split("|")[1:-1]]
        printed = [column.name for column in printed_metrics()]
        assert printed == "AI AD AG FF Fid-In SPS COMP MM seconds".split()
        assert named == ["method", *printed]
        assert [line.split("|")[1].strip() for line in lines] == list(NAMES)
        for line, method in zip(lines, NAMES, strict=True):
            own = rows[(rows.condition == condition) & (rows.method == method)]
            cells = [cell.strip(" *") for cell in line.split("|")[2:-1]]
            for cell, name in zip(cells, printed, strict=True):
                digits = len(cell.split("[")[0].strip(" *").partition(".")[2])
                assert cell.startswith(f"{own[name].mean():.{digits}f}")
                assert digits >= 1


def test_page_ends_with_more_sections() -> None:
    """Further sections follow those of the conditions, then what the figures are."""
    more = {"Known sources: sum": "| a |\n", "Curves": "| b |\n"}
    page = results_page(per_clip(), "T", more)
    assert re.findall("^## (.*)$", page, re.M) == [*CONDITIONS, *more]
    assert page.endswith(
        "## Known sources: sum\n\n| a |\n\n## Curves\n\n| b |\n\n"
        "Means over clips with their 95 % bootstrap interval; the best method in bold, "
        "keep-all aside. LMAC-ZS+ is LMAC-ZS with an objective and a decoder of ours. "
        "Probabilities are a softmax over cosines times the checkpoint's logit scale, "
        "which eq. 9 of the paper does not write; AD, AG and FF depend on it.\n"
    )


def test_page_is_repeatable() -> None:
    """The same rows make the same page."""
    assert results_page(per_clip(), "T") == results_page(per_clip(), "T")


def test_a_metric_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added to the registry is a column of results.csv and of the page."""
    toy = Metric("toy", lambda batch: batch.o, better="lower", digits=4)
    monkeypatch.setitem(METRICS, "toy", toy)
    rows = per_clip()
    assert list(summarise(rows))[-2:] == ["toy", "seconds_per_clip"]
    page = results_page(rows, "T")
    assert "| MM | toy ↓ | seconds ↓ |" in page
    means = rows[rows.condition == "clean"].groupby("method").toy.mean()
    best = means.drop(KEEP_ALL).min()
    assert f"| **{best:.4f}** [" in page
