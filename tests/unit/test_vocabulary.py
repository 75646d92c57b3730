"""What a text tower reads of prompts: the embedded one's, and one of bytes alone."""

from __future__ import annotations

import pytest

from lmaczs.clap import FrozenClap
from lmaczs.data.esc50 import ESC50_LABELS
from lmaczs.hub import default_source
from lmaczs.presence import reference_names
from lmaczs.prompts import DEFAULT_TEMPLATE
from lmaczs.vocabulary import prompt_warnings, read_prompt, vocabulary_line


@pytest.fixture(scope="module")
def clap() -> FrozenClap:
    """The embedded CLAP, whose tokenizer has 8,000 tokens of English."""
    return FrozenClap.from_pretrained(default_source().with_name("clap_small"))


def warned(clap: FrozenClap, prompt: str) -> str:
    """Warnings of a prompt in one line."""
    return "; ".join(prompt_warnings(clap, prompt, DEFAULT_TEMPLATE))


def test_plain_english_is_not_warned_of(clap: FrozenClap) -> None:
    """Labels of ESC-50, names of AudioSet's classes, sentences."""
    prompts = [
        *ESC50_LABELS,
        *reference_names(),
        "a dog barking",
        "bird's song",
        "Rain.",
    ]
    assert {prompt for prompt in prompts if warned(clap, prompt)} == set()


@pytest.mark.parametrize("prompt", ["犬", "собака", "🐕", "the siren 🚨", "كلب"])
def test_characters_without_a_token_are_named(clap: FrozenClap, prompt: str) -> None:
    """In whatever script; those of English words beside them are not."""
    lacking = [one for one in dict.fromkeys(prompt) if ord(one) > 127]
    assert list(read_prompt(clap, prompt, DEFAULT_TEMPLATE).unread) == lacking
    assert f"lacks {', '.join(map(repr, lacking))}" in warned(clap, prompt)


def test_prompts_that_are_one_embedding_are_warned_of(clap: FrozenClap) -> None:
    """The reason for the warning: to this text tower a dog is a siren."""
    text = clap.encode_text(["🐕", "🚨"])
    assert float(text[0] @ text[1]) > 0.9999
    assert warned(clap, "🐕") and warned(clap, "🚨")


@pytest.mark.parametrize("prompt", ["chien qui aboie", "Hund", "xqzzt"])
def test_words_in_pieces_are_named(clap: FrozenClap, prompt: str) -> None:
    """Of another language in known letters, or mistyped."""
    reading = read_prompt(clap, prompt, DEFAULT_TEMPLATE)
    assert reading.split_words == tuple(prompt.split())
    assert not reading.unread and repr(prompt.split()[-1]) in warned(clap, prompt)


def test_one_rare_word_among_others_is_not_warned_of(clap: FrozenClap) -> None:
    """The rest says what it is."""
    assert not warned(clap, "the call of a theremin or xqzzt")


def test_what_is_changed_is_noted(clap: FrozenClap) -> None:
    """Underscores and control characters, and a prompt without a word."""
    assert warned(clap, "clock_tick") == "underscores are read as blanks"
    assert "invisible characters are not read" in warned(clap, "a\x00dog")
    assert "holds no word" in warned(clap, "???")


def test_prompt_beyond_the_limit_is_cut_where_it_says(clap: FrozenClap) -> None:
    """What is behind the end that is named changes nothing, what is before it does."""
    words = " ".join(f"dog {'cat' if n % 7 else 'rain'}" for n in range(60))
    reading = read_prompt(clap, words, DEFAULT_TEMPLATE)
    assert reading.cut and reading.limit == clap.max_tokens < reading.tokens
    assert words.startswith(reading.read)
    whole, end = clap.embed_texts([words]), clap.embed_texts([reading.read + " siren"])
    assert (whole - end).abs().max() < 1e-5
    shorter = reading.read.rsplit(" ", 1)[0]
    assert (whole - clap.embed_texts([shorter])).abs().max() > 1e-4
    assert f"ends behind '{' '.join(reading.read.split()[-3:])}'" in warned(clap, words)


def test_tokens_are_those_of_the_text_tower(clap: FrozenClap) -> None:
    """With those that begin and end a prompt."""
    for prompt in ("dog", "a dog barking", "犬"):
        reading = read_prompt(clap, prompt, DEFAULT_TEMPLATE)
        assert reading.tokens == len(clap.tokenizer(reading.sentence).input_ids)
        assert not reading.cut and reading.read == reading.sentence


def test_small_vocabulary_warns_of_no_english(tiny_clap: FrozenClap) -> None:
    """Where every word falls into pieces, that says nothing about the language."""
    reading = read_prompt(tiny_clap, "vacuum cleaner", DEFAULT_TEMPLATE)
    assert reading.split_words == ("vacuum", "cleaner")
    assert not prompt_warnings(tiny_clap, "vacuum cleaner", DEFAULT_TEMPLATE)


def test_vocabulary_in_a_line(clap: FrozenClap) -> None:
    """Size, alphabets and limit."""
    line = vocabulary_line(clap)
    assert (
        line == "8,000 tokens, of those with letters Latin 100.0 %; at most 77 a prompt"
    )
