"""Prompts: sentences are used as they are, labels are put into a template."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmaczs.utils.errors import InputError

DEFAULT_TEMPLATE = "This is a sound of {}."
BARE_WORDS = 3
OPENERS = frozenset(
    "a an the this that these those it i we he she they there here some someone "
    "somebody something people".split()
)


ZERO_WIDTH_SPACE = "\u200b"


def clean_prompt(prompt: str) -> str:
    """Words of a prompt, single blanks between them.

    Underscores and control characters are read as blanks; invisible characters, such as
    marks of the writing direction, are left out. InputError where nothing is left, or
    for bytes that are no text.
    """
    if any(unicodedata.category(one) == "Cs" for one in prompt):
        shown = ascii(prompt)
        raise InputError(f"the prompt {shown} is not UTF-8: type it again, as text")
    words = " ".join("".join(map(_visible, prompt)).split())
    if not words:
        raise InputError("a prompt is empty; say what to listen for, e.g. 'a dog'")
    return words


def texts_of(given: Any, name: str = "prompts") -> list[str]:
    """Texts of an argument: one, or a list, an array or a pandas column of them.

    Parameters
    ----------
    given : str or iterable of str
        The argument.
    name : str
        Its name, for messages.

    Returns
    -------
    list of str

    Raises
    ------
    InputError
        If it is no text and nothing of one dimension that holds texts alone.
    """
    if isinstance(given, str):
        return [str(given)]
    if getattr(given, "ndim", 1) != 1 or isinstance(given, Mapping):
        raise InputError(f"{name} is a table or a mapping: give one column of texts")
    if not isinstance(given, Iterable):
        raise InputError(f"{name} is {given!r}: give a text, or a list of texts")
    several = list(given)
    for number, one in enumerate(several, 1):
        if not isinstance(one, str):
            raise InputError(
                f"{name}: number {number} of {len(several)} is {one!r}, not a text: "
                "leave it out, or write it as one"
            )
    return [str(one) for one in several]  # of numpy's texts, too


def _visible(character: str) -> str:
    """The character; a blank, or nothing, for one that is not to be read."""
    kind = unicodedata.category(character)
    if character in ("_", ZERO_WIDTH_SPACE) or kind == "Cc":
        return " "
    return "" if kind == "Cf" else character


def read_prompts(path: str | Path) -> list[str]:
    """Prompts of a UTF-8 text file, one a line, each once; blank lines do not count.

    InputError if there is no such file, or no prompt in it, or it is not UTF-8.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: it is not UTF-8; save it so") from error
    lines = [line.strip() for line in text.splitlines()]
    if not any(lines):
        raise InputError(f"{path} holds no prompt: write one a line")
    return list(dict.fromkeys(filter(None, lines)))


def to_sentence(prompt: str, template: str = DEFAULT_TEMPLATE) -> str:
    """Text-tower input for a prompt, see `clean_prompt`.

    A prompt of at most three words without punctuation and without an opening article,
    pronoun or determiner is a label ("dog", "sea waves"), which is put into the
    template. Any other ("a dog barking", "Rain.") is a sentence and is kept: a template
    around it would lower CLAP's similarities.

    Parameters
    ----------
    prompt : str
        Label or sentence.
    template : str
        Sentence with one ``{}`` for the label.

    Returns
    -------
    str

    Raises
    ------
    InputError
        If `prompt` is empty or no text, or `template` has no ``{}`` or other braces.
    """
    prompt = clean_prompt(prompt)
    require_template(template)
    return template.format(prompt) if is_label(prompt) else prompt


def require_templates(templates: Sequence[str]) -> None:
    """Refuse an empty list of templates, and what `require_template` refuses."""
    if not templates:
        raise InputError('templates is empty: give one, e.g. "[a sound of {}]"')
    for template in templates:
        require_template(template)


def require_template(template: str) -> None:
    """Refuse a template without ``{}``, or with braces that say anything else.

    Those could ask for attributes, or for a text of any length.
    """
    if "{}" not in template:
        raise InputError(f"the template {template!r} has no {{}} for the label")
    if re.search(r"[{}]", template.replace("{}", "")):
        raise InputError(f"the template {template!r} has other braces than {{}}")


def is_label(prompt: str) -> bool:
    """Whether a prompt is a label by the rule of `to_sentence`, not a sentence."""
    words = prompt.split()
    return (
        0 < len(words) <= BARE_WORDS
        and words[0].lower() not in OPENERS
        and re.search(r"[.,;:!?]", prompt) is None
    )
