"""html.py: a page that stands alone, as one file or with its folder."""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch

from lmaczs.audio.io import save_audio
from lmaczs.explanation import Interpretation
from lmaczs.report import html
from lmaczs.report.html import PageEntry, PageOverview, write_page
from lmaczs.report.level_track import LevelTrack
from lmaczs.report.page_data import write_overview, write_page_data
from lmaczs.report.words import MEANINGS

RATE = 8000
VOID = {"meta", "img", "br", "input"}
DATE = datetime.date(2026, 11, 5)


class Page(HTMLParser):
    """Collects the links and texts of a page, and sees that every tag is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.feed(path.read_text("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag and what it links to."""
        self.tags.append(tag)
        given = {name: value or "" for name, value in attrs}
        self.attributes.append((tag, given))
        self.ids += [given["id"]] if "id" in given else []
        for name in ("aria-controls", "aria-labelledby"):
            self.references += [given[name]] if name in given else []
        links = ("src", "href", "data-script", "data-input")
        links += ("data-explanation", "data-residual")
        self.links += [given[name] for name in links if name in given]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Tags close in the order in which they were opened."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text, but that of scripts and styles."""
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(" ".join(data.split()))

    def cells(self, table: int = 0) -> list[list[str]]:
        """Texts of each row of a table."""
        rows: list[list[str]] = []
        text = re.findall(r"<table.*?</table>", self.rawdata_text, re.S)[table]
        for row in re.findall(r"<tr.*?</tr>", text, re.S):
            cells = re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.S)
            rows.append([" ".join(re.sub("<.*?>", " ", c).split()) for c in cells])
        return rows

    def feed(self, data: str) -> None:
        """Keep the text for `cells`."""
        self.rawdata_text = data
        super().feed(data)


def interpretation(prompt: str, kept: float = 0.25) -> Interpretation:
    """Noise, of which a mask keeps a part."""
    noise = torch.rand(RATE, generator=torch.Generator().manual_seed(0)) / 2
    mask = torch.full((129, 1 + RATE // 64), kept)
    spectrum = torch.ones_like(mask) + 0j
    return Interpretation(
        prompt,
        spectrum,
        kept * noise,
        (1 - kept) * noise,
        mask,
        RATE,
        0.5,
        0.125 if kept else None,
        -0.25,
        64,
        model="tiny",
        presence=0.975,
        masked_presence=0.996 if kept else None,
        residual_presence=0.5,
        verdict="kept" if kept else "not kept",
    )


def entries_of(
    home: Path, *prompts: str, file: str = "a.wav", kept: float = 0.25
) -> list[PageEntry]:
    """Save what is explained of a recording, in folders 0, 1, ... of its own."""
    results = [interpretation(prompt, kept) for prompt in prompts]
    for number, one in enumerate(results):
        one.save(home / f"{number} é%")
    save_audio(home / "input.wav", results[0].input, RATE)
    masks = {
        f"{number} é%": None if one.empty else one.mask
        for number, one in enumerate(results)
    }
    write_page_data(home, results[0].stft, masks)
    return [
        PageEntry(file, home / name, one.to_dict())
        for name, one in zip(masks, results, strict=True)
    ]


EVENT = {
    "start": 0.25,
    "stop": 0.5,
    "low_hz": 300.4,
    "high_hz": 2999.6,
    "similarity": -0.5,
    "presence": 0.9876,
    "mass": 0.5,
}


def test_every_link_leads_to_a_file_within_the_folder(tmp_path: Path) -> None:
    """Links are relative, exist, and survive odd names; all tags are closed."""
    home = tmp_path / "out" / "my file #1"
    entries = entries_of(home, "dog", "rain & <wind> 100%#?")
    page = Page(path := write_page(tmp_path / "out", entries))
    assert not page.open
    files = [link for link in page.links if not link.startswith("#")]
    assert len(files) == 2 + 2 * 2 + 1 + 3 * 2 + 1 + 5 * 2
    for link in files:
        assert not re.match(r"[a-z]+:|/|\.\.", link)
        assert (path.parent / unquote(link)).is_file()


def test_labels_and_tabs_lead_somewhere(tmp_path: Path) -> None:
    """Ids are unique, and whatever is referred to exists."""
    entries = [
        *entries_of(tmp_path / "a", "dog", "cat"),
        *entries_of(tmp_path / "b", "dog", file="b.wav"),
    ]
    page = Page(write_page(tmp_path, entries))
    assert len(page.ids) == len(set(page.ids))
    assert page.references and set(page.references) <= set(page.ids)
    unnamed = [
        given
        for tag, given in page.attributes
        if tag == "canvas" and not given.get("aria-label")
    ]
    assert unnamed == []


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    """Nothing is loaded from elsewhere, whether or not it is a single file."""
    for single in (True, False):
        page = write_page(tmp_path, entries_of(tmp_path / "a", "dog"), single)
        text = page.read_text("utf-8")
        assert "http:" not in text and "https:" not in text
        assert "@import" not in text and "url(" not in text


def test_a_single_file_refers_to_no_other(tmp_path: Path) -> None:
    """All data are in it, one element a recording, and are those of the scripts."""
    entries = [
        *entries_of(tmp_path / "a", "dog", "</script>"),
        *entries_of(tmp_path / "b", "dog", file="b.wav"),
    ]
    path = write_page(tmp_path, entries, single_file=True)
    page = Page(path)
    assert not page.open and page.links == []
    found = re.findall(
        r'<script type="application/json" id="data-(\d)">(.*?)</script>',
        path.read_text("utf-8"),
    )
    assert [number for number, _ in found] == ["1", "2"]
    for (_, data), home in zip(found, ("a", "b"), strict=True):
        script = (tmp_path / home / "page_data.js").read_text()
        assert json.loads(data) == json.loads(script.split("(", 1)[1].rstrip(");\n"))


def test_texts_are_escaped(tmp_path: Path) -> None:
    """A prompt or file that looks like markup is shown, not obeyed."""
    plain = Page(write_page(tmp_path, entries_of(tmp_path / "b", "dog")))
    bad = '"><script>alert(1)</script>'
    page = Page(write_page(tmp_path, entries_of(tmp_path / "a", bad, file=bad)))
    assert page.tags.count("script") == plain.tags.count("script")
    assert page.texts.count(bad) == 3  # the heading, the tab and the table


def test_title_has_count_model_and_date(tmp_path: Path) -> None:
    """In the tab of the browser and above the page."""
    entries = entries_of(tmp_path / "a", "dog", "cat")
    page = Page(write_page(tmp_path, entries, date=DATE))
    assert "2 explanations · tiny · 2026-11-05" in page.texts
    assert "2 explanations of 1 recording · model tiny ·" in page.texts
    page = Page(write_page(tmp_path, entries[:1], date=DATE))
    assert "1 explanation · tiny · 2026-11-05" in page.texts


def test_numbers_stand_in_the_table(tmp_path: Path) -> None:
    """Every prompt has a row with its verdict and its numbers."""
    path = write_page(tmp_path, entries_of(tmp_path / "a", "dog"))
    assert Page(path).cells() == [
        ["Prompt", "Input", "Explan\u00adation", "Residual", "Mean mask", "Mel area"],
        ["dog kept", "97.5 % 0.500", "99.6 % 0.125", "50.0 % −0.250", *2 * ["0.250"]],
    ]
    text = " ".join(Page(path).texts)
    assert "“dog”: kept, ahead of 97.5 % of the reference prompts." in text
    assert f"That is: {MEANINGS['kept']}." in text


def test_a_mask_that_keeps_everything_is_called_that(tmp_path: Path) -> None:
    """It says little about where."""
    for kept in (0.25, 0.95):
        entries = entries_of(tmp_path / "a", "dog", kept=kept)
        text = " ".join(Page(write_page(tmp_path, entries)).texts)
        assert ("keeps nearly everything" in text) == (kept > 0.9)


def test_warnings_stand_by_their_prompt(tmp_path: Path) -> None:
    """Escaped, as all texts."""
    (one,) = entries_of(tmp_path / "a", "dog")
    one = replace(one, record={**one.record, "warnings": ["<b>what</b>"]})
    assert "Note: <b>what</b>" in Page(write_page(tmp_path, [one])).texts


def test_numbers_that_were_not_computed_are_dashes(tmp_path: Path) -> None:
    """Without verification numbers and verdict are missing, and the page says so."""
    (one,) = entries_of(tmp_path / "a", "dog")
    missing = {"masked_similarity": None, "masked_presence": None, "verdict": None}
    one = replace(one, record={**one.record, **missing})
    page = Page(write_page(tmp_path, [one]))
    assert page.cells()[1][:3] == ["dog not verified", "97.5 % 0.500", "– –"]


def test_empty_explanations_are_not_played(tmp_path: Path) -> None:
    """A sentence stands for the picture and the sound of silence."""
    path = write_page(tmp_path, entries_of(tmp_path / "a", "siren", kept=0.0))
    page = Page(path)
    assert not page.open
    assert "“siren”: nothing of it in this recording (empty mask)" in page.texts
    assert page.cells()[1] == [
        *("siren not kept", "97.5 % 0.500", "nothing", "50.0 % −0.250", "0.000"),
        "0.000",
    ]
    assert "strip" not in [given.get("class") for _, given in page.attributes]
    assert page.tags.count("audio") == 1 and "img" not in page.tags
    for link in page.links:
        assert "explanation" not in link and "residual" not in link


def test_events_are_boxes_and_rows(tmp_path: Path) -> None:
    """Each can be found in the picture and in a table; without any, no table."""
    entries = entries_of(tmp_path / "a", "dog", "cat")
    page = Page(write_page(tmp_path, entries))
    assert page.tags.count("table") == 1
    entries[1] = replace(entries[1], events=[EVENT, {**EVENT, "presence": None}])
    page = Page(write_page(tmp_path, entries))
    assert page.cells(1) == [
        ["Event", "Time (s)", "Band (Hz)", "Presence", "Similarity"],
        ["▶ cat", "0.25 – 0.50", "300 – 3000", "98.8 %", "−0.500"],
        ["▶ cat", "0.25 – 0.50", "300 – 3000", "–", "−0.500"],
    ]
    boxes = [given for _, given in page.attributes if given.get("class") == "box"]
    assert len(boxes) == 2
    assert boxes[0]["data-start"] == "0.25" and boxes[0]["data-high"] == "2999.6"
    assert boxes[0]["aria-label"] == "Play the event of “cat” from 0.25 to 0.50 s"


def test_recordings_are_grouped(tmp_path: Path) -> None:
    """Two recordings of one name in two folders stay two, in the order given."""
    entries = [
        *entries_of(tmp_path / "one", "dog", "cat"),
        *entries_of(tmp_path / "two", "dog"),
    ]
    page = Page(write_page(tmp_path, entries))
    assert page.tags.count("h2") == 2 and page.tags.count("table") == 2
    assert [g["role"] for _, g in page.attributes if "role" in g].count("tab") == 3


def test_many_recordings_have_contents(tmp_path: Path) -> None:
    """From four on there is a list, which leads to each."""
    entries: list[PageEntry] = []
    for number in range(4):
        assert "nav" not in Page(write_page(tmp_path, entries)).tags
        entries += entries_of(tmp_path / str(number), "dog", file=f"{number}.wav")
    page = Page(write_page(tmp_path, entries))
    leads = [link for link in page.links if link.startswith("#")]
    assert leads == ["#r1", "#r2", "#r3", "#r4"]
    assert {link[1:] for link in leads} <= set(page.ids)


def test_a_page_of_nothing_is_a_page(tmp_path: Path) -> None:
    """No entries, no sections, still well-formed."""
    page = Page(write_page(tmp_path / "new", []))
    assert not page.open and "h2" not in page.tags


def overview_of(home: Path, entries: list[PageEntry]) -> PageOverview:
    """A whole recording with an event of each explanation."""
    home.mkdir(parents=True, exist_ok=True)
    track = LevelTrack(RATE)
    track.add(np.ones(RATE, np.float32))
    write_overview(home, torch.ones(256, 9), RATE, 65.0, track.levels())
    events = [
        ({**EVENT, "prompt": one.record["prompt"]}, one.folder) for one in entries
    ]
    return PageOverview("all.wav", home, home / "../all.wav", 65.0, events, ["<odd>"])


def test_an_overview_leads_to_its_events(tmp_path: Path) -> None:
    """Each has a box, and a row with its verdict that leads to its section."""
    home = tmp_path / "all.events"
    entries = [
        *entries_of(home / "1", "dog", file="one"),
        *entries_of(home / "2", "cat", file="two", kept=0.0),
    ]
    whole = overview_of(home, entries)
    page = Page(write_page(tmp_path, [whole, *entries], name="events.html"))
    assert not page.open and "nav" not in page.tags
    assert "2 events · tiny" in " ".join(page.texts)
    assert "2 events of 1 recording · model tiny ·" in page.texts
    assert "Note: <odd>" in page.texts and "65.0 s" in page.texts
    assert page.cells(0)[1:] == [
        ["▶ dog kept", "0.25 – 0.50", "300 – 3000", "98.8 %", "−0.500"],
        ["▶ cat not kept", "0.25 – 0.50", "300 – 3000", "98.8 %", "−0.500"],
    ]
    leads = [link for link in page.links if link.startswith("#")]
    assert leads == ["#r2", "#r3", "#r1", "#r1"]
    given = [one for _, one in page.attributes if one.get("data-input")]
    assert given[0]["data-input"] == "all.wav"
    assert len([one for _, one in page.attributes if one.get("class") == "box"]) == 2
    long = replace(whole, seconds=3723.0)
    page = Page(write_page(tmp_path, [long, *entries]))
    assert page.cells(0)[0][1] == "Time" and "1:02:03.0" in page.texts
    assert page.cells(0)[1][1] == "00:00.2 – 00:00.5"
    empty = Page(write_page(tmp_path, [overview_of(home, [])]))
    assert "No prompt is an event in this recording." in empty.texts
    several = [whole, *entries, overview_of(tmp_path / "b.events", [])]
    page = Page(write_page(tmp_path, several))
    assert page.tags.count("nav") == 1 and "2 events of 2 recordings" in str(page.texts)


def test_a_single_file_takes_what_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sections in their order; the page says how many are without."""
    entries = [
        one
        for name in "abc"
        for one in entries_of(tmp_path / name, "dog", file=f"{name}.wav")
    ]
    size = (tmp_path / "a" / "page_data.js").stat().st_size
    for most, left in ((3 * size, 0), (3 * size - 1, 1), (size - 1, 3)):
        monkeypatch.setattr(html, "SINGLE_FILE_BYTES", most)
        page = write_page(tmp_path, entries, single_file=True)
        text = page.read_text("utf-8")
        assert text.count('id="data-') == 3 - left
        assert ("no picture and no sound here" in text) == bool(left)
        assert (f"The last {left} sections have" in text) == (left > 1)
