"""Prompts: sentences are taken as they are, bare labels are put into a template."""

from __future__ import annotations

import re

from lmaczs.utils.errors import InputError

DEFAULT_TEMPLATE = "This is a sound of {}."
BARE_WORDS = 3
OPENERS = frozenset(
    "a an the this that these those it i we he she they there here some someone "
    "somebody something people".split()
)


def to_sentence(prompt: str, template: str = DEFAULT_TEMPLATE) -> str:
    """What the text tower is given for a prompt.

    A prompt of at most three words that neither opens with an article, a pronoun or
    a determiner nor contains punctuation is a bare label ("dog", "sea waves") and is
    put into the template. Anything longer ("a dog barking", "Rain.") is a sentence
    and is taken as it is, since a template around a sentence lowers CLAP's
    similarities.

    Parameters
    ----------
    prompt : str
        What the user typed.
    template : str
        With one ``{}``.

    Returns
    -------
    str

    Raises
    ------
    InputError
        If the prompt is empty, or the template has no ``{}``.
    """
    words = prompt.split()
    if not words:
        raise InputError("a prompt is empty; say what to listen for, e.g. 'a dog'")
    if "{}" not in template:
        raise InputError(f"the template {template!r} has no {{}} for the label")
    sentence = (
        len(words) > BARE_WORDS
        or words[0].lower() in OPENERS
        or re.search(r"[.,;:!?]", prompt) is not None
    )
    return " ".join(words) if sentence else template.format(" ".join(words))
