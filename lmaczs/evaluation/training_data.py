"""What a CLAP and decoders were trained on, by their cards, beside what is tested."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lmaczs.hub import local_folder, patiently

TRAINED_BY = r"Trained with `recipes/train\.py` of lmaczs \S+ and `(.+?)`"
NOT_STATED = "its card does not say"
NAMED = ("split", "train_folds", "valid_folds", "test_folds", "train_fraction")
NOTE = (
    "Where a model was trained on the set that is tested, it knows its kinds of sounds "
    "and recordings from other clips: its figures for other sounds may be lower."
)


def card_of(source: str | Path) -> str:
    """README.md of a model, in its folder or of its Hub id; empty without one."""
    folder = local_folder(source)
    if folder is None:
        return _card_of_hub(str(source))
    path = folder / "README.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _card_of_hub(name: str) -> str:
    """Card of a Hub id; empty where it has none or cannot be reached."""
    from huggingface_hub import hf_hub_download

    try:
        path = patiently(lambda: hf_hub_download(name, "README.md"))
    except OSError:  # the Hub's errors are OSErrors
        return ""
    return Path(path).read_text(encoding="utf-8")


def training_values(card: str) -> dict[str, Any]:
    """Values of the training in the card of a decoder; empty without them."""
    found = re.search(r"^```yaml\n(.*?)^```", card, re.DOTALL | re.MULTILINE)
    values = yaml.safe_load(found[1]) if found else {}
    return values if isinstance(values, dict) else {}


def left_out_labels(card: str) -> list[str]:
    """Labels that a decoder was not trained on, by its card."""
    return [str(label) for label in training_values(card).get("leave_out") or ()]


def decoder_data(card: str) -> str:
    """What a decoder was trained on, in a phrase."""
    recipe = re.search(TRAINED_BY, card)
    values = training_values(card)
    parts = [f"`{recipe[1]}`"] if recipe else []
    parts += [f"{key} {values[key]}" for key in NAMED if key in values]
    if left_out := left_out_labels(card):
        parts.append(f"without {', '.join(left_out)}")
    return ", ".join(parts) or NOT_STATED


def clap_data(card: str) -> str:
    """What a CLAP was trained on: the first paragraph under Data of its card."""
    found = re.search(r"^## Data\n+(.+?)(?:\n\n|\Z)", card, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()) if found else NOT_STATED


def training_section(
    clips: pd.DataFrame, tested: str, clap: str, decoders: Mapping[str, str]
) -> str:
    """Markdown that names what is tested and what each model was trained on.

    Parameters
    ----------
    clips : DataFrame
        label of the clips that are tested.
    tested : str
        Where they are from.
    clap : str
        Card of the CLAP.
    decoders : mapping of str to str
        Cards of the decoders by the names of their rows.

    Returns
    -------
    str
    """
    lines = [
        f"- tested: {len(clips)} clips of {clips.label.nunique()} labels, {tested}",
        f"- CLAP: {clap_data(clap)}",
        *(f"- {name}: {decoder_data(card)}" for name, card in decoders.items()),
    ]
    return "\n".join([*lines, "", NOTE, ""])
