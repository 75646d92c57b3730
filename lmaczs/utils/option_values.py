"""Values of a command line as the keys of a YAML mean them, not as YAML reads them.

YAML takes 2026-11-25 for a date, 1e3 for a number and " #1" for a comment. Here a value
is of the kind that its key has in the file: a text stays as it was typed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lmaczs.utils.errors import OptionError

NUMBERS = re.compile("num_threads|max_clips|(train|valid|test)_folds")
"""Keys that are null in a YAML, and are numbers where they are given."""

LISTS = re.compile(
    "methods|ids|left_out|figure_labels|equal_area_conditions|(train|valid|test)_folds"
)
"""Keys that are null in a YAML, and are lists where they are given."""

NULLABLE = re.compile("archive_(url|sha256)")
"""Keys that have a text in a YAML, and may be null."""

WHOLE = {
    **dict.fromkeys(("number_of_epochs", "num_workers", "seed"), 0),
    **dict.fromkeys(("negatives_per_clip", "choices", "composites_in_batch"), 0),
    **dict.fromkeys(("batch_size", "num_threads", "width", "buffer_clips"), 1),
    **dict.fromkeys(("examples_every", "valid_every", "slow_every"), 1),
}
"""Keys that are whole numbers, each with the least that it may be."""

FRACTIONS = re.compile(".*_prob|max_unreadable")
"""Keys between 0 and 1, both included."""

TAG = re.compile("!(new|name|apply|module|include):|!(ref|copy|tuple|PLACEHOLDER)")
"""How a value of HyperPyYAML begins that is no text."""

UNKNOWN = object()
"""Place of what the file does not have: a number is one, and a text is one."""

NONE = ("", "null", "Null", "NULL", "~")
FLAGS = {
    "true": True,
    "yes": True,
    "on": True,
    "false": False,
    "no": False,
    "off": False,
}
QUOTES = ("'", '"')


def override_of(key: str, text: str, tree: Mapping[str, Any]) -> str:
    """A line of YAML that gives a key the value that was typed.

    Parameters
    ----------
    key : str
        Of the YAML, or an unknown one.
    text : str
        As typed: a text, a number, true or false, or a list or mapping of YAML.
    tree : mapping
        The YAML, whose value of the key says what kind its values are.

    Returns
    -------
    str
        ``key: value``.

    Raises
    ------
    OptionError
        If the text is of another kind, or is no list or mapping although it begins as
        one.
    """
    place = _resolved(tree.get(key), tree)
    text = text.strip()
    if TAG.match(text):  # what it makes is of any kind
        return f"{key}: {text}"
    if isinstance(place, str) or not text.startswith(("[", "{")):
        value = _scalar(key, text, place)
    else:
        node = _node(key, text)
        if _has_tag(node):
            return f"{key}: {text}"
        value = _value(key, node, place)
    is_list = isinstance(place, list) or (place is None and LISTS.fullmatch(key))
    if value is None and isinstance(place, list):
        value = []
    if is_list and value is not None and not isinstance(value, list | dict):
        value = [value]
    return f"{key}: {_written(value)}"


def _resolved(place: Any, tree: Mapping[str, Any]) -> Any:
    """Value of the key that another one refers to; "" for a text that has one in it."""
    reference = str(getattr(place, "value", ""))
    found = re.fullmatch(r"<(\w+)>", reference)
    if found:
        return _resolved(tree.get(found[1]), tree)
    return "" if re.search(r"<\w+>/", reference) else place


def _node(key: str, text: str) -> Node:
    """A list, a mapping or a text in quotes."""
    try:
        return YAML().compose(text)
    except YAMLError as error:
        fix = "close every bracket and quote, and put a name with ',' into quotes"
        if comment := re.search(r"\s(#[^\s,\]}]*)", text):
            fix = f"'{comment[1]}' begins a comment in YAML: put the name into quotes"
        raise OptionError(f"--{key}={text} is no list or mapping: {fix}") from error


def _has_tag(node: Node) -> bool:
    if isinstance(node, ScalarNode):
        return not str(node.tag).startswith("tag:yaml.org")
    return any(_has_tag(one) for one in _inside(node))


def _inside(node: Node) -> Sequence[Node]:
    if isinstance(node, MappingNode):
        return [value for _, value in node.value]
    return node.value


def _value(key: str, node: Node, place: Any) -> Any:
    """What a node of YAML means where the file has a value like `place`."""
    if isinstance(node, SequenceNode):
        first = place[0] if isinstance(place, list) and place else None
        return [_value(key, one, first) for one in node.value]
    if isinstance(node, MappingNode):
        names = [(str(name.value), value) for name, value in node.value]
        return {name: _value(name, one, _part(place, name)) for name, one in names}
    plain = isinstance(node, ScalarNode) and not node.style
    return _scalar(key, node.value, place) if plain else str(node.value)


def _part(place: Any, name: str) -> Any:
    """What the file has for a key of a mapping, or in its mappings; else `UNKNOWN`.

    Of a single number, the number.
    """
    if not isinstance(place, Mapping):
        return place
    inside = [one for one in place.values() if isinstance(one, Mapping) and name in one]
    return place.get(name, inside[0][name] if inside else UNKNOWN)


def _scalar(key: str, text: str, place: Any) -> Any:
    if isinstance(place, str) or is_open(place):
        may_be_null = NULLABLE.fullmatch(key) and text in NONE
        return None if may_be_null else _text(key, text)
    if isinstance(place, list) and text not in NONE:
        return _scalar(key, text, place[0] if place else "")
    if text in NONE and not isinstance(place, bool | int | float):
        return None
    if isinstance(place, bool):
        if text.lower() not in FLAGS:
            raise OptionError(f"--{key}={text}: give true or false")
        return FLAGS[text.lower()]
    if isinstance(place, int | float) or NUMBERS.fullmatch(key):
        return _number(key, text, place)
    if place is None:
        return _text(key, text)
    found = YAML(typ="safe").load(text)
    return found if isinstance(found, bool | int | float) else text


def _text(key: str, text: str) -> str:
    if not text:
        raise OptionError(f"--{key} is empty: write --{key}=VALUE")
    quoted = len(text) > 1 and text[0] in QUOTES and text[-1] == text[0]
    text = str(_node(key, text).value) if quoted else text
    if re.match(r"[\d\s.+*/%()-]+#", text):  # HyperPyYAML computes it
        raise OptionError(f"--{key}={text}: a number before '#' is read as it alone")
    return text


def is_open(place: Any) -> bool:
    """Whether a file leaves a value open (``!PLACEHOLDER``)."""
    return str(getattr(getattr(place, "tag", None), "value", "")) == "!PLACEHOLDER"


def _number(key: str, text: str, place: Any) -> int | float:
    try:
        number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError as error:
        raise OptionError(f"--{key}={text}: give a number") from error
    least = WHOLE.get(key)
    if least is not None and not (number.is_integer() and number >= least):
        raise OptionError(f"--{key}={text}: give a whole number, {least} or more")
    if FRACTIONS.fullmatch(key) and not 0 <= number <= 1:
        raise OptionError(f"--{key}={text}: give a number between 0 and 1")
    if key == "lr" and not 0 <= number < math.inf:
        raise OptionError(f"--lr={text}: give 0 or more")
    typed_whole = text.lstrip("+-").isdecimal() or not isinstance(place, float)
    return int(number) if typed_whole and number.is_integer() else number


def _written(value: Any) -> str:
    """A value in YAML on one line, in which no text is taken for something else."""
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, dict):
        pairs = (f"{_written(name)}: {_written(one)}" for name, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    return json.dumps(value, ensure_ascii=False)
