"""What may be said of a clip: captions as they are, labels inside a template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd


class Phrase(NamedTuple):
    """A caption or a label.

    Attributes
    ----------
    words : str
        The caption, or the label's name.
    is_label : bool
        Whether a template is put around it.
    """

    words: str
    is_label: bool = True

    @property
    def key(self) -> str:
        """What two phrases share that say the same: case and full stop do not count."""
        return self.words.casefold().strip(" .")

    def sentence(self, template: str) -> str:
        """What the text tower is given.

        Parameters
        ----------
        template : str
            With ``{}`` in the label's place.

        Returns
        -------
        str
        """
        return template.format(self.words) if self.is_label else self.words


class PhrasePool:
    """Distinct phrases, of which prompts for what is absent are drawn.

    Parameters
    ----------
    phrases : iterable of Phrase
        Of phrases that say the same the first one stays.
    """

    def __init__(self, phrases: Iterable[Phrase]) -> None:
        first: dict[str, Phrase] = {}
        for phrase in phrases:
            first.setdefault(phrase.key, phrase)
        self.phrases = list(first.values())
        self._place = {key: place for place, key in enumerate(first)}

    def __len__(self) -> int:
        return len(self.phrases)

    def outside(self, inside: Iterable[Phrase]) -> np.ndarray:
        """Places of the phrases that say something else.

        Parameters
        ----------
        inside : iterable of Phrase
            What must not be drawn: all that may be said of a clip.

        Returns
        -------
        ndarray [n], int
            Ascending.
        """
        excluded = {self._place[p.key] for p in inside if p.key in self._place}
        return np.delete(np.arange(len(self)), sorted(excluded))

    def draw(
        self, count: int, places: np.ndarray, rng: np.random.Generator
    ) -> list[Phrase]:
        """Draw phrases without repetition.

        Parameters
        ----------
        count : int
            How many.
        places : ndarray [n], int
            From `outside`.
        rng : numpy.random.Generator
            Source of chance.

        Returns
        -------
        list of Phrase
        """
        return [self.phrases[i] for i in rng.choice(places, count, replace=False)]


def phrases_of(table: pd.DataFrame) -> list[tuple[Phrase, ...]]:
    """What may be said of each clip.

    Parameters
    ----------
    table : DataFrame
        A row a clip: phrases, or label.

    Returns
    -------
    list of tuple of Phrase
    """
    if "phrases" in table:
        return list(table.phrases)
    return [(Phrase(label),) for label in table.label]


def holders_of(phrases: Sequence[tuple[Phrase, ...]]) -> dict[str, list[int]]:
    """Clips of which a phrase is said.

    Parameters
    ----------
    phrases : sequence of tuple of Phrase
        From `phrases_of`.

    Returns
    -------
    dict of str to list of int
        By the phrases' keys.
    """
    holders: dict[str, list[int]] = {}
    for row, said in enumerate(phrases):
        for phrase in said:
            holders.setdefault(phrase.key, []).append(row)
    return holders
