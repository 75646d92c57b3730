"""markdown.py: tables of cells."""

from __future__ import annotations

from lmaczs.report.markdown import table


def test_a_table_has_a_rule_below_its_header() -> None:
    """As many rules as columns, then the rows; there may be none."""
    expected = "| a | b |\n|--- | --- |\n| 1 |  |\n| 2 | 3 |\n"
    assert table(["a", "b"], [["1", ""], ["2", "3"]]) == expected
    assert table(["a"], []) == "| a |\n|--- |\n"
