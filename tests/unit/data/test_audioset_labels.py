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


def test_labels_without_a_name_by_hand_follow_the_rule() -> None:
    """The table holds none that the rule would find."""
    for label, names in BY_HAND.items():
        for name in names:
            parts = [part.strip().lower() for part in name.split(",")]
            assert label not in parts


def test_classes_that_a_tagger_lacks_are_left_out() -> None:
    """Names are those of the model at hand."""
    assert audioset_names("cow", ["Moo", "Dog"]) == ["Moo"]
