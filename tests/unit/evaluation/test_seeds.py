"""Mean and spread over trainings with several seeds."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from lmaczs.evaluation.seeds import over_seeds, seed_name, seeds_page
from lmaczs.metrics.metric import Column


@pytest.fixture
def results() -> pd.DataFrame:
    """Two methods of several seeds, one of one seed and one without, two conditions."""
    rows = [
        ("LMAC-ZS #1", "clean", 40.0, 0.25),
        ("LMAC-ZS #2", "clean", 46.0, 0.75),
        ("LMAC-ZS+ #7", "clean", 50.0, 0.5),
        ("LMAC-ZS+ #8", "clean", 50.0, 0.5),
        ("LMAC-ZS+ #9", "clean", 53.0, 0.8),
        ("L-MAC #1", "clean", 10.0, 0.1),
        ("energy", "clean", 30.0, 0.3),
        ("LMAC-ZS #1", "speech", 1.0, 0.0),
        ("LMAC-ZS #2", "speech", 3.0, 0.0),
    ]
    return pd.DataFrame(rows, columns=["method", "condition", "AI", "FF"])


def test_mean_and_standard_deviation_over_seeds(results: pd.DataFrame) -> None:
    """By hand; methods of one seed or without one are left out."""
    found = over_seeds(results, ["AI", "FF"]).set_index(["method", "condition"])
    keys = [("LMAC-ZS", "clean"), ("LMAC-ZS+", "clean"), ("LMAC-ZS", "speech")]
    assert list(found.index) == keys
    first, ours = found.loc[keys[0]], found.loc[keys[1]]
    assert (first.seeds, first.AI, first.FF) == (2, 43.0, 0.5)
    assert first.AI_sd == pytest.approx(math.sqrt(18))
    assert (ours.seeds, ours.AI) == (3, 51.0)
    assert ours.AI_sd == pytest.approx(math.sqrt(3))
    assert found.loc[keys[2]].FF_sd == 0


def test_without_seeds_there_is_no_row(results: pd.DataFrame) -> None:
    """A name with a number is not one with a seed."""
    plain = results.assign(method="L-MAC#2 of #1")
    assert over_seeds(plain.iloc[:1], ["AI"]).empty
    assert over_seeds(results[results.method == "energy"], ["AI"]).empty


def test_page_has_a_table_for_each_condition(results: pd.DataFrame) -> None:
    """Mean ± spread in the digits of each figure."""
    columns = [Column("AI", digits=1), Column("FF", digits=2)]
    page = seeds_page(over_seeds(results, ["AI", "FF"]), columns)
    assert "| clean | seeds | AI | FF |\n|--- | --- | --- | --- |\n" in page
    assert "| LMAC-ZS | 2 | 43.0 ± 4.2 | 0.50 ± 0.35 |\n" in page
    assert "| LMAC-ZS+ | 3 | 51.0 ± 1.7 | 0.60 ± 0.17 |\n" in page
    assert "| speech | seeds |" in page


def test_names_of_seeds_are_read_again(results: pd.DataFrame) -> None:
    """What `seed_name` writes is grouped, whatever the method is called."""
    rows = [(seed_name("a #b", seed), "clean", float(seed), 0.0) for seed in (1, 3)]
    table = pd.DataFrame(rows, columns=results.columns)
    found = over_seeds(table, ["AI"])
    assert found.method.tolist() == ["a #b"]
    assert found.AI.tolist() == [2.0]
