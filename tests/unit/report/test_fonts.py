"""fonts.py: every character is drawn in a font that has it, or named."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from lmaczs.report.figures import own_style
from lmaczs.report.fonts import drawable, font_families

CUNEIFORM = "\N{CUNEIFORM SIGN A}"
RUNE = "\N{LINEAR B SYLLABLE B008 A}"


def write_font(path: Path, family: str, character: str) -> None:
    """Write a font with one character, a filled square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(point)
    pen.closePath()
    square, empty = pen.glyph(), TTGlyphPen(None).glyph()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(character): "square"})
    builder.setupGlyf({".notdef": empty, "square": square})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[str]:
    """Family of a font that has one sign which matplotlib's own font lacks."""
    write_font(tmp_path / "signs.ttf", "Signs Sans", CUNEIFORM)
    before = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "signs.ttf")
    yield "Signs Sans"
    fontManager.ttflist = before


def ink(text: str) -> int:
    """Number of dark pixels of a text, drawn as a picture's title is."""
    with own_style(text), warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = Figure(figsize=(2, 1), dpi=100)
        canvas = FigureCanvasAgg(figure)
        figure.text(0.1, 0.5, text, fontsize=20)
        canvas.draw()
    return int((np.asarray(canvas.buffer_rgba())[..., 0] < 128).sum())


@pytest.mark.parametrize("text", ["dog", "собака", "σκύλος", "chien à l'école", "كلب"])
def test_most_alphabets_need_no_other_font(text: str) -> None:
    """The font that comes with matplotlib has them."""
    assert font_families(text) == ["DejaVu Sans"]
    assert drawable(text) == text


def test_a_font_that_has_the_character_is_used(installed: str) -> None:
    """It is drawn in that font, without a warning, and the text stays as it is."""
    assert font_families(f"a {CUNEIFORM}") == ["DejaVu Sans", installed]
    assert drawable(CUNEIFORM) == CUNEIFORM
    side = 20 * 100 / 72  # of the square, in pixels
    assert ink(CUNEIFORM) == pytest.approx(side**2, rel=0.1)


def test_characters_of_no_font_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """By their codes, and a warning says once how to fix it."""
    with caplog.at_level(logging.WARNING):
        text = drawable(f"a {RUNE}{RUNE} b")
        drawable(f"{RUNE}")
    assert text == "a [U+10000 U+10000] b"
    (message,) = caplog.messages
    assert RUNE in message and "install one" in message
    assert ink(text) > 0


def test_line_breaks_need_no_font() -> None:
    """What is not printed is no missing character."""
    assert drawable("a\n\tb") == "a\n\tb"
