"""The rule that tells a bare label from a sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmaczs.prompts import (
    clean_prompt,
    read_prompts,
    require_templates,
    texts_of,
    to_sentence,
)
from lmaczs.utils.errors import InputError

BARE = {
    "dog": "This is a sound of dog.",
    "sea waves": "This is a sound of sea waves.",
    "door wood knock": "This is a sound of door wood knock.",
    "  clock   tick ": "This is a sound of clock tick.",
    "car-horn": "This is a sound of car-horn.",
    "theremin": "This is a sound of theremin.",  # opens with letters of an article
    "Anvil": "This is a sound of Anvil.",
    "犬": "This is a sound of 犬.",
}
SENTENCES = [
    "a dog barking",
    "A dog",
    "the sea",
    "someone sneezes",
    "People clapping",
    "Rain.",
    "rain, wind",
    "dog!",
    "birds chirping in trees",
    "This is a sound of a dog.",
]


@pytest.mark.parametrize("prompt", BARE)
def test_bare_label_is_put_into_the_template(prompt: str) -> None:
    """Up to three words without an opener or punctuation are a label."""
    assert to_sentence(prompt) == BARE[prompt]


@pytest.mark.parametrize("prompt", SENTENCES)
def test_sentence_is_taken_as_it_is(prompt: str) -> None:
    """An opener, punctuation or a fourth word makes a sentence."""
    assert to_sentence(prompt) == prompt
    assert to_sentence(prompt, "something {}") == prompt


def test_spaces_do_not_matter() -> None:
    """A sentence, too, is read without superfluous spaces and line ends."""
    assert to_sentence(" a dog\n barking ") == "a dog barking"


def test_template_is_used() -> None:
    """The template that is given replaces the default."""
    assert to_sentence("dog", "I can hear {}") == "I can hear dog"
    assert to_sentence("dog", "{}") == "dog"
    assert to_sentence("dog {x}") == "This is a sound of dog {x}."


def test_what_comes_out_is_a_sentence() -> None:
    """Applying the rule twice changes nothing more."""
    for prompt in [*BARE, *SENTENCES]:
        once = to_sentence(prompt)
        assert to_sentence(once) == once


@pytest.mark.parametrize("prompt", ["", "  ", "\n\t"])
def test_empty_prompt_is_refused(prompt: str) -> None:
    """There is nothing to listen for in an empty prompt."""
    with pytest.raises(ValueError, match="prompt is empty"):
        to_sentence(prompt)


@pytest.mark.parametrize("prompt", ["dog", "a dog barking"])
def test_template_without_a_place_is_refused(prompt: str) -> None:
    """A template that would swallow the label is refused, whatever the prompt is."""
    with pytest.raises(ValueError, match="has no {} for the label"):
        to_sentence(prompt, "This is a sound.")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("clock_tick", "clock tick"),
        ("__dog__", "dog"),
        ("a\x00dog", "a dog"),
        ("\x1bdog\x7f", "dog"),
        ("a\u200bdog", "a dog"),
        ("\u202ebar\u00adking", "barking"),
        ("\ufeffdog", "dog"),
        ("car-horn", "car-horn"),
        ("犬 🐕", "犬 🐕"),
    ],
)
def test_what_is_no_text_is_not_read(given: str, read: str) -> None:
    """Underscores and control characters are blanks, invisible marks are nothing."""
    assert clean_prompt(given) == read
    assert to_sentence(given) == to_sentence(read)


@pytest.mark.parametrize("prompt", ["_", "\x00", "\u200b\u202e"])
def test_prompt_of_nothing_visible_is_refused(prompt: str) -> None:
    """As an empty one."""
    with pytest.raises(ValueError, match="prompt is empty"):
        to_sentence(prompt)


def test_bytes_that_are_no_text_are_refused() -> None:
    """As a command line hands them over."""
    with pytest.raises(ValueError, match=r"'a\\udcff' is not UTF-8"):
        to_sentence(b"a\xff".decode("utf-8", "surrogateescape"))


def test_prompts_of_a_file(tmp_path: Path) -> None:
    """One a line, each once, whatever the line ends."""
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffdog\r\n\n a dog, barking \ndog\n犬".encode())
    assert read_prompts(path) == ["dog", "a dog, barking", "犬"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\n \n", "no prompt"), (b"dog\n\xff\n", "line 2: it is not UTF-8")],
)
def test_file_without_prompts_is_refused(
    content: bytes, message: str, tmp_path: Path
) -> None:
    """In one sentence that names it."""
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path.name}.*{message}"):
        read_prompts(path)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_prompts(tmp_path / "none.txt")


@pytest.mark.parametrize(
    "given",
    [
        "dog",
        ["dog"],
        ("dog",),
        iter(["dog"]),
        np.array(["dog"]),
        pd.Series(["dog"], [7]),
    ],
)
def test_texts_come_in_any_column(given: Any) -> None:
    """One alone, or in whatever has one dimension."""
    texts = texts_of(given)
    assert texts == ["dog"] and type(texts[0]) is str


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (pd.DataFrame({"label": ["dog"]}), "labels is a table or a mapping"),
        (np.array([["dog"]]), "labels is a table or a mapping"),
        ({"dog": 1}, "labels is a table or a mapping"),
        (np.array("dog"), "labels is a table or a mapping"),
        (3, "labels is 3: give a text, or a list"),
        (pd.Series(["dog", np.nan]), "labels: number 2 of 2 is nan, not a text"),
        (["dog", 3], "labels: number 2 of 2 is 3, not a text"),
    ],
)
def test_what_holds_no_texts_is_refused(given: Any, reason: str) -> None:
    """The message has the argument, and where."""
    with pytest.raises(InputError, match=reason):
        texts_of(given, "labels")


@pytest.mark.parametrize(
    ("templates", "problem"),
    [([], "templates is empty"), (["{}", "sound"], "'sound' has no {} for the label")],
)
def test_templates_that_make_no_prompts(templates: list[str], problem: str) -> None:
    """Without a place for the label all prompts would be the same."""
    with pytest.raises(InputError, match=re.escape(problem)):
        require_templates(templates)
    require_templates(["{}", "the sound of {}"])
