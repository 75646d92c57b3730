"""Prompts: sentences are used as they are, labels are put into a template."""

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
    """Text-tower input for a prompt.

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
        If `prompt` is empty, or `template` has no ``{}``.
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
