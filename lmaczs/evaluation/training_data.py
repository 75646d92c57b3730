"""What a CLAP and decoders were trained on, by their cards, beside what is tested."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lmaczs.hub import local_folder, patiently
from lmaczs.utils.ending import sentence_of
from lmaczs.utils.errors import InputError
from lmaczs.utils.plain_files import read_plain

CARD = "README.md"
MOST_BYTES = 1 << 18
"""Of a card: fifty times an export's."""

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
    there = (folder / CARD).is_file()
    return read_plain(folder, CARD, MOST_BYTES) if there else ""


def _card_of_hub(name: str) -> str:
    """Card of a Hub id; empty where it has none or cannot be reached."""
    from huggingface_hub import hf_hub_download

    try:
        path = Path(patiently(lambda: hf_hub_download(name, CARD)))
    except OSError:  # the Hub's errors are OSErrors
        return ""
    return read_plain(path.parent, CARD, MOST_BYTES)


def training_values(card: str) -> dict[str, Any]:
    """Values of the training in the card of a decoder; empty without them.

    `InputError` if they cannot be read, whoever wrote them.
    """
    found = re.search(r"^```yaml\n(.*?)^```", card, re.DOTALL | re.MULTILINE)
    try:
        values = yaml.load(found[1], Loader=_WithoutAliases) if found else {}
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:
        raise InputError(
            f"the values of the training in the README.md of a model cannot be read "
            f"({sentence_of(error)}): export it again"
        ) from error
    return values if isinstance(values, dict) else {}


class _WithoutAliases(yaml.SafeLoader):
    """Aliases may multiply: a hundred of them are more text than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("there is an alias")
        return super().compose_node(parent, index)


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
