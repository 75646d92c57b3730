"""audioset_labels.py: which classes of AudioSet belong to a label."""

from __future__ import annotations

import pytest

from lmaczs.data.audioset_labels import BY_HAND, audioset_names
from lmaczs.data.esc50 import ESC50_LABELS
from lmaczs.data.urbansound8k import URBANSOUND8K_LABELS
from lmaczs.presence import reference_names

NONE = {"mouse click", "can opening", "washing machine", "drinking sipping"}


def test_every_label_has_classes_but_those_that_are_listed() -> None:
    """Of both sets; names by hand are AudioSet's, and of labels of these sets."""
    labels = {*ESC50_LABELS, *URBANSOUND8K_LABELS}
    names = reference_names()
    assert {label for label in labels if not audioset_names(label, names)} == NONE
    assert {name for found in BY_HAND.values() for name in found} <= set(names)
    assert set(BY_HAND) <= labels


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ("dog", ["Dog"]),
        ("Dogs", ["Dog"]),
        ("church bells", ["Church bell"]),
        ("car horn", ["Vehicle horn, car horn, honking"]),
        ("rooster", ["Chicken, rooster"]),
        ("footsteps", ["Walk, footsteps"]),
        ("sea waves", ["Waves, surf", "Ocean"]),
        ("rain", ["Rain"]),
        ("a rainy day", []),
    ],
)
def test_the_rule(label: str, names: list[str]) -> None:
    """A whole name, else a synonym, in singular or plural; no part of one."""
    assert audioset_names(label, reference_names()) == names


def test_the_table_holds_no_label_that_the_rule_would_find(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without its entry such a label has no class."""
    for label in tuple(BY_HAND):
        monkeypatch.delitem(BY_HAND, label)
        assert not audioset_names(label, reference_names())


def test_classes_that_a_tagger_lacks_are_left_out() -> None:
    """Names are those of the model at hand."""
    assert audioset_names("cow", ["Moo", "Dog"]) == ["Moo"]
