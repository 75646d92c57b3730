"""What of a prompt a text tower can read: its tokens, and what it has none for.

A tokenizer takes any text. Characters that it has no token for become bytes or an
"unknown", which the text tower was hardly trained on: all emoji may be one to it. Words
of another language in letters that it knows fall into pieces. Both are found from the
tokenizer alone, without a number of one checkpoint.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from lmaczs.clap import FrozenClap
from lmaczs.presence import reference_names
from lmaczs.prompts import clean_prompt, to_sentence

FRAGMENT = "\ufffd"
"""What a token decodes to that is some of the bytes of a character."""

LATIN_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
SHOWN = 8  # characters or words that a sentence lists

MOST_KNOWN = 16384  # prompts whose warnings are kept

_known: WeakKeyDictionary[FrozenClap, bool] = WeakKeyDictionary()
_warned: WeakKeyDictionary[FrozenClap, dict[tuple[str, str], tuple[str, ...]]] = (
    WeakKeyDictionary()
)


@dataclass(frozen=True)
class Reading:
    """How a text tower reads a prompt.

    Attributes
    ----------
    prompt, sentence : str
        As given, and as it enters the text tower.
    tokens, limit : int
        Of the sentence, with those that begin and end it; most that are read.
    read : str
        The sentence as far as the limit.
    unread : tuple of str
        Characters of the prompt for which there is no token.
    words : int
        Of the prompt, in Latin letters.
    split_words : tuple of str
        Those of them that are no token of their own.
    """

    prompt: str
    sentence: str
    tokens: int
    limit: int
    read: str
    unread: tuple[str, ...]
    words: int
    split_words: tuple[str, ...]

    @property
    def cut(self) -> bool:
        """Whether the end of the sentence is not read."""
        return self.tokens > self.limit


@dataclass(frozen=True)
class _Pieces:
    """Tokens of a text: their ids, and which of its characters they stand for."""

    ids: list[int]
    spans: list[tuple[int, int]]

    @classmethod
    def of(cls, clap: FrozenClap, text: str) -> _Pieces:
        options = {"add_special_tokens": False, "return_offsets_mapping": True}
        found = clap.tokenizer(text, verbose=False, **options)
        spans = [_trimmed(text, *span) for span in found["offset_mapping"]]
        return cls(found["input_ids"], spans)


def read_prompt(clap: FrozenClap, prompt: str, template: str) -> Reading:
    """Read a prompt as the text tower of a CLAP does.

    InputError for a prompt that `to_sentence` refuses.
    """
    sentence = to_sentence(prompt, template)
    own = " " + clean_prompt(prompt)  # as behind a word: so words have their tokens
    pieces = _Pieces.of(clap, own)
    spans = set(pieces.spans)
    words = [found for found in LATIN_WORD.finditer(own) if _latin(found[0])]
    split = [found[0] for found in words if not _is_whole(found[0], spans, found)]
    tokens = _Pieces.of(clap, sentence)
    special = clap.tokenizer.num_special_tokens_to_add()
    room = clap.max_tokens - special
    stop = tokens.spans[room - 1][1] if len(tokens.ids) > room else len(sentence)
    return Reading(
        prompt,
        sentence,
        tokens=len(tokens.ids) + special,
        limit=clap.max_tokens,
        read=sentence[:stop],
        unread=_unread(clap, own, pieces),
        words=len(words),
        split_words=tuple(dict.fromkeys(split)),
    )


def prompt_warnings(clap: FrozenClap, prompt: str, template: str) -> tuple[str, ...]:
    """What is doubtful about a prompt, a sentence each; empty for most prompts.

    Found once for a prompt: beside an explanation by the embedded CLAP it counts.
    """
    known, key = _warned.setdefault(clap, {}), (prompt, template)
    if key not in known:
        if len(known) >= MOST_KNOWN:
            known.clear()
        known[key] = _warnings(clap, prompt, template)
    return known[key]


def _warnings(clap: FrozenClap, prompt: str, template: str) -> tuple[str, ...]:
    reading = read_prompt(clap, prompt, template)
    found = []
    if "_" in prompt:
        found.append("underscores are read as blanks")
    if any(unicodedata.category(one) in ("Cc", "Cf") for one in prompt.strip()):
        found.append("control and invisible characters are not read")
    if not any(one.isalnum() for one in prompt) and not reading.unread:
        found.append("it holds no word: say what to listen for, e.g. 'a dog'")
    if reading.unread:
        found.append(
            f"the model's vocabulary lacks {_listed(reading.unread)}, which it may not "
            "tell from other characters: use the model's language"
        )
    elif 2 * len(reading.split_words) > reading.words and _knows_names(clap, template):
        found.append(
            f"the model's vocabulary lacks {_listed(reading.split_words)} and reads "
            "pieces: rare, mistyped, or of another language"
        )
    if reading.cut:
        end = " ".join(reading.read.split()[-3:])
        found.append(
            f"{reading.tokens} tokens, of which {reading.limit} are read: it ends "
            f"behind {end!r}"
        )
    return tuple(found)


def vocabulary_line(clap: FrozenClap) -> str:
    """Say what a text tower reads: number of tokens, alphabets, longest prompt."""
    tokens = clap.tokenizer.convert_ids_to_tokens(list(range(len(clap.tokenizer))))
    texts = [clap.tokenizer.convert_tokens_to_string([token]) for token in tokens]
    alphabets = Counter(
        alphabet for text in texts if (alphabet := _alphabet(text)) is not None
    )
    total = sum(alphabets.values())
    shares = ", ".join(
        f"{name} {100 * count / total:.1f} %"
        for name, count in alphabets.most_common(3)
    )
    return (
        f"{len(tokens):,} tokens, of those with letters {shares}; "
        f"at most {clap.max_tokens} a prompt"
    )


def _unread(clap: FrozenClap, text: str, pieces: _Pieces) -> tuple[str, ...]:
    unknown = clap.tokenizer.unk_token_id
    found: dict[str, None] = {}
    for number, (start, stop) in zip(pieces.ids, pieces.spans, strict=True):
        if number == unknown or FRAGMENT in clap.tokenizer.decode([number]):
            found.update(dict.fromkeys(text[start:stop].strip()))
    return tuple(found)


def _trimmed(text: str, start: int, stop: int) -> tuple[int, int]:
    """Without blanks at the start: some tokenizers count them as the word's."""
    return stop - len(text[start:stop].lstrip()), stop


def _is_whole(word: str, spans: set[tuple[int, int]], found: re.Match[str]) -> bool:
    """Whether each part of a word, between hyphens, is one token."""
    parts = (found.start() + part.start() for part in re.finditer(r"[^'’-]+", word))
    lengths = map(len, re.split(r"['’-]", word))
    return all((n, n + k) in spans for n, k in zip(parts, lengths, strict=True))


def _latin(word: str) -> bool:
    return all(unicodedata.name(one, "").startswith("LATIN") for one in word[:1])


def _alphabet(text: str) -> str | None:
    """Alphabet of a token's first letter, e.g. "Latin"; None without a letter."""
    letters = [one for one in text if one.isalpha()]
    return unicodedata.name(letters[0], "other").split()[0].title() if letters else None


def _knows_names(clap: FrozenClap, template: str) -> bool:
    """Whether most reference prompts' words are tokens: English, by whole words."""
    if clap not in _known:
        names = reference_names()[:50]
        readings = [read_prompt(clap, name, template) for name in names]
        split = sum(len(one.split_words) for one in readings)
        _known[clap] = 2 * split < sum(one.words for one in readings)
    return _known[clap]


def _listed(words: tuple[str, ...]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(map(repr, words[:SHOWN])) + more
