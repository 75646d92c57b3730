"""Which classes of AudioSet are a label of ESC-50, UrbanSound8K or another set.

By a rule: the class whose name is the label, in singular or plural ("sheep" is "Sheep",
"church bells" are "Church bell"), or else those of whose synonyms, which commas
separate, one is ("car horn" is "Vehicle horn, car horn, honking"). `BY_HAND` has labels
whose words AudioSet puts otherwise. Others have no class: for ESC-50's "mouse click",
"can opening", "washing machine" and "drinking sipping" AudioSet, as YAMNet scores it,
has none that fits.
"""

from __future__ import annotations

from collections.abc import Sequence

BY_HAND: dict[str, tuple[str, ...]] = {
    # ESC-50
    "cow": ("Moo", "Cattle, bovinae"),
    "hen": ("Cluck", "Chicken, rooster"),
    "sea waves": ("Waves, surf", "Ocean"),
    "crackling fire": ("Crackle", "Fire"),
    "chirping birds": (
        "Chirp, tweet",
        "Bird vocalization, bird call, bird song",
        "Bird",
    ),
    "water drops": ("Drip",),
    "pouring water": ("Pour",),
    "crying baby": ("Baby cry, infant cry",),
    "sneezing": ("Sneeze",),
    "coughing": ("Cough",),
    "laughing": ("Laughter",),
    "brushing teeth": ("Toothbrush",),
    "door wood knock": ("Knock",),
    "keyboard typing": ("Computer keyboard", "Typing"),
    "door wood creaks": ("Creak",),
    "clock alarm": ("Alarm clock",),
    "clock tick": ("Tick-tock", "Tick"),
    "glass breaking": ("Shatter",),
    "hand saw": ("Sawing",),
    # UrbanSound8K
    "air conditioner": ("Air conditioning",),
    "dog bark": ("Bark",),
    "drilling": ("Drill",),
    "engine idling": ("Idling",),
    "gun shot": ("Gunshot, gunfire",),
    "street music": ("Music",),
}
"""Names of AudioSet's classes for labels that the rule does not find."""


def audioset_names(label: str, class_names: Sequence[str]) -> list[str]:
    """Those of `class_names` that are a label; empty if there is none."""
    if label in BY_HAND:
        return [name for name in BY_HAND[label] if name in class_names]
    own = _singular(label)
    whole = [name for name in class_names if _singular(name) == own]
    return whole or [
        name for name in class_names if own in map(_singular, name.split(","))
    ]


def _singular(words: str) -> str:
    return words.strip().lower().removesuffix("s")
