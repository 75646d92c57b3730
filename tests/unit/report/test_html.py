"""html.py: a page that stands alone."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import torch

from lmaczs.audio.io import save_audio
from lmaczs.explanation import Interpretation
from lmaczs.report.html import PageEntry, write_page

RATE = 8000
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects the links and texts of a page, and sees that every tag is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag and what it links to."""
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href") and v]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Tags close in the order in which they were opened."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)


def entry(folder: Path, prompt: str, file: str = "a.wav") -> PageEntry:
    """Save an interpretation of noise and return its entry."""
    noise = torch.rand(2, RATE, generator=torch.Generator().manual_seed(0)) / 2
    mask = torch.full((129, 1 + RATE // 64), 0.25)
    one = Interpretation(
        prompt,
        torch.ones_like(mask) + 0j,
        noise[0],
        noise[1],
        mask,
        RATE,
        0.5,
        0.125,
        -0.25,
        64,
        presence=0.975,
        masked_presence=0.996,
        residual_presence=0.5,
        verdict="kept",
    )
    one.save(folder)
    save_audio(folder.parent / "input.wav", one.input, RATE)
    return PageEntry(file, folder, one.to_dict())


def test_every_link_leads_to_a_file_within_the_folder(tmp_path: Path) -> None:
    """Links are relative, exist, and survive odd names; all tags are closed."""
    names = ("dog", "rain & <wind> 100%#?")
    folders = [tmp_path / "out" / "my file #1" / f"{i} é%" for i in range(2)]
    entries = [entry(f, p) for f, p in zip(folders, names, strict=True)]
    path = write_page(tmp_path / "out", entries)
    page = Page(path)
    assert not page.open and len(page.links) == 1 + 3 * 2
    for link in page.links:
        assert not re.match(r"[a-z]+:|/|\.\.", link)
        assert (path.parent / unquote(link)).is_file()
    assert page.tags.count("audio") == 5 and page.tags.count("img") == 2


def test_the_page_needs_no_script_and_no_network(tmp_path: Path) -> None:
    """Nothing is loaded from elsewhere and nothing is executed."""
    text = write_page(tmp_path, [entry(tmp_path / "a" / "dog", "dog")]).read_text(
        "utf-8"
    )
    assert "<script" not in text and "http" not in text and "@import" not in text


def test_texts_are_escaped(tmp_path: Path) -> None:
    """A prompt or file that looks like markup is shown, not obeyed."""
    bad = '"><script>alert(1)</script>'
    page = Page(write_page(tmp_path, [entry(tmp_path / "a" / "b", bad, file=bad)]))
    assert "script" not in page.tags
    assert page.texts.count(bad) == 3


def test_numbers_stand_in_the_table(tmp_path: Path) -> None:
    """Every prompt has a row with its verdict and its numbers."""
    page = Page(write_page(tmp_path, [entry(tmp_path / "a" / "dog", "dog")]))
    row = page.texts.index("dog")
    assert [t for t in page.texts[row:] if t.strip()][1:9] == [
        *("kept", "97.5 %", "0.500", "99.6 %", "0.125", "50.0 %", "−0.250", "0.250")
    ]
    assert "kept, ahead of 97.5 % of the reference prompts" in page.texts


def test_warnings_stand_by_their_prompt(tmp_path: Path) -> None:
    """Escaped, as all texts."""
    one = entry(tmp_path / "a" / "dog", "dog")
    one = replace(one, record={**one.record, "warnings": ["<b>what</b>"]})
    assert "Note: <b>what</b>" in Page(write_page(tmp_path, [one])).texts


def test_numbers_that_were_not_computed_are_dashes(tmp_path: Path) -> None:
    """Without verification two numbers are missing, and the page says so."""
    one = entry(tmp_path / "a" / "dog", "dog")
    one = replace(one, record={**one.record, "masked_similarity": None})
    assert "–" in Page(write_page(tmp_path, [one])).texts


def test_empty_explanations_are_not_played(tmp_path: Path) -> None:
    """A sentence stands for the similarity, the sound and the picture of silence."""
    full = entry(tmp_path / "a" / "dog", "dog")
    mask, noise = torch.zeros(129, 1 + RATE // 64), torch.rand(RATE)
    nothing = Interpretation(
        "siren",
        torch.ones_like(mask) + 0j,
        0 * noise,
        noise,
        mask,
        RATE,
        -0.5,
        None,
        -0.5,
        64,
        presence=0.25,
        verdict="not heard",
    )
    empty = PageEntry("a.wav", tmp_path / "a" / "siren", nothing.to_dict())
    page = Page(write_page(tmp_path, [full, empty]))
    assert not page.open
    assert page.texts.count("nothing in this recording (empty mask)") == 2
    assert page.tags.count("audio") == 1 + 2 and page.tags.count("img") == 1
    assert page.texts.count("siren") == 2
    assert not [link for link in page.links if "siren" in link]


def test_recordings_are_grouped(tmp_path: Path) -> None:
    """Two recordings of one name in two folders stay two, in the order given."""
    entries = [
        entry(tmp_path / "one" / "dog", "dog"),
        entry(tmp_path / "one" / "cat", "cat"),
        entry(tmp_path / "two" / "dog", "dog"),
    ]
    page = Page(write_page(tmp_path, entries))
    assert page.tags.count("h2") == 2 and page.tags.count("h3") == 3
    assert page.tags.count("table") == 2


def test_a_page_of_nothing_is_a_page(tmp_path: Path) -> None:
    """No entries, no sections, still well-formed."""
    page = Page(write_page(tmp_path / "new", []))
    assert not page.open and "h2" not in page.tags
