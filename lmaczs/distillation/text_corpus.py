"""Texts for the distillation of the text tower: names of sounds, and WordNet."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmaczs.utils.errors import InputError

SOUND_TEMPLATES: tuple[str, ...] = (
    "{}",
    "This is a sound of {}.",
    "the sound of {}",
    "a recording of {}",
    "I can hear {}",
    "{} in the background",
    "a clip of {}",
    "{} sound",
)
"""Prompts for the name of a sound; the second is the default template."""

WORDNET_FILES = ("data.noun", "data.verb", "cntlist.rev")
_MAX_WORDS = 16
_SOUND_GLOSS = re.compile(
    r"\b(sounds?|noises?|noisy|noisily|cry|cries|ring(s|ing)?|loud(ly)?|utter(s|ed)?"
    r"|audible|bells?|roar|whistl\w*|sing(s|ing)?|music(al)?|voice|buzz\w*|hum(ming)?"
    r"|bark\w*|shout\w*|scream\w*|explo\w+|clatter\w*|hiss\w*|rustl\w*|rattl\w*)\b"
)
# WordNet's lexicographer files whose nouns make sounds or are sounds: act, animal,
# artifact, body, event, phenomenon, person.
_SOUNDING_NOUN_FILES = frozenset({4, 5, 6, 8, 11, 18, 19})


@dataclass(frozen=True)
class Synset:
    """One WordNet synset: its words, definition and examples, and how common it is."""

    pos: str
    lex_file: int
    lemmas: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]
    count: int

    @property
    def is_sound(self) -> bool:
        """Whether the definition is about a sound."""
        return _SOUND_GLOSS.search(self.definition) is not None


@dataclass(frozen=True)
class Corpus:
    """Short texts without duplicates, and which of them are about sounds."""

    texts: tuple[str, ...]
    is_sound: tuple[bool, ...]

    @property
    def key(self) -> str:
        """Hash of the texts, in order."""
        return hashlib.sha256("\n".join(self.texts).encode()).hexdigest()[:16]


def read_wordnet(folder: str | Path) -> list[Synset]:
    """Read nouns and verbs from a folder with `WORDNET_FILES`, most common first."""
    folder = Path(folder)
    for name in WORDNET_FILES:
        if not (folder / name).is_file():
            raise InputError(
                f"wordnet_folder: {folder / name} does not exist; install WordNet's "
                "database (Debian: wordnet-base) or give its folder."
            )
    counts: Counter[str] = Counter()
    for line in (folder / "cntlist.rev").read_text("utf-8").splitlines():
        sense, _, count = line.split()
        counts[sense.split("%")[0] + sense.split("%")[1][0]] += int(count)
    synsets = [
        _parse_synset(line, counts)
        for name in ("data.noun", "data.verb")
        for line in (folder / name).read_text("utf-8").splitlines()
        if not line.startswith("  ")  # the licence
    ]
    return sorted(synsets, key=lambda synset: -synset.count)


def _parse_synset(line: str, counts: Counter[str]) -> Synset:
    fields, _, gloss = line.partition(" | ")
    _, lex_file, pos, n_words, *rest = fields.split()
    words = rest[: 2 * int(n_words, 16) : 2]
    number = {"n": "1", "v": "2"}[pos]
    examples = tuple(re.findall(r'"([^"]+)"', gloss))
    definition = re.sub(r"\s*\([^)]*\)", "", gloss.split('; "')[0]).split(";")[0]
    return Synset(
        pos,
        int(lex_file),
        tuple(word.replace("_", " ").lower() for word in words),
        definition.strip().lower(),
        examples,
        max(counts[word.lower() + number] for word in words),
    )


def present_participle(verb: str) -> str:
    """Form the -ing form of a regular English verb ("bake" -> "baking").

    inflect.present_participle doubles too many consonants ("openning").
    """
    head, _, tail = verb.partition(" ")
    if head.endswith("ie"):
        head = head[:-2] + "y"
    elif re.search(r"[^eoy]e$", head) and len(head) > 2:
        head = head[:-1]
    elif re.fullmatch(r"[^aeiou]*[aeiou][bdgklmnprt]", head):
        head += head[-1]
    return f"{head}ing {tail}".strip()


def build_corpus(
    names: Sequence[str], synsets: Sequence[Synset], size: int, seed: int
) -> Corpus:
    """Collect `size` texts of at most 16 words, about sounds first, then common things.

    `names` of sounds enter in every template, then WordNet's texts about sounds, random
    compositions of names, nouns and verbs, and the other `synsets`, most common first.
    """
    rng = random.Random(seed)
    sounds = list(dict.fromkeys([*_name_texts(names), *_gloss_texts(synsets)]))
    composed = _compositions(names, synsets, rng, size // 4)
    texts = list(dict.fromkeys([*sounds, *composed, *_common_texts(synsets, rng)]))
    texts = [text for text in texts if len(text.split()) <= _MAX_WORDS][:size]
    about_sound = set(sounds)
    return Corpus(tuple(texts), tuple(text in about_sound for text in texts))


def _name_texts(names: Sequence[str]) -> list[str]:
    texts = [t.format(name) for name in [*names, "silence"] for t in SOUND_TEMPLATES]
    return [*texts, "nothing can be heard", "a silent room", "complete silence"]


def _gloss_texts(synsets: Sequence[Synset]) -> list[str]:
    texts = []
    for synset in filter(lambda synset: synset.is_sound, synsets):
        lemma = synset.lemmas[0]
        name = present_participle(lemma) if synset.pos == "v" else lemma
        texts += [*synset.lemmas, f"the sound of {name}", synset.definition]
        texts += synset.examples
    return texts


def _compositions(
    names: Sequence[str], synsets: Sequence[Synset], rng: random.Random, count: int
) -> list[str]:
    verbs = [s.lemmas[0] for s in synsets if s.pos == "v" and s.is_sound]
    verbs += [s.lemmas[0] for s in synsets if s.pos == "v"][:500]
    nouns = [
        lemma
        for s in synsets
        if s.pos == "n" and s.lex_file in _SOUNDING_NOUN_FILES and s.count
        for lemma in s.lemmas[:1]
    ]
    texts = []
    for index in range(count):
        noun, verb = rng.choice(nouns), present_participle(rng.choice(verbs))
        first, second = rng.choice(names), rng.choice(names)
        texts.append(
            (
                f"{_article(noun)} {verb}",
                f"{verb} {noun}",
                f"{_article(noun)} {verb} near {_article(rng.choice(nouns))}",
                rng.choice(("the sound of ", "a recording of ")) + _article(noun),
                f"{first} and {second}",
                f"{first} of {_article(noun)}",
            )[index % 6]
        )
    return texts


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _common_texts(synsets: Sequence[Synset], rng: random.Random) -> list[str]:
    texts = []
    for synset in synsets:
        template = rng.choice(SOUND_TEMPLATES)
        texts.append(synset.lemmas[0])
        if synset.pos == "v" or synset.lex_file in _SOUNDING_NOUN_FILES:
            texts += [synset.definition, *synset.examples[:1]]
            texts.append(template.format(synset.lemmas[0]))
        elif synset.count > 1:
            texts.append(synset.definition)
    return texts
