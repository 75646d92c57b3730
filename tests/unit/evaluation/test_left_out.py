"""Results apart for classes that a decoder was not trained on."""

from __future__ import annotations

import pandas as pd
import pytest

from lmaczs.evaluation.explainers import KEEP_ALL, MAIN
from lmaczs.evaluation.left_out import (
    left_out_results,
    left_out_section,
    left_out_table,
    require_labels,
    with_classes,
)
from lmaczs.evaluation.tables import summarise
from lmaczs.metrics.faithfulness import METRICS
from lmaczs.utils.errors import InputError

CLIPS = pd.DataFrame(
    {"id": ["001", "2", "3", "4"], "label": ["dog", "dog", "rain", "wind"]}
)


@pytest.fixture
def per_clip() -> pd.DataFrame:
    """Three methods on four clips under two conditions; figures by place."""
    rows = [
        {"condition": condition, "id": name, "method": method}
        for condition in ("clean", "speech")
        for name in CLIPS.id
        for method in (MAIN, "Grad-CAM", "energy", KEEP_ALL)
    ]
    figures = {
        name: range(place, place + len(rows)) for place, name in enumerate(METRICS)
    }
    return pd.DataFrame(rows).assign(**figures, seconds=0.1)


def test_means_of_both_kinds_of_classes(per_clip: pd.DataFrame) -> None:
    """Of each condition and method, those of the clips of these classes alone."""
    rows = with_classes(per_clip, CLIPS, ["dog", "wind"])
    table = left_out_table(rows).set_index(["condition", "method", "classes"])
    assert len(table) == 2 * 4 * 2
    for classes, ids in (("left out", ["001", "2", "4"]), ("trained on", ["3"])):
        own = summarise(per_clip[per_clip.id.isin(ids)])
        for row in own.to_dict("records"):
            found = table.loc[row["condition"], row["method"], classes]
            assert found["n"] == row["n"] == len(ids)
            assert found[list(METRICS)].tolist() == [row[name] for name in METRICS]


def test_section_names_classes_and_methods_without_a_model(
    per_clip: pd.DataFrame,
) -> None:
    """Numbers of clips; decoders and model-free methods, no gradient method."""
    page = left_out_section(with_classes(per_clip, CLIPS, ["dog", "wind"]))
    assert "**clean, classes left out**: 3 clips of 2 classes (dog 2, wind 1)" in page
    assert "**speech, classes trained on**: 1 clips of 1 classes\n" in page
    for method in (MAIN, "energy", KEEP_ALL):
        assert page.count(f"| {method} |") == 4
    assert "Grad-CAM" not in page


def test_without_such_classes_there_is_nothing(per_clip: pd.DataFrame) -> None:
    """Neither a table nor a section; with them there are both."""
    assert left_out_results(per_clip, CLIPS, []) == ({}, {})
    tables, sections = left_out_results(per_clip, CLIPS, ["rain"])
    assert list(tables) == ["left_out"]
    assert list(sections) == ["Classes that the decoder was not trained on"]


def test_labels_that_no_clip_has_are_refused() -> None:
    """The nearest one is named."""
    require_labels(["dog"], ["dog", "rain"])
    with pytest.raises(InputError, match="left_out names 'dgo'.*did you mean 'dog'"):
        require_labels(["rain", "dgo"], ["dog", "rain"])
