"""The page in a browser: it draws, plays, seeks and switches, from disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from torch import Tensor

from lmaczs.audio.io import save_audio
from lmaczs.explanation import Interpretation
from lmaczs.report import html
from lmaczs.report.html import PageEntry, PageOverview, write_page
from lmaczs.report.level_track import LevelTrack
from lmaczs.report.page_data import write_overview, write_page_data

RATE, N_FFT, HOP, SECONDS = 16000, 512, 160, 4.0
MINUTE = 60.0  # seconds; long enough for whatever is tried while it is played
LOW, HIGH = 500, 3000  # Hz, of the tone that is kept and of the one that is left
CHROMIUM = os.environ.get("LMACZS_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="no Chromium: install one, or name it in LMACZS_CHROMIUM",
    ),
]
LISTEN = """
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...rest) {
  if (!(to instanceof AudioDestinationNode)) return connect.call(this, to, ...rest);
  if (!window.ear) {
    const exact = { fftSize: 4096, smoothingTimeConstant: 0 };
    window.ear = new AnalyserNode(to.context, exact);
    connect.call(window.ear, to);
  }
  return connect.call(this, window.ear);
};
window.levelAt = (hertz) => {
  const bins = new Float32Array(window.ear.frequencyBinCount);
  window.ear.getFloatFrequencyData(bins);
  const bin = Math.round(hertz / window.ear.context.sampleRate * 4096);
  return Math.max(...bins.slice(bin - 2, bin + 3));
};
"""
DIGEST = "(canvas) => canvas.toDataURL()"


def tone(hertz: float, peak: float, seconds: float = SECONDS) -> Tensor:
    """A sine."""
    time = torch.arange(int(RATE * seconds)) / RATE
    return peak * torch.sin(2 * torch.pi * hertz * time)


def interpretation(prompt: str, kept: Tensor, left: Tensor) -> Interpretation:
    """What a mask of the lower half makes of two tones."""
    window = torch.hann_window(N_FFT)
    stft = torch.stft(kept + left, N_FFT, HOP, window=window, return_complex=True)
    mask = torch.zeros(stft.shape)
    mask[: 48 if left.any() else None] = float(kept.any())
    scores = {"presence": 0.99, "masked_presence": 0.99, "residual_presence": 0.1}
    return Interpretation(
        *(prompt, stft, kept, left, mask, RATE, 0.5, 0.6, 0.1, HOP),
        model="tiny",
        verdict="kept",
        **scores,
    )


def recording(home: Path, seconds: float = SECONDS) -> list[PageEntry]:
    """Two tones, of which one prompt keeps the lower, one both, and one none."""
    low, high = tone(LOW, 0.05, seconds), tone(HIGH, 0.4, seconds)
    results = {
        "low": interpretation("the low tone", low, high),
        "all": interpretation("both", low + high, 0 * high),
        "none": interpretation("a siren", 0 * low, low + high),
    }
    for name, one in results.items():
        one.save(home / name)
    save_audio(home / "input.wav", low + high, RATE)
    masks = {name: None if one.empty else one.mask for name, one in results.items()}
    write_page_data(home, results["low"].stft, masks)
    band = {"low_hz": 400, "high_hz": 600, "similarity": 0.5, "presence": 0.99}
    events = [
        {"start": 1.0, "stop": 1.4, **band},
        {"start": 3.0, "stop": 3.5, **band},
    ]
    return [
        PageEntry(f"{home.name}.wav", home / name, one.to_dict(), events * (not number))
        for number, (name, one) in enumerate(results.items())
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two recordings and a longer one, and a single file of it elsewhere."""
    out = tmp_path_factory.mktemp("out é #1")
    entries = [*recording(out / "one"), *recording(out / "two")]
    entries += recording(out / "three", MINUTE)
    mailed = write_page(out, entries, single_file=True)
    (out.parent / "mailed").mkdir()
    mailed.rename(out.parent / "mailed" / "page.html")
    write_page(out, entries)
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    with sync_playwright() as tools:
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        launched = tools.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


def opened(
    browser: Browser, path: Path, width: int = 1400, theme: str = "light"
) -> Page:
    """Open a page in a new profile; what goes wrong in it is in `page.problems`."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=theme,  # type: ignore[arg-type]
        offline=True,
    )
    context.set_default_timeout(300_000)  # milliseconds, for a busy machine
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: (
            problems.append(message.text)
            if message.type in ("error", "warning")
            else None
        ),
    )
    page.problems = problems  # type: ignore[attr-defined]
    page.add_init_script(LISTEN)
    page.goto(path.as_uri())
    page.wait_for_selector("#r1[data-ready]")
    return page


@pytest.fixture(params=["folder", "mailed"])
def page(
    request: pytest.FixtureRequest, browser: Browser, folder: Path
) -> Iterator[Page]:
    """The page with its folder, and the single file without; neither complains."""
    paths = {
        "folder": folder / "index.html",
        "mailed": folder.parent / "mailed" / "page.html",
    }
    one = opened(browser, paths[request.param])
    yield one
    assert one.problems == []  # type: ignore[attr-defined]
    assert not one.locator(".problem").first.is_visible()
    one.context.close()


def position(page: Page, section: str = "#r1") -> float:
    """Seconds, as a recording's seek bar has them."""
    return float(page.locator(f"{section} .seek").input_value())


def reach(page: Page, seconds: float, section: str = "#r1") -> None:
    """Wait until the position is beyond."""
    place = f"document.querySelector('{section} .seek').value"
    page.wait_for_function(f"{place} > {seconds}")


def shown(page: Page, section: str) -> Locator:
    """A recording's section, when it is loaded."""
    page.locator(section).scroll_into_view_if_needed()
    page.wait_for_selector(f"{section}[data-ready]")
    return page.locator(section)


def play(page: Page, section: str) -> Locator:
    """Play a recording, until the position moves; its section."""
    found = shown(page, section)
    found.locator(".play").click()
    reach(page, 0.3, section)
    return found


def hear(page: Page, low: bool, high: bool) -> None:
    """Wait until the low and the high tone are in what is played, or are not."""
    page.wait_for_function(
        f"([low, high]) => levelAt({LOW}) > -60 === low "
        f"&& levelAt({HIGH}) > -60 === high",
        arg=[low, high],
    )


def test_sounds_are_played_in_step(page: Page) -> None:
    """Input, explanation and residual, switched while playing, are what they should."""
    section = play(page, "#r3")
    hear(page, True, True)
    section.get_by_role("radio", name="Explanation").check()
    hear(page, True, False)
    page.keyboard.press("3")
    hear(page, False, True)
    before = position(page, "#r3")
    page.keyboard.press("1")
    hear(page, True, True)
    assert position(page, "#r3") > before
    page.keyboard.press(" ")
    stopped = position(page, "#r3")
    page.wait_for_timeout(200)
    assert position(page, "#r3") == stopped


def test_the_end_is_the_end(page: Page) -> None:
    """Playing stops there, and starts from the beginning again."""
    section = shown(page, "#r3")
    section.locator(".seek").fill(str(MINUTE - 0.2))
    button = section.locator(".play")
    play_event(page, button.click, "#r3 .play[aria-label=Pause]")
    assert position(page, "#r3") == MINUTE
    button.click()
    place = "document.querySelector('#r3 .seek').value"
    page.wait_for_function(f"{place} > 0 && {place} < {MINUTE / 2}")


def test_seeking_moves_sound_and_cursor(page: Page) -> None:
    """By the bar, by a click in the picture and by the arrow keys."""
    page.locator("#r1 .seek").fill("2")
    cursor = "parseFloat(document.querySelector('#r1 .cursor').style.left)"
    assert page.evaluate(cursor) == 50
    box = page.locator("#r1 .plot").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + box["height"] - 20)
    assert position(page) == pytest.approx(1, abs=0.02)
    page.keyboard.press("ArrowRight")
    assert position(page) == pytest.approx(1.5, abs=0.02)


def test_one_recording_plays_at_a_time(page: Page) -> None:
    """Playing another one pauses the first."""
    button = play(page, "#r3").locator(".play")
    assert button.get_attribute("aria-label") == "Pause"
    play(page, "#r2")
    assert button.get_attribute("aria-label") == "Play"
    assert position(page, "#r3") < MINUTE


def test_picture_follows_slider_axis_and_zoom(page: Page) -> None:
    """Each changes what is drawn; undone, it is as before."""
    canvas = page.locator("#r1 .plot canvas")
    first = canvas.evaluate(DIGEST)
    page.locator("#r1 .fade").fill("0")
    assert canvas.evaluate(DIGEST) != first
    page.locator("#r1 .fade").fill("0.75")
    assert canvas.evaluate(DIGEST) == first
    for act, undo in (("a", "a"), ("+", "-")):
        page.keyboard.press(act)
        assert canvas.evaluate(DIGEST) != first
        page.keyboard.press(undo)
        assert canvas.evaluate(DIGEST) == first


def test_tabs_choose_the_prompt(page: Page) -> None:
    """Panel, picture and sounds change; an empty one can only be heard as the input."""
    canvas = page.locator("#r1 .plot canvas")
    first = canvas.evaluate(DIGEST)
    tabs = page.locator("#r1 [role=tab]")
    tabs.nth(0).focus()
    page.keyboard.press("ArrowRight")
    assert tabs.nth(1).get_attribute("aria-selected") == "true"
    assert page.locator("#r1 .panel").nth(1).is_visible()
    assert not page.locator("#r1 .panel").nth(0).is_visible()
    assert canvas.evaluate(DIGEST) != first
    page.get_by_role("radio", name="Residual").first.check()
    assert "silence" in page.locator("#r1 [data-sound=residual]").inner_text()
    tabs.nth(2).click()
    assert page.get_by_role("radio", name="Explanation").first.is_disabled()
    assert page.get_by_role("radio", name="Input").first.is_checked()
    page.keyboard.press("[")
    page.keyboard.press("[")
    assert canvas.evaluate(DIGEST) == first


def test_levels_are_true_unless_they_are_raised(page: Page) -> None:
    """The meter has the peak; raised, a quiet sound is louder by what is written."""
    label = shown(page, "#r3").locator("[data-sound=explanation] .level")
    assert label.inner_text() == "peak −26.0 dB"
    page.locator("#r3 [data-sound=explanation] input").check()
    play(page, "#r3")
    reach(page, 0.7, "#r3")  # longer than the ear's window
    quiet = page.evaluate(f"levelAt({LOW})")
    page.keyboard.press("r")
    assert label.inner_text() == "peak −1.0 dB (+25.0)"
    page.wait_for_function(f"Math.abs(levelAt({LOW}) - {quiet} - 25) < 1")
    page.keyboard.press("r")
    assert label.inner_text() == "peak −26.0 dB"


def play_event(page: Page, start: Callable[[], object], sign: str) -> None:
    """Start an event, and wait until the one sign of playing has come and gone."""
    # noted by the page: a short event may be over before a busy machine looks for it
    page.evaluate(
        """sign => {
          window.seen = 0
          new MutationObserver(() => {
            const count = document.querySelectorAll(sign).length
            window.seen = Math.max(window.seen, count)
          }).observe(document.body, {subtree: true, attributes: true})
        }""",
        sign,
    )
    start()
    page.wait_for_function("window.seen")
    page.wait_for_selector(sign, state="detached")
    assert page.evaluate("window.seen") == 1


def test_events_are_played_from_box_and_table(page: Page) -> None:
    """Each stretch ends where the event ends; the box lies where the event is."""
    box = page.locator("#r1 .box").first.bounding_box()
    plot = page.locator("#r1 .plot").bounding_box()
    assert box is not None and plot is not None
    left = (box["x"] - plot["x"]) / plot["width"]
    assert left == pytest.approx(1.0 / SECONDS, abs=0.01)
    row = page.locator("#r1 .events tbody tr").nth(1)
    play_event(page, row.click, "#r1:has(.events tr.playing) .box.playing")
    assert position(page) == pytest.approx(3.5, abs=0.05)
    play_event(page, page.locator("#r1 .box").first.click, "#r1 .box.playing")
    assert position(page) == pytest.approx(1.4, abs=0.05)


def test_a_key_plays_one_event_after_another(page: Page) -> None:
    """Also where the one before has ended; after the last the first."""
    page.locator("#r1 h2").click()
    for stop in (1.4, 3.5, 1.4):
        play_event(page, lambda: page.keyboard.press("e"), "#r1 .box.playing")
        assert position(page) == pytest.approx(stop, abs=0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_runs_over_the_edge(
    browser: Browser, folder: Path, width: int, theme: str
) -> None:
    """No width of a screen is exceeded, nor do words break into letters."""
    page = opened(browser, folder / "index.html", width, theme)
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) <= width
    player = page.locator("#r1 .player").bounding_box()
    assert player is not None
    for table in page.locator("#r1 table").all():
        box = table.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= player["x"] + player["width"] + 0.5
    for cell in page.locator("#r1 .numbers th[scope=row]").all():
        box = cell.bounding_box()
        assert box is not None and box["height"] < 90
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    assert (sum(map(int, dark[4:-1].split(","))) < 300) == (theme == "dark")
    page.keyboard.press("t")
    assert page.evaluate(paper) != dark
    assert page.problems == []  # type: ignore[attr-defined]
    page.context.close()


def test_words_may_be_longer_than_a_screen(browser: Browser, tmp_path: Path) -> None:
    """Prompts that are names of recordings, say, and names of recordings."""
    word = "north_meadow" * 10
    entries = [
        replace(one, file=f"{word}.wav", record={**one.record, "prompt": word})
        for one in recording(tmp_path / "one")
    ]
    page = opened(browser, write_page(tmp_path, entries), 390)
    assert page.locator("#r1 .events tbody tr").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.context.close()


def test_pictures_are_described(browser: Browser, folder: Path) -> None:
    """The alternative text says where most of what a mask keeps lies."""
    page = opened(browser, folder / "index.html")
    text = page.locator("#r1 .plot canvas").get_attribute("aria-label")
    assert text is not None
    assert "Spectrogram of one.wav, 4.0 seconds, up to 8 kHz" in text
    assert (
        "mask of “the low tone”: most of what it keeps lies from 0.2 to 3.8 s" in text
    )
    page.context.close()


def test_a_page_without_its_folder_says_so(
    browser: Browser, folder: Path, tmp_path: Path
) -> None:
    """One sentence with the file and how to fix it."""
    page = browser.new_page()
    alone = shutil.copy(folder / "index.html", tmp_path)
    page.goto(Path(alone).as_uri())
    problem = page.locator("#r1 .problem")
    problem.wait_for()
    assert problem.inner_text() == (
        "The file one/page_data.js is missing: keep the page with its folder, "
        "or write it with --single-file."
    )
    page.close()


def test_a_page_without_scripts_has_pictures_and_players(
    browser: Browser, folder: Path
) -> None:
    """The sounds are files that the browser plays."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "index.html").as_uri())
    assert page.locator("#r1 audio").count() == 1 + 2 * 2
    assert page.locator("#r1 img").count() == 2
    context.close()


def test_long_recordings_are_played_from_their_files(
    browser: Browser, tmp_path: Path
) -> None:
    """Above ten minutes: it plays and seeks, but cannot be raised, nor be sent."""
    entries = recording(tmp_path / "long", seconds=601)
    page = opened(browser, write_page(tmp_path, entries))
    page.locator("#r1 .seek").fill("300")
    page.locator("#r1 .play").click()
    reach(page, 300.3)
    page.keyboard.press("2")
    reach(page, 300.8)
    assert position(page) < 360
    assert page.locator("#r1 .raise").is_disabled()
    assert page.problems == []  # type: ignore[attr-defined]
    page.context.close()
    page = opened(browser, write_page(tmp_path, entries, single_file=True))
    assert "too long for a single file" in page.locator("#r1 .problem").inner_text()
    assert page.locator("#r1 .play").is_disabled()
    page.context.close()


def scanned(out: Path) -> list[PageEntry | PageOverview]:
    """A recording of eight seconds with an event of each of two prompts."""
    sound = torch.cat([tone(LOW, 0.05), tone(HIGH, 0.4)])
    path = save_audio(out.parent / "sounds" / "meadow é.wav", sound, RATE)
    home, columns = out / "meadow.events", 501
    home.mkdir()
    power = torch.rand(256, columns, generator=torch.Generator().manual_seed(0))
    track = LevelTrack(RATE)
    track.add(sound.numpy())
    write_overview(home, power, RATE, 2 * SECONDS, track.levels())
    band = {"low_hz": 400, "high_hz": 600, "similarity": 0.5, "presence": 0.99}
    entries: list[PageEntry | PageOverview] = []
    events = []
    for number, start in ((1, 1.0), (2, 5.0)):
        low = recording(home / f"{number:04d}")[0]
        event = {
            "start": start,
            "stop": start + 0.5,
            "prompt": f"tone {number}",
            **band,
        }
        events.append((event, low.folder))
        entries.append(replace(low, file=f"event {number}", events=low.events[:1]))
    whole = PageOverview("meadow é.wav", home, path, 2 * SECONDS, events, ["a note"])
    return [whole, *entries]


def test_a_scan_is_seen_whole_and_event_by_event(
    browser: Browser, tmp_path: Path
) -> None:
    """Events play in the recording, from box and table; their times lead to them."""
    (out := tmp_path / "out").mkdir()
    page = opened(browser, write_page(out, scanned(out), name="events.html"))
    assert page.locator("#r1 .box").count() == 2
    assert page.locator("nav").count() == 0
    assert page.get_by_text("2 events of 1 recording").is_visible()
    assert page.get_by_text("Note: a note").is_visible()
    box = page.locator("#r1 .box").nth(1).bounding_box()
    plot = page.locator("#r1 .plot").bounding_box()
    assert box is not None and plot is not None
    left = (box["x"] - plot["x"]) / plot["width"]
    assert left == pytest.approx(5 / 8, abs=0.01)
    row = page.locator("#r1 .events tbody tr").nth(1)
    play_event(page, row.click, "#r1:has(.events tr.playing) .box.playing")
    assert position(page) == pytest.approx(5.5, abs=0.1)
    play_event(page, page.locator("#r1 .box").first.click, "#r1 .box.playing")
    assert position(page) == pytest.approx(1.5, abs=0.1)
    page.locator("#r1 .play").click()
    reach(page, 1.8)
    page.keyboard.press(" ")
    page.locator("#r1 .events a").nth(1).click()
    assert page.url.endswith("#r3")
    page.wait_for_selector("#r3[data-ready]")
    assert page.problems == []  # type: ignore[attr-defined]
    page.context.close()


def test_a_browser_may_read_less_of_a_recording(
    browser: Browser, tmp_path: Path
) -> None:
    """Where its sound ends, playing ends; it starts again from there on."""
    (out := tmp_path / "out").mkdir()
    entries = scanned(out)
    assert isinstance(entries[0], PageOverview)
    save_audio(entries[0].sound, tone(LOW, 0.05), RATE)  # half of it
    page = opened(browser, write_page(out, entries, name="events.html"))
    for start in ("3.5", "3"):
        page.locator("#r1 .seek").fill(start)
        page.locator("#r1 .play").click()
        page.wait_for_function(f"document.querySelector('#r1 .seek').value > {start}")
        page.wait_for_selector("#r1 .play[aria-label=Play]")
    assert page.problems == []  # type: ignore[attr-defined]
    page.context.close()


@pytest.mark.parametrize("lost", [False, True])
def test_events_play_alone_where_the_recording_cannot(
    browser: Browser, tmp_path: Path, lost: bool
) -> None:
    """In a file that was mailed, and where the recording was moved away."""
    (out := tmp_path / "out").mkdir()
    entries = scanned(out)
    path = write_page(out, entries, single_file=not lost, name="events.html")
    if lost:
        assert isinstance(entries[0], PageOverview)
        entries[0].sound.unlink()
    else:
        path = path.rename(tmp_path / "mailed.html")
    page = opened(browser, path)
    row = page.locator("#r1 .events tbody tr").nth(1)
    play_event(page, row.click, "#r3 .events tr.playing")
    assert float(page.locator("#r3 .seek").input_value()) == pytest.approx(1.4, abs=0.1)
    problem = page.locator("#r1 .problem").inner_text()
    assert (
        "meadow é.wav cannot be played" if lost else "is not in this file"
    ) in problem
    assert page.locator("#r1 .play").is_disabled()
    page.context.close()


def test_a_single_file_is_not_larger_than_it_says(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit is left out, and both the page and the section say so."""
    entries = [*recording(tmp_path / "one"), *recording(tmp_path / "two")]
    size = (tmp_path / "one" / "page_data.js").stat().st_size
    monkeypatch.setattr(html, "SINGLE_FILE_BYTES", round(1.5 * size))
    path = write_page(tmp_path, entries, single_file=True)
    assert path.stat().st_size < 1.6 * size + 200_000
    page = opened(browser, path)
    assert page.get_by_text("The last section has no picture").is_visible()
    page.locator("#r2").scroll_into_view_if_needed()
    page.locator("#r2 .problem").wait_for()
    assert "This file is full" in page.locator("#r2 .problem").inner_text()
    assert page.problems == []  # type: ignore[attr-defined]
    page.context.close()
