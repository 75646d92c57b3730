"""Properties of the texts that the text tower learns from."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmaczs.distillation.text_corpus import (
    SOUND_TEMPLATES,
    Corpus,
    build_corpus,
    present_participle,
    read_wordnet,
)

NOUNS = """\
  1 This is a licence line | that is no synset
00001740 05 n 02 dog 0 domestic_dog 0 001 @ 00002 n 0000 | a (tame) wolf; "The Dog ran"
00001750 04 n 01 bark 0 000 | the sound made by a dog
00001760 21 n 01 money 1 000 | the most common medium of exchange; a currency
"""
VERBS = '00003000 39 v 01 bark 4 000 01 + 02 00 | make barking sounds; "dogs bark"\n'
COUNTS = "bark%1:04:00:: 1 7\ndog%1:05:00:: 1 42\nbark%2:39:04:: 1 3\n"


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    """Folder with four synsets in WordNet's own format."""
    (tmp_path / "data.noun").write_text(NOUNS)
    (tmp_path / "data.verb").write_text(VERBS)
    (tmp_path / "cntlist.rev").write_text(COUNTS)
    return tmp_path


def test_read_wordnet_parses_words_gloss_and_counts(wordnet: Path) -> None:
    """Underscores, remarks, examples and second senses are parsed, common first."""
    dog, bark, verb, money = read_wordnet(wordnet)
    assert dog.lemmas == ("dog", "domestic dog")
    assert (dog.pos, dog.lex_file, dog.count) == ("n", 5, 42)
    assert dog.definition == "a wolf"
    assert dog.examples == ("The Dog ran",)
    assert (bark.count, verb.count, money.count) == (7, 3, 0)
    assert money.definition == "the most common medium of exchange"
    assert [s.is_sound for s in (dog, bark, verb, money)] == [False, True, True, False]


def test_read_wordnet_names_the_missing_file(wordnet: Path) -> None:
    """A folder without the counts says which file is missing."""
    (wordnet / "cntlist.rev").unlink()
    with pytest.raises(ValueError, match=r"wordnet_folder: .*cntlist\.rev"):
        read_wordnet(wordnet)


@pytest.mark.parametrize(
    ("verb", "form"),
    [
        ("bark", "barking"),
        ("bake", "baking"),
        ("see", "seeing"),
        ("lie", "lying"),
        ("hum", "humming"),
        ("howl", "howling"),
        ("sing", "singing"),
        ("ring out", "ringing out"),
    ],
)
def test_present_participle(verb: str, form: str) -> None:
    """Silent e, ie, doubled consonants and particles follow English spelling."""
    assert present_participle(verb) == form


def test_build_corpus_is_reproducible_and_bounded(wordnet: Path) -> None:
    """Same seed, same corpus; no duplicates, no long text, at most the size."""
    names, synsets = ["dog bark", "rain"], read_wordnet(wordnet)
    corpus = build_corpus(names, synsets, 60, seed=1)
    assert corpus == build_corpus(names, synsets, 60, seed=1)
    assert corpus.key != build_corpus(names, synsets, 60, seed=2).key
    assert len(corpus.texts) == len(set(corpus.texts)) <= 60
    assert len(build_corpus(names, synsets, 10, seed=1).texts) == 10
    assert max(len(text.split()) for text in corpus.texts) <= 16


def test_build_corpus_marks_texts_about_sounds(wordnet: Path) -> None:
    """Names in every template and glosses of sounds are marked, others are not."""
    corpus = build_corpus(["rain"], read_wordnet(wordnet), 200, seed=1)
    about = dict(zip(corpus.texts, corpus.is_sound, strict=True))
    assert all(about[template.format("rain")] for template in SOUND_TEMPLATES)
    assert about["This is a sound of silence."]
    assert about["the sound of barking"] and about["make barking sounds"]
    assert not about["dog"] and not about["a wolf"]


def test_corpus_key_depends_on_order() -> None:
    """Embeddings are cached by row, so another order is another key."""
    first, second = Corpus(("a", "b"), (True, True)), Corpus(("b", "a"), (True, True))
    assert first.key != second.key
