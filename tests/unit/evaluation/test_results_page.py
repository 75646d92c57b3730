"""results_page.py: tables, verdicts in words, and what else some folders have."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmaczs.evaluation.comparisons import every_test, verdicts_of
from lmaczs.evaluation.equal_area import ALONE, SCORED, TIMES_POWER, WHOLE
from lmaczs.evaluation.explainers import KEEP_ALL, MAIN, REFINED
from lmaczs.evaluation.facts import machine_facts, read_facts, write_facts
from lmaczs.evaluation.results_page import (
    anchor,
    counts,
    differences,
    listed,
    machines_text,
    results_page,
    rivals,
    sentences,
)
from lmaczs.evaluation.run import write_results
from lmaczs.metrics.faithfulness import METRICS
from lmaczs.utils.errors import InputError

SHIFT = {"RISE": 1.0, MAIN: 0.0, "energy": 0.0, "Grad-CAM": -1.0, f"{MAIN} #2": 1.0}
CONDITIONS = ("clean", "speech")


def rows_of(method: str, shift: float, clips: int, more: dict[str, str]) -> list[dict]:
    """Rows of a method that is better by a shift in every metric."""
    rng = np.random.default_rng(len(method))
    rows = []
    for condition in CONDITIONS:
        for clip in range(clips):
            values = {
                name: (0 if method == MAIN else 0.1 * rng.normal())
                + (-shift if metric.better == "lower" else shift)
                for name, metric in METRICS.items()
            }
            first = {"condition": condition, "id": f"{clip:03}", "method": method}
            rows.append({**first, **more, **values, "seconds": 0.5})
    return rows


@pytest.fixture(scope="module")
def per_clip() -> pd.DataFrame:
    """RISE is better on every second clip, energy alike, Grad-CAM worse."""
    rows = [r for m, s in SHIFT.items() for r in rows_of(m, s, 40, {})]
    rows += rows_of(KEEP_ALL, 1.0, 40, {})
    table = pd.DataFrame(rows)
    unscaled = {f"{name}_unscaled": 0.0 for name in ("AI", "AD", "AG", "FF")}
    odd = (table.method == "RISE") & table.id.str.contains("[13579]$")
    return table[~odd].assign(**unscaled)


@pytest.fixture(scope="module")
def equal(per_clip: pd.DataFrame) -> pd.DataFrame:
    """The same at two areas, with maps alone and times power."""
    ranked = per_clip[per_clip.method != KEEP_ALL]
    kept = per_clip[per_clip.method == KEEP_ALL]
    parts = [
        ranked.assign(map=kind, area=area)
        for kind in (ALONE, TIMES_POWER)
        for area in ("0.2", "ours")
    ]
    return pd.concat([*parts, kept.assign(map=ALONE, area=WHOLE)], ignore_index=True)


@pytest.fixture(scope="module")
def folder(
    per_clip: pd.DataFrame,
    equal: pd.DataFrame,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A finished folder, as recipes/evaluate.py leaves it."""
    path = tmp_path_factory.mktemp("run")
    found = {"per_clip": per_clip, "equal_area_per_clip": equal}
    for name, table in found.items():
        table.to_csv(path / f"{name}.csv", index=False)
    write_results(found, "A title", path)
    facts = {
        "tested": "esc50",
        "seed": 7,
        "domain": "stft",
        "power_exponent": 0.25,
        "passes": {MAIN: 1, "RISE": 150},
        "training": "- tested: 40 clips\n",
        "options": ["--data_folder=ESC50", "--decoders={a: [b, c]}"],
        "seconds": 120.0,
    }
    write_facts(path, {**machine_facts(), **facts})
    return path


def test_seconds_are_of_one_machine() -> None:
    """The page says of which."""
    assert machines_text(["here"]) == "here"
    text = machines_text(["here", "there", "yonder"])
    assert text == "here (seconds are of it alone); there; yonder"


def section(page: str, heading: str) -> str:
    """Text of a section of level three."""
    return page.split(f"### {heading}\n")[1].split("\n### ")[0].split("\n## ")[0]


def test_page_says_who_is_ahead(folder: Path) -> None:
    """In words and in marks, with own masks and at equal area."""
    page = results_page([("ESC-50, a part", folder)])
    assert "- [ESC-50, a part](#esc-50-a-part)\n" in page
    words = section(page, "What the tests say")
    for start in ("With own masks, clean", "At area 0.2, clean"):
        lines = words.split(f"{start}, {MAIN} is\n")[1].strip().splitlines()[:5]
        assert lines == [
            f"- on {name} ahead of 1 of 3 methods; tied with energy; **behind** RISE"
            for name in SCORED
        ]
    assert f"{KEEP_ALL}, which explains nothing, is ahead of it on AI, AD, AG" in words
    assert "| speech | equal area ours | 1 / 1 / 1 |" in words
    table = section(page, "Own masks, clean")
    assert re.search(r"\| RISE \| 20 \| 150 \| 0\.500 \| \*\*1\.\d\*\* ▲ \|", table)
    assert re.search(r"\| Grad-CAM \| 40 \| 2 \| 0\.500 \| -1\.\d ▼ \|", table)
    assert re.search(
        r"\| Grad-CAM \| 40 \| alone \|", section(page, "Equal area 0.2, clean")
    )
    assert list(dict.fromkeys(re.findall(r"^\| (\S+) ", table, re.M)))[1] == MAIN


def test_page_says_when_where_and_how(folder: Path) -> None:
    """Date, cores, seed and versions; the command, with quotes; what was trained on."""
    page = results_page([("", folder)])
    assert "\n## ESC-50\n" in page
    assert "40 clips. Accuracy of the CLAP: clean" in page
    assert "Methods have 20 to 40 clips, see n." in page
    assert "2 minutes in all; seed 7; domain stft; lmaczs " in page
    assert "--data_folder=ESC50 --decoders='{a: [b, c]}'\n```" in page
    assert "- tested: 40 clips" in section(page, "Trained on what is tested?")


def test_page_says_how_maps_were_multiplied(folder: Path, tmp_path: Path) -> None:
    """By the exponents of the runs that have one; other folders have none."""
    (tmp_path / "randomisation.md").write_text("# Cascade\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "per_clip.csv").write_bytes(
        (folder / "per_clip.csv").read_bytes()
    )
    facts = read_facts(folder)
    write_facts(tmp_path / "other", {**facts, "power_exponent": 0.5})
    folders = [("", tmp_path / "other"), ("", tmp_path)]
    assert "to the exponent 0.5, since" in results_page(folders)
    every = results_page([("", folder), *folders])
    assert "to the exponent 0.25 and 0.5, since" in every
    assert "to the exponent of the run, since" in results_page(folders[1:])


def test_page_is_readable(folder: Path) -> None:
    """Few lines, balanced folds, every row of a table as wide as its header."""
    page = results_page([("One", folder), ("Two", folder)])
    assert page.count("<details>") == page.count("</details>") > 4
    assert len(page.splitlines()) < 400
    for table in re.findall(r"(?:^\|.*\n)+", page, re.M):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "nan" not in page
    assert "\n\n\n" not in page


def test_unfinished_folder_has_a_page(per_clip: pd.DataFrame, tmp_path: Path) -> None:
    """One with some rows of per_clip.csv, even of LMAC-ZS+ alone."""
    some = per_clip[per_clip.condition == "speech"]
    some.to_csv(tmp_path / "per_clip.csv", index=False)
    page = results_page([("Part", tmp_path)])
    assert "With own masks, speech" in page
    assert "no facts.json" in page
    some[some.method == MAIN].to_csv(tmp_path / "per_clip.csv", index=False)
    alone = results_page([("Part", tmp_path)])
    assert f"There is nothing to compare {MAIN} with yet" in alone


def test_other_folders_have_sections(folder: Path, tmp_path: Path) -> None:
    """Randomisation, robustness, Frechet distances, sanity checks, where they are."""
    (tmp_path / "randomisation.md").write_text("# Cascade\n\nThe claim.\n")
    (tmp_path / "robustness.md").write_text("# Attack?\n\nNo.\n")
    row = {"first": "a", "second": "b", "first_clips": 3, "second_clips": 4}
    distances = pd.DataFrame([{**row, "distance": 0.5, "extrapolated": 0.25}])
    distances.to_csv(tmp_path / "frechet.csv", index=False)
    (tmp_path / "quality.json").write_text(json.dumps({"true_pair": 0.73}))
    page = results_page([("", folder), ("", tmp_path)])
    assert "\n## Cascade\n\nThe claim.\n" in page
    assert "\n## Attack?\n\nNo.\n" in page
    assert "| a, b | 3, 4 | 0.5000 | 0.2500 |" in page
    assert "| true_pair | 0.730 |" in page


def test_seeds_and_left_out_classes(folder: Path, tmp_path: Path) -> None:
    """Of a folder that has them."""
    for name in ("per_clip.csv",):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    results = pd.read_csv(folder / "results.csv")
    columns = [name for name in METRICS]
    seeds = results[results.method == MAIN].assign(seeds=3)
    seeds = seeds.join(seeds[columns].add_suffix("_sd"))
    seeds.to_csv(tmp_path / "seeds.csv", index=False)
    left_out = results.assign(classes="left out")
    left_out.to_csv(tmp_path / "left_out.csv", index=False)
    page = results_page([("", tmp_path)])
    assert f"| {MAIN} | 3 | " in section(page, "Over seeds")
    assert "Classes left out, 40 clips, clean:" in section(page, "Classes left out")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    """The message names what was expected."""
    with pytest.raises(InputError, match="holds none of per_clip.csv"):
        results_page([("", tmp_path)])


def test_rivals_are_other_methods(per_clip: pd.DataFrame) -> None:
    """Keep-all and other seeds of LMAC-ZS+ are not counted."""
    tests = every_test(per_clip)
    assert set(rivals(tests).method) == {"RISE", "energy", "Grad-CAM"}
    assert "1 / 1 / 1" in counts(tests)
    assert sentences(tests[tests.method == KEEP_ALL], "Here") == ""


def test_refined_masks_are_compared_with_all(per_clip: pd.DataFrame) -> None:
    """LMAC-ZS+ is then one of the others, and so are its seeds."""
    rows = per_clip.assign(method=per_clip.method.replace({"RISE": REFINED}))
    tests = every_test(rows, main=REFINED)
    assert set(tests.method) == set(rows.method) - {REFINED}
    others = rivals(tests, REFINED)
    assert set(others.method) == {MAIN, f"{MAIN} #2", "energy", "Grad-CAM"}
    text = sentences(verdicts_of(tests, "clean"), "Here", REFINED)
    assert text.startswith(f"Here, {REFINED} is\n\n- on AI ahead of 3 of 4 methods")
    assert f"tied with {MAIN} #2" in text  # both are better by the same
    assert "3 / 1 / 0" in counts(tests, REFINED)


def test_differences_have_intervals(per_clip: pd.DataFrame) -> None:
    """A cell has the mean difference, its interval and its mark."""
    tests = verdicts_of(every_test(per_clip), "clean")
    row = tests[(tests.method == "RISE") & (tests.metric == "AG")].iloc[0]
    cell = f"{row.difference:.1f} [{row.low:.1f}, {row.high:.1f}] ▲"
    assert cell in differences(tests)
    fewer = tests[(tests.method != "RISE") | (tests.metric != "AG")]
    assert "▲ |  | " in differences(fewer)


def test_words() -> None:
    """Lists in sentences, and GitHub's anchors."""
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert anchor("UrbanSound8K, fold 2 (reported)") == "urbansound8k-fold-2-reported"
