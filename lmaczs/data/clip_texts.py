"""Captions and labels of clips, and the prompts that are drawn from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from lmaczs.prompts import require_templates
from lmaczs.utils.errors import InputError

Option = TypeVar("Option")


class ClipText(NamedTuple):
    """A caption, or a label, which is put into a template."""

    words: str
    is_label: bool = True

    @property
    def key(self) -> str:
        """The words without case and full stop, by which equal texts are found."""
        return self.words.casefold().strip(" .")

    def prompt(self, template: str) -> str:
        """The label in the template's ``{}``; a caption as it is."""
        return template.format(self.words) if self.is_label else self.words


class NegativePool:
    """Distinct texts for absent prompts; of texts with one key the first stays."""

    def __init__(self, texts: Iterable[ClipText]) -> None:
        first: dict[str, ClipText] = {}
        for text in texts:
            first.setdefault(text.key, text)
        self.texts = list(first.values())
        self._place = {key: place for place, key in enumerate(first)}

    def __len__(self) -> int:
        return len(self.texts)

    def outside(self, inside: Iterable[ClipText]) -> np.ndarray:
        """Indices, ascending, of all texts but those given."""
        excluded = {self._place[t.key] for t in inside if t.key in self._place}
        return np.delete(np.arange(len(self)), sorted(excluded))

    def draw(
        self, count: int, places: np.ndarray, rng: np.random.Generator
    ) -> list[ClipText]:
        """Draw texts at some indices (see `outside`) without repetition."""
        return [self.texts[i] for i in rng.choice(places, count, replace=False)]


def texts_of(table: pd.DataFrame) -> list[tuple[ClipText, ...]]:
    """Texts of each clip of a table: its column ``texts``, or its label."""
    if "texts" in table:
        return list(table.texts)
    return [(ClipText(label),) for label in table.label]


class PromptSampler:
    """Draws the prompts of clips: one text of the clip, then texts of other clips.

    In training one of several captions and a template are drawn in each epoch. In a
    mixture the second prompt is, half of the time, the partner's and present.

    Parameters
    ----------
    texts : sequence of tuple of ClipText
        Of each clip.
    templates : sequence of str
        For labels; the first is for evaluation.
    labels : sequence of str, optional
        Labels of the whole data set, from which absent prompts are drawn besides the
        captions. None: those of `texts`.
    negatives_per_clip : int
        Number of prompts beside the first.
    predicted_prob : float
        Probability that the predicted class replaces the first prompt in training.

    Raises
    ------
    InputError
        If there are too few labels or captions for `negatives_per_clip`.
    """

    def __init__(
        self,
        texts: Sequence[tuple[ClipText, ...]],
        templates: Sequence[str],
        labels: Sequence[str] | None = None,
        negatives_per_clip: int = 1,
        predicted_prob: float = 0.0,
    ) -> None:
        require_templates(templates)
        self.texts, self.templates = list(texts), list(templates)
        everything = [text for row in self.texts for text in row]
        own = {text.words for text in everything if text.is_label}
        self.labels = sorted(own if labels is None else labels)
        captions = [text for text in everything if not text.is_label]
        self.pool = NegativePool([*map(ClipText, self.labels), *captions])
        self.negatives_per_clip = negatives_per_clip
        self.predicted_prob = predicted_prob
        self.clips_with: dict[str, list[int]] = {}
        for row, clip_texts in enumerate(self.texts):
            for text in clip_texts:
                self.clips_with.setdefault(text.key, []).append(row)
        self._require_negatives()

    def _require_negatives(self) -> None:
        """Refuse a pool that is too small for a clip, or a mixture of two."""
        count = self.negatives_per_clip
        most = sorted((len(row) for row in self.texts), reverse=True)[:2]
        left = min(len(self.pool) - most[0], len(self.pool) - sum(most) + 1)
        if count > 0 and left < count:
            raise InputError(
                f"negatives_per_clip is {count}, but there are only {len(self.pool)} "
                "labels and captions to draw absent prompts from"
            )

    @property
    def classes(self) -> dict[str, str]:
        """Classes of the zero-shot classifier, each with its prompt.

        All labels, and the first text of each clip if it is a caption: zero-shot
        classification of captions is retrieval within the split.
        """
        firsts = [row[0] for row in self.texts]
        found = {one.words: one.words for one in firsts if not one.is_label}
        return found | {x: self.templates[0].format(x) for x in self.labels}

    def partners(self, row: int, rows: Sequence[int] | None = None) -> np.ndarray:
        """Clips that share no text with a clip, out of some rows or of all."""
        own = {i for text in self.texts[row] for i in self.clips_with[text.key]}
        if rows is None:
            return np.delete(np.arange(len(self.texts)), sorted(own))
        return np.array([other for other in rows if other not in own], dtype=int)

    def label(self, row: int) -> str:
        """Words of a clip's first text, its class; empty if it has none."""
        return self.texts[row][0].words

    def draw_absent(
        self, row: int, partner: int | None, count: int, rng: np.random.Generator
    ) -> list[ClipText]:
        """Draw texts that neither a clip nor the one it is mixed with has."""
        others = () if partner is None else self.texts[partner]
        absent = self.pool.outside([*self.texts[row], *others])
        return self.pool.draw(count, absent, rng)

    def draw(
        self, row: int, partner: int | None, rng: np.random.Generator, training: bool
    ) -> tuple[list[str], list[bool]]:
        """Draw the prompts of a clip, its own first, and whether each is present.

        `partner` is the clip that it is mixed with, if any.
        """
        own = self.texts[row]
        others = () if partner is None else self.texts[partner]
        # every clip has as many prompts: where labels are few, the partner's is one
        with_partner = partner is not None and self.negatives_per_clip > 0
        with_partner = with_partner and (
            rng.random() < 0.5
            or len(self.pool.outside([*own, *others])) < self.negatives_per_clip
        )
        sounding = [own, others] if with_partner else [own]
        present = [_pick(texts, rng, training) for texts in sounding]
        count = 1 + self.negatives_per_clip - len(present)
        drawn = self.draw_absent(row, partner, count, rng)
        prompts = [
            text.prompt(_pick(self.templates, rng, training))
            for text in [*present, *drawn]
        ]
        return prompts, [True] * len(present) + [False] * len(drawn)


def _pick(
    options: Sequence[Option], rng: np.random.Generator, training: bool
) -> Option:
    """In training one at random (no draw where there is no choice), else the first."""
    return options[int(rng.integers(len(options))) if training else 0]
