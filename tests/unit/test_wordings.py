"""Tables of wordings."""

from __future__ import annotations

import math

import pytest
import torch

from lmaczs.vocabulary import Reading
from lmaczs.wordings import labelled_table, reading_table, single_table

PROMPTS = ["dog", "a dog", "hound"]


def test_single_recordings_are_ranked_one_by_one() -> None:
    """By presence, then similarity; a recording given twice has its rows twice."""
    presence = torch.tensor([[0.5, 0.5, 0.9], [0.2, 0.1, math.nan]])
    similarity = torch.tensor([[0.1, 0.3, 0.2], [0.0, 0.9, 0.0]])
    table = single_table(["a", "a"], PROMPTS, similarity, presence)
    assert table.prompt.tolist() == ["hound", "a dog", "dog", "dog", "a dog", "hound"]
    assert table["rank"].tolist() == [1, 2, 3, 1, 2, 3]
    assert table.similarity.tolist() == pytest.approx([0.2, 0.3, 0.1, 0, 0.9, 0])


def test_labelled_clips_rank_by_what_tells_them_apart() -> None:
    """Not by the level of similarities or presences."""
    present = torch.tensor([True, False, True, False])
    similarity = torch.tensor(
        [[0.9, 0.02, 0.5], [0.8, 0.01, 0.5], [0.7, 0.03, 0.5], [0.6, 0.0, 0.5]]
    )
    presence = torch.tensor([[0.9, 0.6, 0.5]] * 3 + [[math.nan, 0.2, 0.5]])
    table = labelled_table(PROMPTS, similarity, presence, present)
    assert table.prompt.tolist() == ["a dog", "dog", "hound"]
    assert table["rank"].tolist() == [1, 2, 3]
    assert table.auc.tolist() == pytest.approx([1, 0.75, 0.5])
    assert table.average_precision.tolist() == pytest.approx([1, (1 + 2 / 3) / 2, 0.5])
    assert table.presence.tolist() == pytest.approx([0.6, 0.9, 0.5])
    assert table.presence_elsewhere.tolist() == pytest.approx([0.4, 0.9, 0.5])
    assert set(table.clips) == set(table.others) == {2}


def test_wordings_of_one_embedding_are_named() -> None:
    """The first other one; agreement is the mean cosine with the others."""
    readings = [
        Reading(one, one, 3 + n, 4, one, ("犬",) * n, 1, ())
        for n, one in enumerate(PROMPTS)
    ]
    text = torch.tensor([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0]])
    table = reading_table(readings, text)
    assert table.same_as.tolist() == ["hound", "", "dog"]
    assert table.agreement.tolist() == pytest.approx([0.8, 0.6, 0.8])
    assert table.tokens.tolist() == [3, 4, 5] and table.cut.tolist() == [
        False,
        False,
        True,
    ]
    assert table.unread.tolist() == ["", "犬", "犬犬"]
    assert math.isnan(reading_table(readings[:1], text[:1]).agreement[0])
